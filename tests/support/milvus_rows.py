"""Rows of small vectors, which tests write to Milvus directly."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np

from resources.milvus.collections import Layout
from resources.milvus.rows import EVERYTHING, RowFields, Span
from resources.milvus.store import MilvusStore

HNSW = {"index_type": "HNSW", "metric_type": "IP", "params": {"M": 16, "efConstruction": 256}}
SPARSE_INDEX = {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP", "params": {}}
DENSE = Layout("dense", 8, HNSW)
SPARSE = Layout("sparse", 0, SPARSE_INDEX)
MULTI = Layout("multi", 8, HNSW)


def fields(
    count: int, *, source: str = "docs", fingerprint: str = "a", seed: int = 0
) -> list[RowFields]:
    random = np.random.default_rng(seed)
    return [
        RowFields(
            uuid.UUID(bytes=random.bytes(16)), fingerprint * 32, uuid.uuid4(), "folder", source, None, n, 1, "text",
            None, None, [],
        )
        for n in range(count)
    ]  # fmt: skip


def vectors(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def foreign(row_id: str, source: str = "docs", fingerprint: str = "x") -> dict[str, Any]:
    """A row that another program wrote."""
    return {
        "id": row_id, "vector": [1.0, *[0.0] * 7], "document_id": "", "source_type": "", "source": source,
        "language": "", "chunk_position": 0, "created_timestamp": 0, "row_fingerprint": fingerprint,
        "chunk_type": "", "author": "", "category": "", "tags": [],
    }  # fmt: skip


def scanned(store: MilvusStore, name: str, span: Span = EVERYTHING, where: str = "") -> list[str]:
    return [row_id for bucket in store.scan(name, span, where) for row_id, _ in bucket]
