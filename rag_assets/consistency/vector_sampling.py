"""Looks at stored vectors themselves: each by its key, beside the embedding of its text, and by a search for it.

A comparison of fingerprints sees neither a vector that was overwritten under the right one nor an index that lost a
row. Nothing is changed here, and Dagster is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

import pyarrow as pa

from rag_assets.pipeline.index_kinds import KINDS, wide_enough
from rag_assets.pipeline.soundness import DISTANCE_TOLERANCE, distance, finds, flaw, own_score
from rag_assets.pipeline.vectors import Embedder, Kind
from resources.embedding_files import (
    EmbeddingReader,
    damage,
    dense_rows,
    multi_rows,
    sparse_rows,
)
from resources.errors import StoreUnavailable
from resources.files import FileStore
from resources.milvus.reads import buckets
from resources.milvus.rows import EVERYTHING, Span, row_ids
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from resources.postgres.consistency.vector_samples import SampledChunk, sample_chunks
from resources.postgres.registry.sources import SourceRow
from resources.postgres.vectors.vectors import Collection

#: Rows whose vectors are read: all of a source up to this number, else so many at random. 2,000 of 1,024 numbers are
#: 8 MB, and find what spoils one row in a thousand with a probability of 86 %.
SOUND_ROWS = 2_000
#: Rows that are searched for.
SEARCHED_ROWS = 200
#: Chunks read at a time.
_CHUNKS = 500
#: Hits of the first search, and of the one for what it did not find.
_LIMIT, _WIDE_LIMIT = 10, 100
_WIDE_RESULTS = 1024
#: Kinds of index that look at every row, or at all those filed under the centroid nearest to the query, where a row is
#: filed itself.
_EXACT = {name for name, kind in KINDS.items() if kind.reaches_all} | {
    "SPARSE_INVERTED_INDEX",
    "SPARSE_WAND",
}


@dataclass
class Soundness:
    """`claimed`: rows that Milvus acknowledged; of them `read`, and of these `compared` with Parquet."""

    claimed: int = 0
    read: int = 0
    compared: int = 0
    flaws: dict[str, str] = field(default_factory=dict)


@dataclass
class Findability:
    """`wide`: rows found by a wider search only; `unreached`: by neither. `exact`: the index leaves nothing out."""

    claimed: int = 0
    searched: int = 0
    exact: bool = False
    wide: list[str] = field(default_factory=list)
    unreached: list[str] = field(default_factory=list)

    @property
    def lost(self) -> list[str]:
        """What cannot be noise. A graph index (HNSW) leaves rows out by its nature: with 2 % copies of one text 2.4 %
        of the others, at ef 128 as at 4,096; with 30 % over 30 texts 19 % at ef 128."""
        return self.unreached if self.exact else []


@dataclass(frozen=True)
class Place:
    """Where the vectors of one kind of one source are: in a collection, and in files."""

    connection: Connection
    store: MilvusStore
    files: FileStore
    collection: Collection
    source: SourceRow
    model: Embedder

    @property
    def kind(self) -> Kind:
        return self.collection.kind

    def stored(self, chunks: Sequence[SampledChunk]) -> dict[str, Any]:
        """id -> vector of the rows of these chunks that exist."""
        ids = [row_id for chunk in chunks for row_id in row_ids(chunk.id, self.kind, chunk.rows)]
        return self.store.vectors(self.collection.name, ids, self.collection.dimension)


def inspect_all(place: Place) -> Soundness:
    """Judges the vectors of every row of a source, if a sample of them gives reason to."""
    found = inspect_vectors(place)
    if not found.flaws or found.read >= found.claimed:
        return found
    total = Soundness(claimed=found.claimed)
    for span in buckets(found.claimed):
        part = inspect_vectors(place, limit=None, span=span)
        total.read += part.read
        total.compared += part.compared
        total.flaws.update(part.flaws)
    return total


def inspect_vectors(
    place: Place, *, limit: int | None = SOUND_ROWS, span: Span = EVERYTHING
) -> Soundness:
    """Judges the vectors of a sample of a source's rows. Those that are missing are passed over."""
    found = Soundness()
    found.claimed, chunks = sample_chunks(
        place.connection, place.collection, place.source.id, limit, span
    )
    if not place.store.has_collection(place.collection.name):
        return found
    vocabulary = getattr(place.model, "vocabulary", None)
    reader = _Embedded(EmbeddingReader(place.files, place.kind), place.files)
    for start in range(0, len(chunks), _CHUNKS):
        part = chunks[start : start + _CHUNKS]
        stored = place.stored(part)
        found.read += len(stored)
        for row_id, vector in stored.items():
            wrong = flaw(vector, dimension=place.collection.dimension, vocabulary=vocabulary)
            if wrong is not None:
                found.flaws[row_id] = wrong
        for chunk, embedded in reader.read(part):
            for row_id, expected in zip(row_ids(chunk.id, place.kind, chunk.rows), embedded):
                if row_id not in stored or row_id in found.flaws:
                    continue
                found.compared += 1
                far = distance(stored[row_id], expected)
                if far > DISTANCE_TOLERANCE and reader.is_whole(chunk):
                    found.flaws[row_id] = (
                        f"expected the vector of its text, found one {far:.3g} away from it"
                    )
    return found


def search_for_themselves(
    place: Place, index_type: str, params: Mapping[str, Any], *, limit: int = SEARCHED_ROWS
) -> Findability:
    """Searches for the vectors of a sample of rows. Those that are missing or unsound are passed over."""
    found = Findability(exact=index_type in _EXACT)
    found.claimed, chunks = sample_chunks(
        place.connection, place.collection, place.source.id, limit
    )
    name = place.collection.name
    if not place.store.has_collection(name):
        return found
    queries = {
        row_id: vector
        for row_id, vector in list(place.stored(chunks).items())[:limit]
        if flaw(vector, dimension=place.collection.dimension) is None
    }
    found.searched = len(queries)

    def missed(among: Sequence[str], limit: int, params: Mapping[str, Any]) -> list[str]:
        vectors = [queries[row] for row in among]
        hits = place.store.search_all(name, vectors, limit=limit, params=params)
        return [
            row
            for row, each in zip(among, hits)
            if not finds(each, row, own_score(queries[row]), limit)
        ]

    near = missed(list(queries), _LIMIT, params)
    far = missed(near, _WIDE_LIMIT, wide_enough(params, _WIDE_RESULTS)) if near else []
    found.wide = [row for row in near if row not in far]
    # Deleted meanwhile is not unreached.
    there = place.store.fingerprints(name, far)
    found.unreached = [row for row in far if row in there]
    return found


@dataclass
class _Embedded:
    """The embeddings of sampled chunks. A file that is gone or damaged has another check's attention."""

    reader: EmbeddingReader
    files: FileStore
    _damaged: dict[str, bool] = field(default_factory=dict)

    def read(self, chunks: Sequence[SampledChunk]) -> Iterator[tuple[SampledChunk, Sequence[Any]]]:
        """Each chunk that has one, with the vectors of its rows in order."""
        known = sorted(
            (chunk for chunk in chunks if chunk.file is not None),
            key=lambda chunk: (chunk.file.written.path if chunk.file else "", chunk.row_index),
        )
        for path, group in groupby(
            known, key=lambda chunk: chunk.file.written.path if chunk.file else ""
        ):
            rows = list(group)
            try:
                table = self.reader.read(path, [chunk.row_index for chunk in rows])
                vectors = _vectors(self.reader.kind, table)
            except (OSError, pa.ArrowException, StoreUnavailable, ValueError, IndexError, KeyError):
                continue
            yield from zip(rows, vectors)

    def is_whole(self, chunk: SampledChunk) -> bool:
        """Whether the file that an embedding was read from is as it was written."""
        assert chunk.file is not None
        if chunk.file.written.path not in self._damaged:
            self._damaged[chunk.file.written.path] = damage(self.files, chunk.file) is not None
        return not self._damaged[chunk.file.written.path]


def _vectors(kind: Kind, table: pa.Table) -> list[Sequence[Any]]:
    """The vectors of each text: one, or for multi one a token."""
    if kind == "dense":
        return [[row] for row in dense_rows(table)]
    if kind == "multi":
        multi = multi_rows(table)
        edges = multi.offsets.tolist()
        return [multi.vectors[start:end] for start, end in pairwise(edges)]  # pyright: ignore[reportReturnType]
    sparse = sparse_rows(table)
    edges = sparse.indptr.tolist()
    return [
        [dict(zip(sparse.indices[start:end].tolist(), sparse.values[start:end].tolist()))]
        for start, end in pairwise(edges)
    ]
