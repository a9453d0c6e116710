"""The daemon: a pass, the loop on a bare host, the agent of a cluster node, confirmation, reboot, metrics.

May import: engine and what is below it.
Never: writes a setting past the engine.
"""
