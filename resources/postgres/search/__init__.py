"""Queries of a search, and its counts."""
