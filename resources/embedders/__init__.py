"""Embedders: text to dense, sparse and multi-vector representations."""
