"""The Kubernetes API: client, caches, lease, and the reads and writes of our objects.

May import: decide, for its types; the only room with the `kubernetes` client.
Never: decides.
"""
