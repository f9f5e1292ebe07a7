"""The three kinds of vectors, and a batch of them as arrays.

Every embedder returns `Embeddings` and every writer takes them: flat arrays with offsets (the layout of Arrow lists
and of CSR matrices), so that nothing downstream loops over Python lists. No model and no store here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, get_args

if TYPE_CHECKING:
    # The settings name the kinds of vectors: importing numpy would cost each command 0.2 s.
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["dense", "sparse", "multi"]
KINDS: tuple[Kind, ...] = get_args(Kind)

#: Maximum difference of a stored norm from 1.
NORM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Sparse:
    """n sparse vectors in CSR layout: row i is `indices[indptr[i]:indptr[i+1]]` with the same slice of `values`.

    `indptr` int64 [n+1]; `indices` uint32 [nnz], strictly ascending within a row; `values` float32 [nnz], all > 0.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.uint32]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.indptr) - 1


@dataclass(frozen=True)
class Multi:
    """n token matrices, one below the other: text i is `vectors[offsets[i]:offsets[i+1]]`.

    `offsets` int64 [n+1]; `vectors` float32 [tokens, token_dimension], each row of L2 norm 1, in token order.
    """

    offsets: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True)
class Embeddings:
    """The vectors of n texts, in the order of the texts; a kind that was not requested is None.

    `dense` float32 [n, dimension], each row of L2 norm 1. `failures` maps the index of a text that could not be
    embedded to its reason: its dense row is zero, its sparse row and its token matrix are empty.
    `truncated` counts the texts longer than the model's maximum; `tokens` the tokens given to the model; `padding` the
    padding tokens in its batches.
    """

    dense: NDArray[np.float32] | None = None
    sparse: Sparse | None = None
    multi: Multi | None = None
    failures: Mapping[int, str] = field(default_factory=dict)
    truncated: int = 0
    tokens: int = 0
    padding: int = 0


class Embedder(Protocol):
    """The interface of embedders, `module:Class` ones included (a class whose constructor takes no arguments).

    `identity` contains everything that changes a vector (backend, model, revision, maximum length, pooling,
    normalisation …): its hash is the model fingerprint, so it must be available without loading the model.
    An embedder may have these attributes: `vocabulary`: every index of its sparse vectors is below it; `kinds`, if it
    does not make all of them: the sparse vectors that it does not make come from words; `call_chars`: the characters
    of a call of `embed` during ingestion, if 500,000 take a slow model too long.
    """

    @property
    def dimension(self) -> int: ...

    @property
    def token_dimension(self) -> int: ...

    @property
    def identity(self) -> Mapping[str, str]: ...

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """Embed texts of documents. An empty sequence gives arrays without rows; a text that fails is in `failures`."""
        ...

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        """Embed queries, in the same spaces."""
        ...
