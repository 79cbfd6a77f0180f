"""Segment's webhook deliveries into event-tracking, as a Django reusable app."""

__version__ = "1.0.0"
