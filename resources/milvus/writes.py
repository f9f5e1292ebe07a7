"""Writes of rows of Milvus collections. Callers decide which rows, and record them in PostgreSQL.

Every write is an upsert or a delete by key, so it may be repeated.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.filters import one_of
from rag_assets.pipeline.vectors import Kind, Multi, Sparse
from resources.errors import StoreUnavailable, VectorError
from resources.fault_injection import fault_point
from resources.milvus.client import KEYS_PER_REQUEST, batched
from resources.milvus.collections import VECTOR_FIELD
from resources.milvus.reads import Reads
from resources.milvus.rows import RowFields, is_plain, normalised, row_ids
from resources.milvus.upsert_request import sparse_bytes, upsert_request

#: Rows per upsert: Milvus Lite's own code is fastest between 100 and 500 (3,500 dense rows/s; 2,700 at 1,000).
UPSERT_ROWS = 250
#: Concurrent upserts: the server has the next batch when it has written one.
UPSERTS = 2
#: Bytes per upsert, well under the gRPC limit of Milvus (64 MiB by default).
UPSERT_BYTES = 16 * 1024 * 1024
#: Rows of each upsert that are read back. The full check compares all rows.
READ_BACK = 4
#: Seconds without a request after which Milvus Lite has begun to flush; searches wait for the end of the flush.
IDLE_SECONDS = 2.0

#: Called right before each upsert; raises if the caller is no longer the writer of these rows.
Fence = Callable[[], None]


class Writes(Reads):
    """Upserts and deletes. A write counts once reads by key find its rows, hence the base class."""

    def upsert_dense(
        self,
        name: str,
        rows: Sequence[RowFields],
        vectors: NDArray[np.float32],
        fence: Fence = lambda: None,
    ) -> list[int]:
        """Upsert one row per chunk. Returns the number of rows of each chunk (1)."""
        vectors = normalised(vectors, [str(row.chunk_id) for row in rows])
        step = max(1, min(UPSERT_ROWS, UPSERT_BYTES // (vectors.shape[1] * 4)))
        self._upsert_all(
            name,
            "dense",
            step,
            (
                {**row.as_row(f"{row.chunk_id}_dense"), VECTOR_FIELD: vector}
                for row, vector in zip(rows, vectors)
            ),
            fence,
        )
        return [1] * len(rows)

    def upsert_sparse(
        self,
        name: str,
        rows: Sequence[RowFields],
        vectors: Sparse,
        fence: Fence = lambda: None,
    ) -> list[int]:
        """Upsert one row per chunk, none for an empty vector (no server stores it). Returns the rows of each chunk."""
        if not np.isfinite(vectors.values).all():
            value = np.flatnonzero(~np.isfinite(vectors.values))[0]
            row = rows[int(np.searchsorted(vectors.indptr, value, "right")) - 1]
            raise VectorError(
                f"Sparse vector of chunk {row.chunk_id}: expected finite weights, found others."
            )
        counts = np.diff(vectors.indptr)

        milvus_rows = (
            {
                **row.as_row(f"{row.chunk_id}_sparse"),
                VECTOR_FIELD: vector,
                "vocabulary_size": count,
            }
            for row, vector, count in zip(rows, sparse_bytes(vectors), counts.tolist())
            if count
        )
        self._upsert_all(name, "sparse", UPSERT_ROWS, milvus_rows, fence)
        return [1 if count else 0 for count in counts.tolist()]

    def upsert_multi(
        self,
        name: str,
        rows: Sequence[RowFields],
        vectors: Multi,
        fence: Fence = lambda: None,
    ) -> list[int]:
        """Upsert one row per token vector. Returns the rows of each chunk."""
        counts = np.diff(vectors.offsets)
        tokens = normalised(vectors.vectors, [str(row.chunk_id) for row in rows], counts)
        step = max(1, min(UPSERT_ROWS * 4, UPSERT_BYTES // (max(1, tokens.shape[1]) * 4)))
        self._upsert_all(
            name,
            "multi",
            step,
            (
                {
                    **row.as_row(row_id),
                    VECTOR_FIELD: tokens[start + token],
                    "chunk_id": str(row.chunk_id),
                    "token_count": count,
                    "token_positions": [token],
                }
                for row, start, count in zip(rows, vectors.offsets.tolist(), counts.tolist())
                for token, row_id in enumerate(row_ids(row.chunk_id, "multi", count))
            ),
            fence,
        )
        return counts.tolist()

    def _upsert_all(
        self, name: str, kind: Kind, step: int, rows: Iterator[dict[str, Any]], fence: Fence
    ) -> None:
        """Upsert `step` rows at a time. While the server writes one batch, the next one waits there."""
        batches = iter(lambda: list(islice(rows, step)), [])
        sample: dict[str, str] = {}
        with ThreadPoolExecutor(UPSERTS) as pool:
            running: deque[Future[None]] = deque()
            for batch in batches:
                sample.update(
                    (row["id"], row["row_fingerprint"])
                    for row in batch[:: max(1, step // READ_BACK)]
                )
                running.append(pool.submit(self._upsert, name, kind, batch, fence))
                if len(running) > UPSERTS:
                    running.popleft().result()
            for upsert in running:
                upsert.result()
        self._read_back(name, sample)

    def _upsert(self, name: str, kind: Kind, rows: list[dict[str, Any]], fence: Fence) -> None:
        request = upsert_request(name, kind, rows)
        fault_point("upsert-sent")
        fence()
        answer = self._call(f"upsert {len(rows)} rows into {name}", "upsert_request", name, request)
        fault_point("upsert-answered")
        if answer.get("upsert_count") != len(rows):
            raise StoreUnavailable(
                f"{name}: expected {len(rows)} rows upserted, found {answer.get('upsert_count')}."
            )

    def _read_back(self, name: str, sample: Mapping[str, str]) -> None:
        """Read a sample of rows (id -> fingerprint) by key: only stored rows count, not the server's answer."""
        stored = self.fingerprints(name, list(sample))
        missing = [
            row_id for row_id, fingerprint in sample.items() if stored.get(row_id) != fingerprint
        ]
        if missing:
            raise StoreUnavailable(
                f"{name}: upserts were acknowledged, but {missing[0]} and {len(missing) - 1} more of the "
                f"{len(sample)} rows read back differ from the written rows."
            )

    def delete_chunks(self, name: str, kind: Kind, chunks: Mapping[uuid.UUID, int | None]) -> None:
        """Delete the rows of chunks (chunk -> number of its rows, None if unknown). Missing rows are ignored."""
        ids = [row_id for chunk, count in chunks.items() for row_id in row_ids(chunk, kind, count)]
        for keys in batched(ids, KEYS_PER_REQUEST):
            self._call(f"delete {len(keys)} rows of {name}", "delete", name, ids=keys)
        # Only these by filter, for which Milvus Lite reads all rows: 3 s instead of 0.01 s by keys.
        unknown = [chunk for chunk, count in chunks.items() if kind == "multi" and count is None]
        for batch in batched(unknown, KEYS_PER_REQUEST):
            self._call(f"delete rows of {name}", "delete", name, filter=one_of("chunk_id", batch))

    def rewrite(self, name: str, ids: Sequence[str]) -> None:
        """Read rows by key and upsert them unchanged: an id that was there twice keeps one row."""
        for keys in batched(ids, UPSERT_ROWS):
            rows = self.by_key(name, keys, ["*"]).values()
            self._call(f"rewrite rows of {name}", "upsert", name, [dict(row) for row in rows])

    def delete_ids(self, name: str, ids: Sequence[str]) -> None:
        """Delete rows by their ids, foreign ones too."""
        # pymilvus quotes keys without escaping them: a foreign id with a quote could inject an expression.
        for row_id in (row_id for row_id in ids if not is_plain(row_id)):
            self._call(f"delete a row of {name}", "delete", name, filter=one_of("id", [row_id]))
        for keys in batched([row_id for row_id in ids if is_plain(row_id)], KEYS_PER_REQUEST):
            self._call(f"delete {len(keys)} rows of {name}", "delete", name, ids=keys)

    def wait_for_flush(self) -> None:
        """Wait until Milvus Lite has flushed its rows, which it does after one idle second.

        A search of 20,000 rows takes 1.6 s before the flush, 0.04 s after it.
        """
        if self.capabilities.is_lite:
            time.sleep(IDLE_SECONDS)
