"""RAG ingestion as Dagster assets: from source documents to Milvus collections that match PostgreSQL."""
