"""Tables of rows that a tunable in the room above reads.

May import: contracts.
Never: code.
"""
