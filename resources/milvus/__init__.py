"""Milvus: the store of the vectors."""
