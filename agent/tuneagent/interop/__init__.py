"""Profiles of other programs, read into ours.

May import: tunables and what is below it.
Never: runs the other program.
"""
