"""Short commands run by a process of the daemon's that has every module loaded: most of their time is loading."""
