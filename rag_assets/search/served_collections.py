"""The collections that searches read: those behind the aliases, or others by name. They must match the search."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rag_assets.pipeline.vectors import Embeddings, Kind
from resources.errors import ConfigError, StoreUnavailable
from resources.milvus.collections import ALIASES
from resources.milvus.store import MilvusStore
from resources.postgres.search.hydration import Serving


@dataclass(frozen=True)
class ServedCollections:
    """`model`: the fingerprint of the model of the queries. `instead`: collections to read instead of the aliases'."""

    milvus: MilvusStore
    model: str
    instead: Mapping[Kind, str] = field(default_factory=dict[Kind, str])
    fields: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])

    @property
    def names(self) -> Mapping[Kind, str]:
        return {**ALIASES, **self.instead}

    def require_model(
        self, serving: Iterable[Serving], kinds: Sequence[Kind], query: Embeddings
    ) -> None:
        """Raise ConfigError unless the collections of these kinds contain vectors of the queries' model."""
        served = {collection.kind: collection for collection in serving}
        problems: list[str] = []
        for kind in kinds:
            if kind not in served:
                problems.append(self._not_indexed(kind))
            elif served[kind].model != self.model:
                problems.append(
                    f"{ALIASES[kind]} contains vectors of model {served[kind].model}, the embedder is {self.model}; "
                    "run rag ingest to index with it, or set RAG_EMBEDDER back"
                )
            elif kind == "dense" and query.dense is not None:
                dimension = query.dense.shape[1]
                if served[kind].dimension != dimension:
                    problems.append(
                        f"{ALIASES[kind]} has dimension {served[kind].dimension}, the query's vector {dimension}"
                    )
        if problems:
            raise ConfigError("This search cannot be answered:\n  " + "\n  ".join(problems))

    def _not_indexed(self, kind: Kind) -> str:
        try:
            if reason := self.milvus.capabilities.problem(kind):
                return f"{kind} vectors: {reason}; remove {kind} from RAG_VECTORS"
        except StoreUnavailable:
            # Without an answer, the reason is only that nothing is indexed.
            pass
        return f"{kind} vectors: none are indexed yet; run: rag ingest"

    def require_fields(self, kinds: Sequence[Kind], columns: Collection[str]) -> None:
        """Raise ConfigError if a collection lacks a field of the filters: Milvus would find no row."""
        for name in (self.names[kind] for kind in kinds):
            if self.fields.get(name, frozenset()).issuperset(columns):
                continue
            self.fields[name] = self.milvus.fields(name)
            if missing := set(columns) - self.fields[name]:
                raise ConfigError(
                    f"{name} was made by an earlier version and cannot be filtered by {', '.join(sorted(missing))}. "
                    "Make it again, from Parquet and without a model call: rag rebuild milvus"
                )
