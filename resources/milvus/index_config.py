"""How the collections are declared: indexes, their search parameters, shards. Configuration alone, no server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rag_assets.pipeline.index_kinds import index_problems
from rag_assets.pipeline.vectors import Embedder, Kind
from resources.errors import ConfigError
from resources.milvus.collections import Layout


@dataclass(frozen=True)
class IndexConfig:
    """`dense` and `sparse` have index_type, metric_type and params; multi-vectors use the dense index.

    `dense_search`: search parameters of dense and multi-vectors. `shards`: of each collection.
    """

    dense: Mapping[str, Any]
    sparse: Mapping[str, Any]
    dense_search: Mapping[str, Any] = field(default_factory=dict)
    shards: int = 2

    def layout(self, kind: Kind, embedder: Embedder) -> Layout:
        """Return the declaration of this kind's collection. Raises ConfigError if the index does not fit the model."""
        dimensions = {"dense": embedder.dimension, "multi": embedder.token_dimension, "sparse": 0}
        dimension = dimensions[kind]
        index = self.sparse if kind == "sparse" else self.dense
        if kind != "sparse" and (problems := index_problems(index, dimension=dimension)):
            raise ConfigError("RAG_DENSE_INDEX: " + "; ".join(problems))
        return Layout(kind, dimension, index, self.shards)

    def search_params(self, kind: Kind) -> Mapping[str, Any]:
        return {} if kind == "sparse" else self.dense_search
