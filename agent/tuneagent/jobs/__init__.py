"""Starting a job next to its GPU.

May import: topology, gpu and what is below them.
Never: changes the host.
"""
