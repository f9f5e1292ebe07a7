"""Source types: what can be listed and fetched."""
