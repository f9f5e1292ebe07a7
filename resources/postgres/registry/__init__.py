"""Tables of sources and their syncs."""
