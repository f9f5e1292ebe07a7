"""Reads rows of Milvus collections: by key, by range of keys, by search.

Every read that a decision rests on is by key under Strong consistency, or a scan whose differences are confirmed so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.filters import literal, one_of
from resources.errors import ConfigError
from resources.milvus.client import KEYS, SCAN_TIMEOUT, MilvusConnection, parts
from resources.milvus.collections import VECTOR_FIELD
from resources.milvus.rows import EVERYTHING, Span, is_plain, span_filter, spans

#: Bytes of vectors a read, well under the gRPC limit of Milvus (64 MiB); sparse ones take a few kilobytes each.
READ_BYTES = 8 * 1024 * 1024
#: Vectors a search.
QUERIES = 50
#: Rows that a query may return; Milvus refuses more. A scan that finds as many in a bucket splits it.
BUCKET_ROWS = 16_384
#: How full a bucket is meant to be. Milvus Lite walks all rows of a collection for each query (0.9 s at 130,000).
BUCKET_FILL = 0.85


class Reads(MilvusConnection):
    def fingerprints(self, name: str, ids: Sequence[str]) -> dict[str, str]:
        """id -> row_fingerprint of the rows that exist, by key under Strong consistency."""
        rows = self.by_key(name, ids, ["row_fingerprint"])
        return {row_id: row["row_fingerprint"] for row_id, row in rows.items()}

    def by_key(
        self, name: str, ids: Sequence[str], fields: Sequence[str]
    ) -> dict[str, Mapping[str, Any]]:
        """id -> row, with these fields, of the rows that exist, under Strong consistency."""
        options = {"output_fields": ["id", *fields], "consistency_level": "Strong"}
        found: dict[str, Mapping[str, Any]] = {}
        # A get is refused when one of its keys holds a quote or a backslash: foreign ids may.
        for row_id in (row_id for row_id in ids if not is_plain(row_id)):
            rows = self._call(
                f"read a row of {name}", "query", name, filter=one_of("id", [row_id]), **options
            )
            found.update((row["id"], row) for row in rows)
        for part in parts([row_id for row_id in ids if is_plain(row_id)], KEYS):
            rows = self._call(
                f"read {len(part)} rows of {name} by key", "get", name, part, **options
            )
            found.update((row["id"], row) for row in rows)
        return found

    def count(self, name: str, where: str = "") -> int:
        """count(*) of the rows that satisfy `where`. Milvus Lite reads all of them for that: without it takes 0.2 s."""
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
        """Every (id, row_fingerprint) in a range of keys that satisfies `where`, in buckets.

        An id that a server holds twice comes twice. A bucket that is too full is split.
        """
        rows = self._bucket(name, span_filter(span), where)
        if len(rows) < BUCKET_ROWS:
            yield rows
        elif span[1] - span[0] < 2:
            yield from self._halves(name, rows, (span_filter(span), where))
        else:
            for part in spans(4, span):
                yield from self.scan(name, part, where)

    def _halves(
        self,
        name: str,
        rows: Sequence[tuple[str, str]],
        within: Sequence[str],
        lower: str = "",
        upper: str = "",
    ) -> Iterator[list[tuple[str, str]]]:
        """A full bucket of foreign ids, which no number divides: split at the middle one of those that were seen.

        In whatever order a server answers: an id is on one side, and on each side are fewer than before.
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
        """(id, row_fingerprint) of the rows that satisfy all conditions; BUCKET_ROWS of them where there are more."""
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
        """Ids of the rows that say this document, up to what Milvus gives in one answer; ask again after deleting."""
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
        """id -> how many rows a query for it returns (a get hides a second one)."""
        counts: Counter[str] = Counter()
        for part in parts(ids, KEYS):
            rows = self._call(
                f"read rows of {name}",
                "query",
                name,
                # With a second condition: `id in` alone Milvus Lite answers by key.
                filter=one_of("id", part) + ' and id >= ""',
                output_fields=["id"],
                timeout=max(self.timeout, SCAN_TIMEOUT),
                consistency_level="Strong",
            )
            counts.update(row["id"] for row in rows)
        return counts

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
        """Nearest rows of one query vector: dicts of id, distance, entity."""
        hits = self._call(
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
        return list(hits[0])

    def search_all(
        self,
        name: str,
        queries: Sequence[Any],
        *,
        limit: int,
        params: Mapping[str, Any],
        ids: Sequence[str] = (),
    ) -> list[list[tuple[str, float]]]:
        """(id, score) of the rows nearest to each query, best first; with `ids` among these rows only."""
        found: list[list[tuple[str, float]]] = []
        for part in parts(queries, QUERIES):
            hits = self._call(
                f"search {name}",
                "search",
                name,
                part,
                filter=one_of("id", ids) if ids else "",
                limit=limit,
                anns_field=VECTOR_FIELD,
                search_params={"params": dict(params)},
                output_fields=["id"],
                timeout=max(self.timeout, SCAN_TIMEOUT),
                consistency_level="Strong",
            )
            found += [[(hit["id"], float(hit["distance"])) for hit in each] for each in hits]
        return found

    def vectors(self, name: str, ids: Sequence[str], dimension: int) -> dict[str, Any]:
        """id -> vector of the rows that exist: a list of `dimension` floats, or index -> weight of a sparse one."""
        found: dict[str, Any] = {}
        for part in parts(ids, max(1, min(KEYS, READ_BYTES // (max(1, dimension) * 4)))):
            rows = self.by_key(name, part, [VECTOR_FIELD])
            found.update((row_id, row[VECTOR_FIELD]) for row_id, row in rows.items())
        return found

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
        if len(rows) == BUCKET_ROWS and len(chunks) > 1:  # there are more
            half = len(chunks) // 2
            return self.token_vectors(name, chunks[:half]) | self.token_vectors(name, chunks[half:])
        found: dict[str, list[Any]] = {}
        for row in rows:
            found.setdefault(row["chunk_id"], []).append(row[VECTOR_FIELD])
        return {chunk: np.asarray(vectors, np.float32) for chunk, vectors in found.items()}


def buckets(rows: int) -> list[Span]:
    """Ranges of keys of which each holds fewer than BUCKET_ROWS of so many rows."""
    return spans(math.ceil(rows / (BUCKET_ROWS * BUCKET_FILL)))
