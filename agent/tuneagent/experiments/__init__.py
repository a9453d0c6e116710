"""Experiments: is this host better with a profile? What a command says is measured with it and without it.

May import: everything below.
Never: statistics of its own; write anything but through the engine.
"""
