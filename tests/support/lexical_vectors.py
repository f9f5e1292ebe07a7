"""The arrays of embeddings of every kind, and those of one text as bytes: equal vectors have equal bytes."""

from __future__ import annotations

import numpy as np

from rag_assets.pipeline.vectors import Embeddings


def arrays(e: Embeddings) -> list[np.ndarray]:
    assert e.dense is not None and e.sparse is not None and e.multi is not None
    sparse, multi = e.sparse, e.multi
    return [e.dense, sparse.indptr, sparse.indices, sparse.values, multi.offsets, multi.vectors]


def rows(e: Embeddings, i: int) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the vectors of text i, as bytes."""
    dense, indptr, indices, values, offsets, vectors = arrays(e)
    terms = slice(indptr[i], indptr[i + 1])
    tokens = vectors[offsets[i] : offsets[i + 1]]
    return dense[i].tobytes(), indices[terms].tobytes(), values[terms].tobytes(), tokens.tobytes()
