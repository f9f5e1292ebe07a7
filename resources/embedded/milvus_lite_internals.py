"""The private parts of Milvus Lite (3.2.2) that the embedded server needs. No other module here imports them.

- `adapter.grpc.servicer.MilvusServicer`: its gRPC service.
- `Collection._memtable.pk_index_snapshot()`: the rows in memory, by id.
- `search.filter.eval`: `evaluate_python`, which `array_filters` replaces, and `evaluate_hybrid`.
- `search.filter.ast`: the nodes `And`, `ArrayContainsOp`, `FieldRef`, `ListLit` and `StringLit`.
- For `live_rows` and `fast_search`: the executors of searches (`engine.collection`: `execute_search_with_index`,
  `Collection._read_snapshot`, `_search_sparse`, `_compile_filter` and what these use), the methods that change
  `MemTable` and `DeltaIndex`, and the indexes. For `search_messages`: `servicer.build_search_result_data` and
  `translators.search._decode_placeholder_group`. `KNOWN_SEARCH` is the fingerprint of the code that they repeat.
- For `fast_upsert`: `servicer.fields_data_to_records`, `Collection.insert` and `upsert` and what these use,
  `MemTable._build_data_table`. `KNOWN_UPSERT` is the fingerprint of the code that it repeats.
- Files of a collection: the logs `wal/*.arrow`, and the indexes in `partitions/*/indexes`.

`test_every_private_part_of_milvus_lite_exists` in tests/stores/test_embedded.py fails if an upgrade drops one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import milvus_lite
from milvus_lite.adapter.grpc import servicer as grpc_servicer
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.adapter.grpc.translators import search as grpc_search
from milvus_lite.constants import ALL_PARTITIONS
from milvus_lite.engine import collection as engine_collection
from milvus_lite.engine.collection import Collection
from milvus_lite.engine.operation import InsertOp
from milvus_lite.engine.projection import build_projection_plan, project_record
from milvus_lite.index.brute_force import BruteForceIndex
from milvus_lite.index.faiss_hnsw import FaissHnswIndex
from milvus_lite.index.faiss_hnsw_sq import FaissHnswSqIndex
from milvus_lite.index.faiss_ivf_flat import FaissIvfFlatIndex, _l2_normalize
from milvus_lite.index.faiss_ivf_sq8 import FaissIvfSq8Index
from milvus_lite.schema.types import DataType
from milvus_lite.search.filter import ast, evaluate_mask
from milvus_lite.search.filter import eval as evaluation
from milvus_lite.search.filter.eval.python_backend import _eval_row
from milvus_lite.search.indexed_filter import evaluate_segment_filter
from milvus_lite.storage.delta_index import DeltaIndex
from milvus_lite.storage.memtable import MemTable
from pymilvus.grpc_gen import schema_pb2

__all__ = [
    "ALL_PARTITIONS",
    "FAISS_INDEXES",
    "IVF_INDEXES",
    "KNOWN_SEARCH",
    "KNOWN_UPSERT",
    "BruteForceIndex",
    "Collection",
    "DataType",
    "DeltaIndex",
    "InsertOp",
    "MemTable",
    "MilvusServicer",
    "ast",
    "build_projection_plan",
    "engine_collection",
    "evaluate_mask",
    "evaluate_row",
    "evaluate_segment_filter",
    "evaluation",
    "fingerprint",
    "has_logs",
    "ids_in_memory",
    "index_files",
    "normalize",
    "project_record",
    "schema_pb2",
    "search_translator",
    "servicer",
]

#: The fingerprints of Milvus Lite 3.2.2.
KNOWN_SEARCH, KNOWN_UPSERT = "1971388ccc27dc67", "d7d84b540ccdb3b2"

#: Below `milvus_lite`: all code whose behaviour `live_rows`, `fast_search` and `search_messages` repeat, or on whose
#: data they rely.
SEARCH_CODE = (
    "adapter/grpc/servicer.py",
    "adapter/grpc/translators/records.py",
    "adapter/grpc/translators/result.py",
    "adapter/grpc/translators/search.py",
    "engine/collection.py",
    "engine/compaction.py",
    "engine/flush.py",
    "engine/projection.py",
    "engine/recovery.py",
    "index/brute_force.py",
    "index/faiss_hnsw.py",
    "index/faiss_hnsw_sq.py",
    "index/faiss_ivf_flat.py",
    "index/faiss_ivf_sq8.py",
    "index/sparse_factory.py",
    "index/sparse_ip.py",
    "schema/sparse.py",
    "search/distance.py",
    "search/executor_indexed.py",
    "search/indexed_filter.py",
    "storage/delta_index.py",
    "storage/memtable.py",
    "storage/segment.py",
)

#: The same for `fast_upsert`.
UPSERT_CODE = (
    "adapter/grpc/servicer.py",
    "adapter/grpc/translators/records.py",
    "analyzer/sparse.py",
    "engine/collection.py",
    "engine/operation.py",
    "schema/arrow_builder.py",
    "schema/sparse.py",
    "schema/types.py",
    "schema/validation.py",
    "storage/memtable.py",
    "storage/segment.py",
    "storage/wal.py",
)

IVF_INDEXES = (FaissIvfFlatIndex, FaissIvfSq8Index)
FAISS_INDEXES = (*IVF_INDEXES, FaissHnswIndex, FaissHnswSqIndex)

evaluate_row, normalize = _eval_row, _l2_normalize
#: Any: `fast_upsert` and `search_messages` replace some of their names.
servicer: Any = grpc_servicer
search_translator: Any = grpc_search


def fingerprint(files: Sequence[str]) -> str:
    """Return the fingerprint of installed files, SEARCH_CODE or UPSERT_CODE."""
    folder, digest = Path(milvus_lite.__file__).parent, hashlib.sha256()
    for name in files:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]


def ids_in_memory(collection: Any) -> list[Any]:
    """Return the ids of the rows that are not flushed yet. After a start they are those replayed from a log."""
    return [row_id for row_id, _ in collection._memtable.pk_index_snapshot()]


def has_logs(data: Path) -> bool:
    """Return whether a write-ahead log remains below a data folder: rows that are not flushed."""
    return any(data.rglob("wal/*.arrow"))


def index_files(data: Path) -> list[Path]:
    """Return the index files of all segments below a data or collection folder."""
    return [file for folder in data.rglob("partitions/*/indexes") for file in folder.iterdir()]
