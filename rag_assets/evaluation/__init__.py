"""Measures retrieval quality and indexes, and judges the results. No Dagster."""
