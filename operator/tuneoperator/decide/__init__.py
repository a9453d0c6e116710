"""Every decision about a fleet, as pure functions: acceptance, assignment, roll-out, ledger, reports.

May import: contracts, profile_files and the rules of tunables of the agent.
Never: reads a clock, calls an API.
"""
