"""One pass's picture of a host: each file and each answer of NVML is read once.

May import: topology, gpu, host, formats, contracts.
Never: judges, writes.
"""
