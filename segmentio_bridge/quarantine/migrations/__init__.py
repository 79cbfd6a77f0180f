"""The history of the quarantine's table."""
