"""Comparison of PostgreSQL, Parquet and Milvus; findings as data. No Dagster."""
