"""User models of kinds other than Django's own."""
