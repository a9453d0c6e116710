"""What NVML says of the GPUs, and what is set through it, each in a short-lived child process; `mig/` is MIG alone.

May import: topology, host, formats, contracts. pynvml is loaded in the child only.
Never: keeps a GPU handle open, resets a GPU.
"""
