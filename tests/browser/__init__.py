"""The admin in a real browser, used as an operator uses it."""
