"""What mypy makes of the package's public names."""
