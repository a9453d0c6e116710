"""Profiles: the built-in ones, and parsing, checking, extending any other.

May import: formats, contracts.
Never: knows a tunable; their types are handed in.
"""
