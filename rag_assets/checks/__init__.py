"""Dagster asset checks, made from findings."""
