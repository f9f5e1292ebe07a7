"""Writes rows of Milvus collections; which rows, and what PostgreSQL says of them, is decided elsewhere.

Every write is an upsert or a delete by key, so doing it twice does no harm.
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
from resources.milvus.client import KEYS, parts
from resources.milvus.collections import VECTOR_FIELD, is_lite
from resources.milvus.reads import Reads
from resources.milvus.rows import RowFields, checked, is_plain, row_ids

#: Rows an upsert: measured best on Milvus Lite between 100 and 500 (3,500 dense rows/s; 2,700 at 1,000).
UPSERT_ROWS = 250
#: Upserts on their way at a time: encoding takes half as long as the server's part.
UPSERTS = 2
#: Bytes an upsert, well under the gRPC limit of Milvus (64 MiB by default).
UPSERT_BYTES = 16 * 1024 * 1024
#: Rows of each upsert that are read back; the check compares all of them.
READ_BACK = 4
#: Seconds without a request until a flush has begun: searches wait for its end.
REST = 2.0

#: Asked right before each upsert; raises when the caller is no longer the writer of these rows.
Fence = Callable[[], None]


class Writes(Reads):
    """With reads: what counts as written is what is found by key."""

    def upsert_dense(
        self,
        name: str,
        rows: Sequence[RowFields],
        vectors: NDArray[np.float32],
        fence: Fence = lambda: None,
    ) -> list[int]:
        """Upserts one row a chunk. Returns the rows of each chunk (1)."""
        vectors = checked(vectors, [str(row.chunk_id) for row in rows])
        step = max(1, min(UPSERT_ROWS, UPSERT_BYTES // (vectors.shape[1] * 4)))
        self._upsert_all(
            name,
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
        """Upserts one row a chunk; an empty vector (which no server stores) takes none. Returns rows a chunk."""
        if not np.isfinite(vectors.values).all():
            bad = (
                int(
                    np.searchsorted(
                        vectors.indptr, np.flatnonzero(~np.isfinite(vectors.values))[0], "right"
                    )
                )
                - 1
            )
            raise VectorError(
                f"Sparse vector of chunk {rows[bad].chunk_id}: expected finite weights, found others."
            )
        counts = np.diff(vectors.indptr)

        def stored() -> Iterator[dict[str, Any]]:
            for row, start, count in zip(rows, vectors.indptr.tolist(), counts.tolist()):
                if count:
                    span = slice(start, start + count)
                    yield {
                        **row.as_row(f"{row.chunk_id}_sparse"),
                        VECTOR_FIELD: dict(
                            zip(vectors.indices[span].tolist(), vectors.values[span].tolist())
                        ),
                        "vocabulary_size": count,
                    }

        self._upsert_all(name, UPSERT_ROWS, stored(), fence)
        return [1 if count else 0 for count in counts.tolist()]

    def upsert_multi(
        self,
        name: str,
        rows: Sequence[RowFields],
        vectors: Multi,
        fence: Fence = lambda: None,
    ) -> list[int]:
        """Upserts one row for each token vector. Returns rows a chunk."""
        counts = np.diff(vectors.offsets)
        tokens = checked(vectors.vectors, [str(row.chunk_id) for row in rows], counts)
        step = max(1, min(UPSERT_ROWS * 4, UPSERT_BYTES // (max(1, tokens.shape[1]) * 4)))
        self._upsert_all(
            name,
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
        self, name: str, step: int, rows: Iterator[dict[str, Any]], fence: Fence
    ) -> None:
        """Upserts `step` rows at a time; while the server takes one part, the next one is encoded."""
        batches = iter(lambda: list(islice(rows, step)), [])
        sample: dict[str, str] = {}
        with ThreadPoolExecutor(UPSERTS) as pool:
            running: deque[Future[None]] = deque()
            for part in batches:
                sample.update(
                    (row["id"], row["row_fingerprint"])
                    for row in part[:: max(1, step // READ_BACK)]
                )
                running.append(pool.submit(self._upsert, name, part, fence))
                if len(running) > UPSERTS:
                    running.popleft().result()
            for upsert in running:
                upsert.result()
        self._read_back(name, sample)

    def _upsert(self, name: str, rows: list[dict[str, Any]], fence: Fence) -> None:
        fault_point("upsert-sent")
        fence()
        answer = self._call(f"upsert {len(rows)} rows into {name}", "upsert", name, rows)
        fault_point("upsert-answered")
        if answer.get("upsert_count") != len(rows):
            raise StoreUnavailable(
                f"{name}: expected {len(rows)} rows upserted, found {answer.get('upsert_count')}."
            )

    def _read_back(self, name: str, sample: Mapping[str, str]) -> None:
        """Some rows by key (id -> fingerprint): what counts is what is found, not what was answered."""
        found = self.fingerprints(name, list(sample))
        missing = [
            row_id for row_id, fingerprint in sample.items() if found.get(row_id) != fingerprint
        ]
        if missing:
            raise StoreUnavailable(
                f"{name}: upserts were acknowledged, but {missing[0]} and {len(missing) - 1} more of the "
                f"{len(sample)} rows read back are not as written."
            )

    def delete_chunks(self, name: str, kind: Kind, chunks: Mapping[uuid.UUID, int | None]) -> None:
        """Deletes the rows of chunks (chunk -> its rows, None: not known). What is not there is passed over."""
        ids = [row_id for chunk, count in chunks.items() for row_id in row_ids(chunk, kind, count)]
        for part in parts(ids, KEYS):
            self._call(f"delete {len(part)} rows of {name}", "delete", name, ids=part)
        # By filter, Milvus Lite walks all rows: 3 s for what takes 0.01 s by keys.
        unknown = [chunk for chunk, count in chunks.items() if kind == "multi" and count is None]
        for part in parts(unknown, KEYS):
            self._call(f"delete rows of {name}", "delete", name, filter=one_of("chunk_id", part))

    def rewrite(self, name: str, ids: Sequence[str]) -> None:
        """Upserts rows as they are read by key: of an id that is there twice, one row is left."""
        for part in parts(ids, UPSERT_ROWS):
            rows = self.by_key(name, part, ["*"]).values()
            self._call(f"rewrite rows of {name}", "upsert", name, [dict(row) for row in rows])

    def delete_ids(self, name: str, ids: Sequence[str]) -> None:
        """Deletes rows by their ids, whosever they are."""
        # pymilvus quotes keys without escaping them: what a foreign one says after a quote would be obeyed.
        for row_id in (row_id for row_id in ids if not is_plain(row_id)):
            self._call(f"delete a row of {name}", "delete", name, filter=one_of("id", [row_id]))
        for part in parts([row_id for row_id in ids if is_plain(row_id)], KEYS):
            self._call(f"delete {len(part)} rows of {name}", "delete", name, ids=part)

    def rest(self) -> None:
        """Lets Milvus Lite flush what it holds in memory, which it does when it is idle for a second: of 20,000 rows a
        search takes 1.6 s before, 0.04 s after."""
        if is_lite(self.client):
            time.sleep(REST)
