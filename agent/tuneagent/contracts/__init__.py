"""Every object that crosses a process or a file, as types: profile, report, plan, journal record, capture manifest.

May import: errors alone.
Never: reads anything, decides anything.
"""
