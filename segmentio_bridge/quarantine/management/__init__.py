"""The management commands of the quarantine, and the values of their options."""
