"""Search: a typed request, candidates from Milvus, texts from PostgreSQL. No Dagster."""
