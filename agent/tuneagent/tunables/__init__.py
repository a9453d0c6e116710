"""One file for each tunable, or table of like rows, found by its name; `base` says what a tunable is.

May import: checks, persist, facts; host and gpu are handed in.
Never: another tunable's file but for its spec.
"""
