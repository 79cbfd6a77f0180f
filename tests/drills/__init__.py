"""What becomes of events while the parts of a site are killed and restarted under a running load.

`python -m tests.drills` plays it, counts and prints the table of docs/reliability.md.
"""
