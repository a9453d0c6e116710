"""What leaves a host: captures, support bundles, comparisons, and the redaction that all of them pass.

May import: engine and what is below it.
Never: lets a value out that no filter knows.
"""
