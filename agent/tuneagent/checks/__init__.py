"""Tables of rows that are reported and never written, by group.

May import: facts and what is below it.
Never: writes.
"""
