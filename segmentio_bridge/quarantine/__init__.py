"""An opt-in app that keeps the events which were rejected or failed, to look at and to release."""
