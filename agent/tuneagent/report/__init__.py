"""Views of one report, plan or journal: text, JUnit, Prometheus, reference pages.

May import: engine, interop, share and what is below them, for their types.
Never: reads a host.
"""
