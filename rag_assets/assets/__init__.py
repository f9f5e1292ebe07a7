"""Dagster assets: decorators, metadata and one call each."""
