"""Files under a root, programs, processes, signals, sockets: the only room that touches the operating system.

May import: formats, contracts.
Never: knows what a setting means.
"""
