"""Source types: each lists entries and fetches their contents."""
