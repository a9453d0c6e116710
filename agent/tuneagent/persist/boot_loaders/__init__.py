"""Ways to boot, one file each, found by scanning: what the next boot's kernel line is, and how it is changed.

May import: what persist may.
Never: each other.
"""
