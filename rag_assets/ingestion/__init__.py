"""The stages of ingestion, from source entries to rows in Milvus, and what keeps their files tidy. No Dagster."""
