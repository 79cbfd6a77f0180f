"""What becomes of mobile events behind the bridge: edx-event-routing-backends, for real."""
