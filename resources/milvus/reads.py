"""Reads of rows of Milvus collections: by key, by range of keys, by search.

Decisions use only reads by key under Strong consistency, and scans whose differences such reads have confirmed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.filters import literal, one_of
from rag_assets.pipeline.vectors import Kind
from resources.errors import ConfigError
from resources.milvus.client import KEYS_PER_REQUEST, SCAN_TIMEOUT, MilvusConnection, batched
from resources.milvus.collections import VECTOR_FIELD
from resources.milvus.rows import EVERYTHING, Span, is_plain, span_filter, spans
from resources.milvus.search_request import Nearest

#: Bytes of vectors per read, well under the gRPC limit of Milvus (64 MiB); a sparse vector takes a few kilobytes.
READ_BYTES = 8 * 1024 * 1024
#: Query vectors per search request.
QUERIES = 50
#: Maximum rows that a query may return (a limit of Milvus). A scan splits a bucket with this many rows.
BUCKET_ROWS = 16_384
#: Planned fill of a bucket. Fewer buckets are faster: Milvus Lite reads all rows for each query (0.9 s at 130,000).
BUCKET_FILL = 0.85


class Reads(MilvusConnection):
    def fingerprints(self, name: str, ids: Sequence[str]) -> dict[str, str]:
        """id -> row_fingerprint of each row that exists, by key under Strong consistency."""
        rows = self.by_key(name, ids, ["row_fingerprint"])
        return {row_id: row["row_fingerprint"] for row_id, row in rows.items()}

    def by_key(
        self, name: str, ids: Sequence[str], fields: Sequence[str]
    ) -> dict[str, Mapping[str, Any]]:
        """id -> the fields of each row that exists, under Strong consistency."""
        options = {"output_fields": ["id", *fields], "consistency_level": "Strong"}
        rows_by_id: dict[str, Mapping[str, Any]] = {}
        # A get fails if one of its keys contains a quote or a backslash; foreign ids may contain them.
        for row_id in (row_id for row_id in ids if not is_plain(row_id)):
            rows = self._call(
                f"read a row of {name}", "query", name, filter=one_of("id", [row_id]), **options
            )
            rows_by_id.update((row["id"], row) for row in rows)
        for keys in batched([row_id for row_id in ids if is_plain(row_id)], KEYS_PER_REQUEST):
            rows = self._call(
                f"read {len(keys)} rows of {name} by key", "get", name, keys, **options
            )
            rows_by_id.update((row["id"], row) for row in rows)
        return rows_by_id

    def count(self, name: str, where: str = "") -> int:
        """count(*) of the rows that satisfy `where`; Milvus Lite reads all rows for it. 0.2 s without `where`."""
        rows = self._call(
            f"count rows of {name}",
            "query",
            name,
            filter=where,
            output_fields=["count(*)"],
            timeout=max(self.timeout, SCAN_TIMEOUT),
            consistency_level="Strong",
        )
        return int(rows[0]["count(*)"])

    def scan(
        self, name: str, span: Span = EVERYTHING, where: str = ""
    ) -> Iterator[list[tuple[str, str]]]:
        """Yield buckets of (id, row_fingerprint): all rows in a range of keys that satisfy `where`.

        An id that the server has twice appears twice. A full bucket is split.
        """
        rows = self._bucket(name, span_filter(span), where)
        if len(rows) < BUCKET_ROWS:
            yield rows
        elif span[1] - span[0] < 2:
            yield from self._halves(name, rows, (span_filter(span), where))
        else:
            for quarter in spans(4, span):
                yield from self.scan(name, quarter, where)

    def _halves(
        self,
        name: str,
        rows: Sequence[tuple[str, str]],
        within: Sequence[str],
        lower: str = "",
        upper: str = "",
    ) -> Iterator[list[tuple[str, str]]]:
        """Split a full bucket of foreign ids, which number ranges cannot divide, at the middle one of its ids.

        This ends whatever rows the server returned: each id is on one side, and each side has fewer rows than before.
        Raises ConfigError if all rows of the bucket have one id.
        """
        ids = sorted({row_id for row_id, _ in rows})
        if len(ids) < 2:
            raise ConfigError(f"{name}: {BUCKET_ROWS} rows or more have the id {ids[0]!r}.")
        middle = literal(ids[len(ids) // 2])
        for low, high in ((lower, f"id < {middle}"), (f"id >= {middle}", upper)):
            half = self._bucket(name, *within, low, high)
            if len(half) < BUCKET_ROWS:
                yield half
            else:
                yield from self._halves(name, half, within, low, high)

    def _bucket(self, name: str, *conditions: str) -> list[tuple[str, str]]:
        """(id, row_fingerprint) of the rows that satisfy all conditions, at most BUCKET_ROWS of them."""
        rows = self._call(
            f"scan {name}",
            "query",
            name,
            filter=" and ".join(filter(None, conditions)) or 'id >= ""',
            output_fields=["id", "row_fingerprint"],
            limit=BUCKET_ROWS,
            timeout=max(self.timeout, SCAN_TIMEOUT),
            consistency_level="Strong",
        )
        return [(row["id"], row["row_fingerprint"]) for row in rows]

    def ids_of_document(self, name: str, document: str) -> list[str]:
        """Ids of the document's rows, at most as many as Milvus returns at once; delete these, then ask again."""
        rows = self._call(
            f"look for a document in {name}",
            "query",
            name,
            filter=one_of("document_id", [document]),
            output_fields=["id"],
            limit=16_384,
            consistency_level="Strong",
            timeout=SCAN_TIMEOUT,
        )
        return [row["id"] for row in rows]

    def copies(self, name: str, ids: Sequence[str]) -> dict[str, int]:
        """id -> number of rows that a query for the id returns. (A get hides a second row.)"""
        counts: Counter[str] = Counter()
        for keys in batched(ids, KEYS_PER_REQUEST):
            rows = self._call(
                f"read rows of {name}",
                "query",
                name,
                # Milvus Lite answers `id in` alone by key; a second condition makes it read the rows.
                filter=one_of("id", keys) + ' and id >= ""',
                output_fields=["id"],
                timeout=max(self.timeout, SCAN_TIMEOUT),
                consistency_level="Strong",
            )
            counts.update(row["id"] for row in rows)
        return counts

    def nearest(
        self,
        name: str,
        kind: Kind,
        queries: Sequence[bytes],
        *,
        limit: int,
        params: Mapping[str, object],
        filter: str = "",
    ) -> list[Nearest]:
        """The ids and scores of the nearest rows to each query, in one request; of rows with texts as ids.

        A query is the bytes of a float32 vector, or of a sparse one (see `sparse_bytes`).
        """
        return self._call(
            f"search {name}",
            "nearest",
            name,
            kind,
            queries,
            limit=limit,
            params=params,
            filter=filter,
            consistency=self.search_consistency,
        )

    def search(
        self,
        name: str,
        query: Any,
        *,
        limit: int,
        params: Mapping[str, Any],
        filter: str = "",
        output_fields: Sequence[str] = ("id",),
    ) -> list[dict[str, Any]]:
        """The nearest rows to one query vector: dicts of id, distance, entity."""
        (hits,) = self._call(
            f"search {name}",
            "search",
            name,
            [query],
            filter=filter,
            limit=limit,
            anns_field=VECTOR_FIELD,
            search_params={"metric_type": "IP", "params": dict(params)},
            output_fields=list(output_fields),
            consistency_level=self.search_consistency,
        )
        return list(hits)

    def search_all(
        self,
        name: str,
        queries: Sequence[Any],
        *,
        limit: int,
        params: Mapping[str, Any],
        ids: Sequence[str] = (),
    ) -> list[list[tuple[str, float]]]:
        """(id, score) of the nearest rows to each query, best first; if `ids` is given, only among these rows."""
        hits_by_query: list[list[tuple[str, float]]] = []
        for batch in batched(queries, QUERIES):
            answers = self._call(
                f"search {name}",
                "search",
                name,
                batch,
                filter=one_of("id", ids) if ids else "",
                limit=limit,
                anns_field=VECTOR_FIELD,
                search_params={"params": dict(params)},
                output_fields=["id"],
                timeout=max(self.timeout, SCAN_TIMEOUT),
                consistency_level="Strong",
            )
            hits_by_query += [
                [(hit["id"], float(hit["distance"])) for hit in hits] for hits in answers
            ]
        return hits_by_query

    def vectors(self, name: str, ids: Sequence[str], dimension: int) -> dict[str, Any]:
        """id -> vector of each row that exists: a list of `dimension` floats; for sparse rows, index -> weight."""
        vectors: dict[str, Any] = {}
        size = max(1, min(KEYS_PER_REQUEST, READ_BYTES // (max(1, dimension) * 4)))
        for keys in batched(ids, size):
            rows = self.by_key(name, keys, [VECTOR_FIELD])
            vectors.update((row_id, row[VECTOR_FIELD]) for row_id, row in rows.items())
        return vectors

    def token_vectors(self, name: str, chunks: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """chunk -> its token vectors [tokens, dimension] from the multi collection, in no particular order."""
        rows = self._call(
            f"read token vectors of {name}",
            "query",
            name,
            filter=one_of("chunk_id", chunks),
            output_fields=["chunk_id", VECTOR_FIELD],
            limit=BUCKET_ROWS,
            consistency_level=self.search_consistency,
        )
        # A full answer may be incomplete.
        if len(rows) == BUCKET_ROWS and len(chunks) > 1:
            half = len(chunks) // 2
            return self.token_vectors(name, chunks[:half]) | self.token_vectors(name, chunks[half:])
        tokens: dict[str, list[Any]] = {}
        for row in rows:
            tokens.setdefault(row["chunk_id"], []).append(row[VECTOR_FIELD])
        return {chunk: np.asarray(vectors, np.float32) for chunk, vectors in tokens.items()}


def buckets(rows: int) -> list[Span]:
    """Ranges of keys that together contain `rows` rows, each fewer than BUCKET_ROWS."""
    return spans(math.ceil(rows / (BUCKET_ROWS * BUCKET_FILL)))
