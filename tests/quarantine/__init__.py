"""Tests of the quarantine, through the endpoint, the admin and the commands."""
