"""One file per tunable, or per table of similar rows, found by its name; `base` defines what a tunable is.

May import: checks, persist, facts; host and gpu are handed in.
Never: another tunable's file, except for its spec.
"""
