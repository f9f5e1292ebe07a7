"""Texts grouped into batches for a model, and the batches' vectors put back in the order of the texts.

No model and no process here. `bge_m3` makes batches, `devices` distributes work, `openai` validates texts with it, and
`checked` joins the vectors of repeated calls.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rag_assets.pipeline.vectors import Embeddings, Kind, Multi, Sparse

Terms = tuple[NDArray[np.uint32], NDArray[np.float32]]

_NO_TERMS: Terms = (np.empty(0, np.uint32), np.empty(0, np.float32))


def unusable(text: str) -> str | None:
    """Return why no tokenizer accepts a text, or None if one does. One unusable text would fail a whole call."""
    if not text.strip():
        return "blank"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"not valid Unicode: {error.reason} at character {error.start}"
    return None


def offsets(lengths: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the start of each row and the end of the last one; shape [rows + 1]."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def batches(lengths: Sequence[int], bound: int, padding: int) -> Iterator[list[int]]:
    """Yield the indices of nonempty rows in batches: rows × longest row ≤ `bound`, or one longer row alone.

    Rows are sorted by length, so a batch has little padding; a batch ends before its padding exceeds `padding`, because
    another batch then costs less. The longest rows come first, so memory runs out at once or not at all.
    """
    batch: list[int] = []
    padded = 0
    for i in sorted(np.flatnonzero(lengths).tolist(), key=lambda i: -lengths[i]):
        if batch:
            longest = lengths[batch[0]]
            padded += longest - lengths[i]
            if (len(batch) + 1) * longest > bound or padded > padding:
                yield batch
                batch, padded = [], 0
        batch.append(i)
    if batch:
        yield batch


def divided(rows: Sequence[int]) -> list[Sequence[int]]:
    """Return the parts of a batch that failed, in search of the one bad text: halves, or up to four single rows.

    Halving four rows costs as much for one bad row, and more for several.
    """
    if len(rows) <= 4:
        return [[row] for row in rows]
    half = len(rows) // 2
    return [rows[:half], rows[half:]]


class Vectors:
    """The vectors of one call in the order of its texts: allocated once, filled batch by batch."""

    def __init__(
        self,
        token_vectors: Sequence[int] | NDArray[np.int64],
        kinds: Collection[Kind],
        dimension: int,
        token_dimension: int,
    ) -> None:
        """Allocate the arrays; `token_vectors` is the number of multi-vector rows of each text."""
        n = len(token_vectors)
        self.kinds = frozenset(kinds)
        self._offsets = offsets(token_vectors)
        self._dense = np.zeros((n, dimension), np.float32) if "dense" in kinds else None
        self._terms = [_NO_TERMS] * n if "sparse" in kinds else None
        self._multi = (
            np.empty((self._offsets[-1], token_dimension), np.float32) if "multi" in kinds else None
        )

    def put(self, rows: Sequence[int], batch: Embeddings) -> None:
        for row, i in enumerate(rows):
            if self._dense is not None and batch.dense is not None:
                self._dense[i] = batch.dense[row]
            if self._terms is not None and batch.sparse is not None:
                part = slice(*batch.sparse.indptr[row : row + 2])
                self._terms[i] = (batch.sparse.indices[part], batch.sparse.values[part])
            if self._multi is not None and batch.multi is not None:
                part = slice(*batch.multi.offsets[row : row + 2])
                self._multi[slice(*self._offsets[i : i + 2])] = batch.multi.vectors[part]

    def embeddings(
        self, failures: Mapping[int, str], *, truncated: int = 0, tokens: int = 0, padding: int = 0
    ) -> Embeddings:
        sparse = multi = None
        if self._terms is not None:
            # With one extra empty row, because NumPy cannot concatenate an empty list.
            indices, values = zip(*self._terms, _NO_TERMS, strict=True)
            indptr = offsets([len(row) for row in indices[:-1]])
            sparse = Sparse(indptr, np.concatenate(indices), np.concatenate(values))
        if self._multi is not None:
            lengths = np.diff(self._offsets)
            embedded = ~np.isin(np.arange(len(lengths)), list(failures))
            vectors = self._multi[np.repeat(embedded, lengths)] if failures else self._multi
            multi = Multi(offsets(lengths * embedded), vectors)
        return Embeddings(
            self._dense, sparse, multi, dict(sorted(failures.items())), truncated, tokens, padding
        )


def join(
    n: int,
    parts: list[tuple[Sequence[int], Embeddings]],
    kinds: Collection[Kind],
    dimensions: tuple[int, int],
    failures: Mapping[int, str],
) -> Embeddings:
    """Return the vectors of n texts from those of `parts`: (rows, their vectors). `failures`: of rows in no part.

    `dimensions`: of dense vectors and of token vectors. Empties `parts` on the way, else there would be two copies of
    the multi-vectors.
    """
    token_vectors = np.zeros(n, np.int64)
    failures = dict(failures)
    for rows, part in parts:
        failures |= {rows[i]: reason for i, reason in part.failures.items()}
        if part.multi is not None:
            token_vectors[list(rows)] = np.diff(part.multi.offsets)
    counts = {
        name: sum(getattr(part, name) for _, part in parts)
        for name in ("truncated", "tokens", "padding")
    }
    vectors = Vectors(token_vectors, kinds, *dimensions)
    while parts:
        vectors.put(*parts.pop())
    return vectors.embeddings(failures, **counts)


def take(vectors: Embeddings, rows: Sequence[int]) -> Embeddings:
    """Return the vectors of some rows, with the counts of the whole."""
    sparse = multi = None
    if vectors.sparse is not None:
        places, indptr = _rows_of(vectors.sparse.indptr, rows)
        sparse = Sparse(indptr, vectors.sparse.indices[places], vectors.sparse.values[places])
    if vectors.multi is not None:
        places, starts = _rows_of(vectors.multi.offsets, rows)
        multi = Multi(starts, vectors.multi.vectors[places])
    return Embeddings(
        None if vectors.dense is None else vectors.dense[list(rows)],
        sparse,
        multi,
        {at: vectors.failures[row] for at, row in enumerate(rows) if row in vectors.failures},
        vectors.truncated,
        vectors.tokens,
        vectors.padding,
    )


def _rows_of(
    starts: NDArray[np.int64], rows: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of these rows' entries in a flat array, and the offsets of the rows among them."""
    spans = [np.arange(starts[row], starts[row + 1]) for row in rows]
    return np.concatenate([*spans, np.empty(0, np.int64)]), offsets([len(span) for span in spans])
