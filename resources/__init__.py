"""The world: what is configured, connected to, and can fail."""
