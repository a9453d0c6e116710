"""CPUs, caches, NUMA nodes, PCI devices and interrupts as one picture, and the CPU plan made from it.

May import: host, formats, contracts.
Never: writes.
"""
