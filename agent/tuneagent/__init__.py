"""Node side of tuneagent: reads, plans, writes, verifies and undoes the settings of one GPU node."""

__version__ = "0.1.0"
