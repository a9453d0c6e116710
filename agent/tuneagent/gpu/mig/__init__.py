"""MIG: what a board offers, which layouts fit and where, how instances are changed.

May import: contracts, errors; `read` and `change` run in the NVML child and import pynvml.
Never: touches an instance that the layout wanted keeps.
"""
