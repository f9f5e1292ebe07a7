"""One embedder of two: dense vectors from a model that makes no sparse ones, and sparse vectors from words or another
model.

Each part embeds only the kinds that it makes, and is not called if none of them is requested.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from rag_assets.pipeline.term_statistics import WeighsQueries
from rag_assets.pipeline.vectors import KINDS, Embedder, Embeddings, Kind
from resources.embedders.batches import join, take
from resources.embedders.lexical import LexicalEmbedder
from resources.errors import ConfigError

_Embed = Callable[[Sequence[str], Collection[Kind]], Embeddings]


def for_kinds(embedder: Embedder, kinds: Collection[Kind]) -> Embedder:
    """Return an embedder of these kinds: itself, or itself with sparse vectors from words if it makes none.

    If it has an embedder `sparse` beside it, such as SPLADE, these come from that one.

    Raises ConfigError if it does not make another kind. Without an attribute `kinds`, it makes all of them.
    """
    made: Collection[Kind] = getattr(embedder, "kinds", KINDS)
    if set(kinds) <= set(made):
        return embedder
    if set(kinds) - set(made) == {"sparse"} and set(kinds) & set(made):
        return CombinedEmbedder(embedder, getattr(embedder, "sparse", None) or LexicalEmbedder())
    usable = ",".join(kind for kind in KINDS if kind in {*made, "sparse"})
    raise ConfigError(
        f"The embedder makes {', '.join(made)} vectors only, found RAG_VECTORS={','.join(kinds)}: "
        f"set RAG_VECTORS={usable} or RAG_VECTORS={','.join(made)}"
    )


class CombinedEmbedder:
    """Implements `rag_assets.pipeline.vectors.Embedder` with `dense` for all kinds but sparse, and `sparse` for that.

    A text on which one part fails has no vectors from either. Tokens, truncated texts and padding are those of `dense`,
    if it was called.
    """

    def __init__(self, dense: Embedder, sparse: Embedder) -> None:
        self._dense, self._sparse = dense, sparse
        self.call_chars: int | None = getattr(dense, "call_chars", None)
        self.vocabulary: int | None = getattr(sparse, "vocabulary", None)
        # An attribute of the object, because only some sparse parts have it: ingestion counts terms for these.
        if isinstance(sparse, WeighsQueries):
            self.weigh_queries = sparse.weigh_queries

    @property
    def dimension(self) -> int:
        return self._dense.dimension

    @property
    def token_dimension(self) -> int:
        return self._dense.token_dimension

    @property
    def identity(self) -> Mapping[str, str]:
        of_sparse = {f"sparse_{name}": value for name, value in self._sparse.identity.items()}
        return {**self._dense.identity, **of_sparse}

    def embed(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        return self._embed(texts, kinds, self._dense.embed, self._sparse.embed)

    def embed_queries(self, texts: Sequence[str], kinds: Collection[Kind]) -> Embeddings:
        return self._embed(texts, kinds, self._dense.embed_queries, self._sparse.embed_queries)

    def _embed(
        self, texts: Sequence[str], kinds: Collection[Kind], dense: _Embed, sparse: _Embed
    ) -> Embeddings:
        of_dense: list[Kind] = [kind for kind in kinds if kind != "sparse"]
        if len(of_dense) == len(kinds):
            return dense(texts, of_dense)
        if not of_dense:
            return sparse(texts, ["sparse"])
        return self._merge(dense(texts, of_dense), sparse(texts, ["sparse"]))

    def _merge(self, dense: Embeddings, sparse: Embeddings) -> Embeddings:
        assert sparse.sparse is not None
        failures = {**sparse.failures, **dense.failures}
        if not failures:
            return replace(dense, sparse=sparse.sparse)
        kinds: list[Kind] = [
            kind for kind in KINDS if kind == "sparse" or getattr(dense, kind) is not None
        ]
        rows = [row for row in range(len(sparse.sparse)) if row not in failures]
        uncounted = replace(sparse, tokens=0, truncated=0, padding=0)
        return join(
            len(sparse.sparse),
            [(rows, take(dense, rows)), (rows, take(uncounted, rows))],
            kinds,
            (self.dimension, self.token_dimension),
            failures,
        )
