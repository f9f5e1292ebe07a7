"""The private parts of Milvus Lite (3.2.2) that the embedded server needs. No other module here imports them.

- `adapter.grpc.servicer.MilvusServicer`: its gRPC service.
- `Collection._memtable.pk_index_snapshot()`: the rows in memory, by id.
- `search.filter.eval`: `evaluate_python`, which `array_filters` replaces, and `evaluate_hybrid`.
- `search.filter.ast`: the nodes `And`, `ArrayContainsOp`, `FieldRef`, `ListLit` and `StringLit`.
- Files of a collection: the logs `wal/*.arrow`, and the indexes in `partitions/*/indexes`.

`test_every_private_part_of_milvus_lite_exists` in tests/stores/test_embedded.py fails if an upgrade drops one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.search.filter import ast
from milvus_lite.search.filter import eval as evaluation

__all__ = ["MilvusServicer", "ast", "evaluation", "has_logs", "ids_in_memory", "index_files"]


def ids_in_memory(collection: Any) -> list[Any]:
    """Return the ids of the rows that are not flushed yet. After a start they are those replayed from a log."""
    return [row_id for row_id, _ in collection._memtable.pk_index_snapshot()]


def has_logs(data: Path) -> bool:
    """Return whether a write-ahead log remains below a data folder: rows that are not flushed."""
    return any(data.rglob("wal/*.arrow"))


def index_files(data: Path) -> list[Path]:
    """Return the index files of all segments below a data or collection folder."""
    return [file for folder in data.rglob("partitions/*/indexes") for file in folder.iterdir()]
