"""Embedders: text → dense, sparse and multi-vector representations."""
