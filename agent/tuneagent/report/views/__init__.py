"""Views of a report for other programs, one file each: `as_NAME.py` defines `render` and is found by its name.

May import: what report may.
Never: each other.
"""
