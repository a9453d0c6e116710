"""The command line: options in, one call, one view out.

May import: every other room.
Never: logic.
"""
