"""Inspection of stored vectors: read by key, compared with the embedding of the text, and searched for. Read-only.

A comparison of fingerprints detects neither a wrong vector under the right fingerprint nor a row that an index lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

import pyarrow as pa

from rag_assets.pipeline.index_kinds import KINDS, wide_enough
from rag_assets.pipeline.vector_validation import (
    DISTANCE_TOLERANCE,
    distance,
    self_retrieved,
    self_score,
    validate_vector,
)
from rag_assets.pipeline.vectors import Kind
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
from resources.postgres.connection import Connection
from resources.postgres.consistency.vector_samples import Sample, SampledChunk, sample_chunks
from resources.postgres.registry.sources import SourceRow
from resources.postgres.vectors.collections import Collection
from resources.vector_stores import VectorStores

#: Rows whose vectors are read: all of a source up to this number, else a random sample. 2,000 vectors of 1,024 numbers
#: are 8 MB; they detect a fault in one row of a thousand with a probability of 86 %.
SOUND_ROWS = 2_000
#: Rows whose vectors are searched for.
SEARCHED_ROWS = 200
#: Chunks per read.
_CHUNKS = 500
#: Hits of the first search, and of the second one for rows that the first did not find.
_LIMIT, _WIDE_LIMIT = 10, 100
_WIDE_RESULTS = 1024
#: Index types that compare every row, or all rows of the centroid nearest to the query, which is a row's own centroid.
_EXACT = {name for name, kind in KINDS.items() if kind.reaches_all} | {
    "SPARSE_INVERTED_INDEX",
    "SPARSE_WAND",
}


@dataclass
class Soundness:
    """`claimed`: rows that Milvus acknowledged; `read` of them, and `compared` of these with Parquet. `flaws`: row ->
    problem."""

    claimed: int = 0
    read: int = 0
    compared: int = 0
    flaws: dict[str, str] = field(default_factory=dict)


@dataclass
class Findability:
    """`wide`: rows found only by the wider search. `unreached`: by neither. `exact`: the index leaves no row out."""

    claimed: int = 0
    searched: int = 0
    exact: bool = False
    wide: list[str] = field(default_factory=list)
    unreached: list[str] = field(default_factory=list)

    @property
    def lost(self) -> list[str]:
        """Return the rows that an exact index does not find. A graph index (HNSW) leaves rows out by its nature: with
        2 % copies of one text 2.4 % of the others, at ef 128 as at 4,096; with 30 % over 30 texts 19 % at ef 128."""
        return self.unreached if self.exact else []


@dataclass(frozen=True)
class CollectionView:
    """The vectors of one kind of one source, in a collection and in files."""

    connection: Connection
    stores: VectorStores
    collection: Collection
    source: SourceRow

    @property
    def kind(self) -> Kind:
        return self.collection.kind

    @property
    def exists(self) -> bool:
        return self.stores.milvus.has_collection(self.collection.name)

    def sample(self, limit: int | None, span: Span = EVERYTHING) -> Sample:
        """Return the number of acknowledged rows, and random chunks with about `limit` rows."""
        return sample_chunks(self.connection, self.collection, self.source.id, limit, span)

    def stored(self, chunks: Sequence[SampledChunk]) -> dict[str, Any]:
        """Return id -> vector of the existing rows of these chunks."""
        ids = [row_id for chunk in chunks for row_id in row_ids(chunk.id, self.kind, chunk.rows)]
        return self.stores.milvus.vectors(self.collection.name, ids, self.collection.dimension)


def inspect_all(view: CollectionView) -> Soundness:
    """Validate the vectors of a sample of a source, and all of its vectors if the sample has an unsound one."""
    sample = inspect_vectors(view)
    if not sample.flaws or sample.read >= sample.claimed:
        return sample
    total = Soundness(claimed=sample.claimed)
    for span in buckets(sample.claimed):
        part = inspect_vectors(view, limit=None, span=span)
        total.read += part.read
        total.compared += part.compared
        total.flaws.update(part.flaws)
    return total


def inspect_vectors(
    view: CollectionView, *, limit: int | None = SOUND_ROWS, span: Span = EVERYTHING
) -> Soundness:
    """Validate the vectors of a sample of a source's rows. Missing rows are skipped."""
    soundness = Soundness()
    soundness.claimed, chunks = view.sample(limit, span)
    if not view.exists:
        return soundness
    vocabulary = getattr(view.stores.model.embedder, "vocabulary", None)
    files = view.stores.files
    reader = _EmbeddingSample(EmbeddingReader(files, view.kind), files)
    for start in range(0, len(chunks), _CHUNKS):
        batch = chunks[start : start + _CHUNKS]
        stored = view.stored(batch)
        soundness.read += len(stored)
        for row_id, vector in stored.items():
            problem = validate_vector(
                vector, dimension=view.collection.dimension, vocabulary=vocabulary
            )
            if problem is not None:
                soundness.flaws[row_id] = problem
        for chunk, embedded in reader.read(batch):
            for row_id, expected in zip(row_ids(chunk.id, view.kind, chunk.rows), embedded):
                if row_id not in stored or row_id in soundness.flaws:
                    continue
                soundness.compared += 1
                gap = distance(stored[row_id], expected)
                if gap > DISTANCE_TOLERANCE and reader.is_intact(chunk):
                    soundness.flaws[row_id] = (
                        f"expected the vector of its text, found one {gap:.3g} away from it"
                    )
    return soundness


def search_for_themselves(view: CollectionView, *, limit: int = SEARCHED_ROWS) -> Findability:
    """Search for the vectors of a sample of rows. Missing and unsound rows are skipped."""
    stores, name = view.stores, view.collection.name
    index_type = stores.layout(view.kind).index["index_type"]
    params = stores.index.search_params(view.kind)
    findability = Findability(exact=index_type in _EXACT)
    findability.claimed, chunks = view.sample(limit)
    if not view.exists:
        return findability
    queries = {
        row_id: vector
        for row_id, vector in list(view.stored(chunks).items())[:limit]
        if validate_vector(vector, dimension=view.collection.dimension) is None
    }
    findability.searched = len(queries)

    def not_found(rows: Sequence[str], limit: int, params: Mapping[str, Any]) -> list[str]:
        vectors = [queries[row] for row in rows]
        hits_of_rows = stores.milvus.search_all(name, vectors, limit=limit, params=params)
        return [
            row
            for row, hits in zip(rows, hits_of_rows)
            if not self_retrieved(hits, row, self_score(queries[row]), limit)
        ]

    first = not_found(list(queries), _LIMIT, params)
    second = not_found(first, _WIDE_LIMIT, wide_enough(params, _WIDE_RESULTS)) if first else []
    findability.wide = [row for row in first if row not in second]
    # A row that was deleted since is not unreached.
    remaining = stores.milvus.fingerprints(name, second)
    findability.unreached = [row for row in second if row in remaining]
    return findability


@dataclass
class _EmbeddingSample:
    """The embeddings of sampled chunks. Files that are gone or damaged are skipped: another check reports them."""

    reader: EmbeddingReader
    files: FileStore
    _damaged: dict[str, bool] = field(default_factory=dict)

    def read(self, chunks: Sequence[SampledChunk]) -> Iterator[tuple[SampledChunk, Sequence[Any]]]:
        """Yield each chunk that has an embedding, with the vectors of its rows in order."""
        embedded = sorted(
            (chunk for chunk in chunks if chunk.file is not None),
            key=lambda chunk: (_path(chunk), chunk.row_index),
        )
        for path, group in groupby(embedded, key=_path):
            rows = list(group)
            try:
                table = self.reader.read(path, [chunk.row_index for chunk in rows])
                vectors = _vectors(self.reader.kind, table)
            except (OSError, pa.ArrowException, StoreUnavailable, ValueError, IndexError, KeyError):
                continue
            yield from zip(rows, vectors)

    def is_intact(self, chunk: SampledChunk) -> bool:
        """Return whether the file of the chunk's embedding is as it was written."""
        assert chunk.file is not None
        path = _path(chunk)
        if path not in self._damaged:
            self._damaged[path] = damage(self.files, chunk.file) is not None
        return not self._damaged[path]


def _path(chunk: SampledChunk) -> str:
    return chunk.file.written.path if chunk.file else ""


def _vectors(kind: Kind, table: pa.Table) -> list[Sequence[Any]]:
    """Return the vectors of each text: one, or one per token for multi."""
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
