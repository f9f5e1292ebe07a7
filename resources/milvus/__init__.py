"""Milvus: the vectors."""
