"""Search: vectors from Milvus, texts from PostgreSQL, and nothing that PostgreSQL does not know.

A chunk whose document was deleted cannot be returned, even while its vectors wait for their deletion.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from rag_assets.pipeline.ranking import rank_by_maxsim, reciprocal_rank_fusion
from rag_assets.pipeline.vectors import Embedder, Embeddings, Kind
from resources.errors import ConfigError
from resources.milvus.collections import ALIASES
from resources.milvus.rows import of_source
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Postgres
from resources.postgres.hydration import hydrate, serving_models

Mode = Literal["dense", "sparse", "hybrid", "multi"]
MODES: tuple[Mode, ...] = get_args(Mode)

#: Candidates that each search of a hybrid gives to the fusion, and more than k where hits may be dropped.
CANDIDATES = 50
#: Query tokens that a multi-vector search asks for; the rest count in the re-ranking.
SEARCHED_TOKENS = 16
#: Chunks whose token vectors are read for the exact MaxSim.
RERANKED = 30


@dataclass(frozen=True, slots=True)
class Hit:
    rank: int
    score: float
    chunk_id: str
    document_id: str
    title: str
    section_title: str | None
    position: int
    source: str
    key: str
    language: str | None
    content: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Searcher:
    """Searches the serving collections. `kinds`: the kinds of vectors that are kept; `limit`: results at most."""

    postgres: Postgres
    milvus: MilvusStore
    embedder: Embedder
    model: str
    kinds: tuple[Kind, ...]
    dense_params: Mapping[str, Any]
    limit: int = 100

    def search(
        self,
        text: str,
        *,
        k: int = 10,
        mode: Mode | None = None,
        source: str | None = None,
        language: str | None = None,
    ) -> list[Hit]:
        """The best k chunks. `mode`: by default hybrid where dense and sparse are kept, else the kind that is.

        Raises ConfigError for empty text, k out of range, a kind that is not kept, or another model than the index's.
        """
        mode = mode or ("hybrid" if {"dense", "sparse"} <= set(self.kinds) else self.kinds[0])
        needed = self._validate(text, k, mode, language)
        query = self.embedder.embed_queries([text], needed)
        if query.failures:
            raise ConfigError(f"This text cannot be searched for: {query.failures[0]}.")
        condition = self._condition(source, language)
        wanted = max(k * 2, CANDIDATES)
        if mode == "multi":
            ranked = self._multi(query, condition, wanted)
        elif mode == "hybrid":
            rankings = [
                [c for c, _ in self._single(kind, query, condition, wanted)] for kind in needed
            ]
            ranked = reciprocal_rank_fusion(rankings)
        else:
            ranked = self._single(needed[0], query, condition, wanted)
        return self._hydrate(ranked, k)

    def _validate(self, text: str, k: int, mode: Mode, language: str | None) -> tuple[Kind, ...]:
        needed: tuple[Kind, ...] = ("dense", "sparse") if mode == "hybrid" else (mode,)
        problems = []
        if not text.strip():
            problems.append("text: expected something to search for, found blanks")
        if not 1 <= k <= self.limit:
            problems.append(f"k: expected 1 to {self.limit}, found {k}")
        if language is not None and not re.fullmatch("[a-z]{2}", language):
            problems.append(f"language: expected an ISO 639-1 code such as ja, found {language!r}")
        for kind in needed:
            if kind not in self.kinds:
                problems.append(
                    f"mode {mode}: {kind} vectors are not kept; "
                    f"set RAG_VECTORS={','.join([*self.kinds, kind])} and run rag ingest"
                )
        if not problems:
            with self.postgres.connect(autocommit=True) as connection:
                serving = serving_models(connection)
            for kind in needed:
                if kind not in serving:
                    problems.append(f"{kind} vectors: none are indexed yet; run: rag ingest")
                elif serving[kind] != self.model:
                    problems.append(
                        f"{ALIASES[kind]} holds vectors of model {serving[kind]}, the embedder is {self.model}; "
                        "run rag ingest to index with it, or set RAG_EMBEDDER back"
                    )
        if problems:
            raise ConfigError("This search cannot be answered:\n  " + "\n  ".join(problems))
        return needed

    def _condition(self, source: str | None, language: str | None) -> str:
        conditions = []
        if source is not None:
            with self.postgres.connect(autocommit=True) as connection:
                from resources.postgres.sources import get_source

                conditions.append(of_source(get_source(connection, source).name))
        if language is not None:
            conditions.append(f'language == "{language}"')
        return " and ".join(conditions)

    def _single(
        self, kind: Kind, query: Embeddings, condition: str, limit: int
    ) -> list[tuple[str, float]]:
        """(chunk id, score), best first."""
        if kind == "dense":
            assert query.dense is not None
            # HNSW finds no more than ef: a search for more must look further.
            params = {**self.dense_params, "ef": max(int(self.dense_params.get("ef", 0)), limit)}
            vector: Any = query.dense[0]
        else:
            assert query.sparse is not None
            params = {}
            vector = dict(zip(query.sparse.indices.tolist(), query.sparse.values.tolist()))
        hits = self.milvus.search(
            ALIASES[kind], vector, limit=limit, params=params, filter=condition
        )
        return [(hit["id"].rsplit("_", 1)[0], float(hit["distance"])) for hit in hits]

    def _multi(self, query: Embeddings, condition: str, limit: int) -> list[tuple[str, float]]:
        """Chunks near any of the query's tokens, ranked by exact MaxSim."""
        assert query.multi is not None
        tokens = query.multi.vectors
        best: dict[str, float] = {}
        params = {**self.dense_params, "ef": max(int(self.dense_params.get("ef", 0)), limit)}
        for vector in tokens[:SEARCHED_TOKENS]:
            near: dict[str, float] = {}
            for hit in self.milvus.search(
                ALIASES["multi"],
                vector,
                limit=limit,
                params=params,
                filter=condition,
                output_fields=("id", "chunk_id"),
            ):
                chunk = hit["entity"]["chunk_id"]
                near[chunk] = max(near.get(chunk, 0.0), float(hit["distance"]))
            for chunk, score in near.items():
                best[chunk] = best.get(chunk, 0.0) + score
        candidates = sorted(best, key=lambda chunk: -best[chunk])[:RERANKED]
        documents = self.milvus.token_vectors(ALIASES["multi"], candidates) if candidates else {}
        return rank_by_maxsim(np.asarray(tokens), documents)

    def _hydrate(self, ranked: Sequence[tuple[str, float]], k: int) -> list[Hit]:
        with self.postgres.connect(autocommit=True) as connection:
            known = hydrate(connection, [uuid.UUID(chunk) for chunk, _ in ranked])
        hits: list[Hit] = []
        for chunk, score in ranked:
            row = known.get(uuid.UUID(chunk))
            if row is not None and len(hits) < k:
                hits.append(Hit(len(hits) + 1, score, chunk, *row))
        return hits
