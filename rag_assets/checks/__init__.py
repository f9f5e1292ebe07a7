"""Asset checks, one file a checked asset."""
