"""The quarantine's commands; each wraps a function of the app and reports what came of it."""
