"""Observe, assess, plan, apply, undo, recover, and the journal; `HostTuner` is the one door for the rooms above.

May import: tunables and what is below it.
Never: knows who calls it, prints.
"""
