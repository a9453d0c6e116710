"""Grammars of other people's files: text in, data out.

May import: contracts.
Never: opens a file, runs a program.
"""
