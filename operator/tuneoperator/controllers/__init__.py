"""The loop: queues, boundaries, and the actions that carry decisions out.

May import: kube, decide.
Never: decides.
"""
