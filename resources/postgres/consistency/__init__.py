"""Queries of checks and repairs, and the table of check results."""
