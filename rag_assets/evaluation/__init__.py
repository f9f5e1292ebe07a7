"""Measurements of retrieval and of indexes, and their judgement. No Dagster."""
