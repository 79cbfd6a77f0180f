"""Stand-ins for the platform's app `track`, after what is known of how it behaves."""
