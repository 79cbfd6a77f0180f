"""The app's commands; each wraps a function of the package and reports what came of it."""
