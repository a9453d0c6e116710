"""What a value is after the next boot, and how it is made so: one file for each mechanism of the host.

May import: facts and what is below it.
Never: touches a file that is not ours.
"""
