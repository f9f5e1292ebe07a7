"""The indexes, how they are searched, and how well a search must do."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from rag_assets.pipeline import index_kinds

#: Decoded by our validator: pydantic-settings stops at its first decoding error and hides the other problems.
Json = Annotated[dict[str, Any], NoDecode]

#: The values of the schema reference.
REFERENCE_INDEX: dict[str, Any] = {
    "index_type": "HNSW",
    "metric_type": "IP",
    "params": {"M": 16, "efConstruction": 256},
}
#: Milvus Lite builds HNSW for minutes at 100,000 rows, and answers nobody while it does so after a crash; its graph
#: also loses most among equal vectors (docs/explanation/index-reachability.md). It has 128 lists, whatever nlist is.
#: Its searches use sketches (`candidates`); the lists answer until these are made.
EMBEDDED_INDEX: dict[str, Any] = {
    "index_type": "IVF_FLAT",
    "metric_type": "IP",
    "params": {"nlist": 128},
}


class SearchSettings(BaseModel):
    """Indexes and searches. The default index depends on `RAG_MILVUS_URI`."""

    dense_index: Json = Field(
        default={},
        description="Index of dense and multi-vectors: index_type, metric_type and params; empty: HNSW, or "
        "IVF_FLAT on Milvus Lite.",
        validate_default=True,
    )
    dense_search: Json = Field(
        default={},
        description='Search parameters of that index, such as {"nprobe": 64}; empty: the defaults of its type.',
        validate_default=True,
    )
    sparse_index: Json = Field(
        default={
            "index_type": "SPARSE_INVERTED_INDEX",
            "metric_type": "IP",
            "params": {"drop_ratio_build": 0.2},
        },
        description="Index of sparse vectors: index_type, metric_type and params.",
    )
    fusion: Literal["weighted", "rrf"] = Field(
        default="weighted",
        description="How hybrid search joins its lists: by their scores, or by reciprocal ranks.",
    )
    min_score: float = Field(
        default=0.01,
        ge=0,
        le=1,
        json_schema_extra={"unit": "relevance"},
        description="Hits of less relevance are not shown, unless a search has its own --min-score; 0 shows all.",
    )
    search_limit: int = Field(
        default=100,
        ge=1,
        le=16384,
        json_schema_extra={"unit": "results"},
        description="Maximum results per search.",
    )
    search_consistency: Literal["Strong", "Session", "Bounded", "Eventually"] = Field(
        default="Bounded",
        description="Milvus's consistency level of searches. Strong waits 0.2 s to see the last second's rows.",
    )
    eval_margin: float = Field(
        default=0.03,
        ge=0,
        le=1,
        json_schema_extra={"unit": "share"},
        description="How far nDCG@10 and the share of answered queries may fall below the accepted evaluation.",
    )

    @field_validator("dense_index", "dense_search", "sparse_index", mode="before")
    @classmethod
    def _decode(cls, value: object) -> object:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError as error:
            raise ValueError(f"expected a JSON object: {error}") from error

    @field_validator("dense_index", "sparse_index", mode="after")
    @classmethod
    def _complete(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        own_milvus = bool(info.data.get("milvus_uri"))
        if not value and info.field_name == "dense_index":
            return dict(REFERENCE_INDEX if own_milvus else EMBEDDED_INDEX)
        if missing := {"index_type", "metric_type"} - value.keys():
            raise ValueError(f"expected {' and '.join(sorted(missing))} in it")
        if info.field_name == "dense_index":
            _raise(index_kinds.index_problems(value, server=None if own_milvus else "lite"))
        return value

    @field_validator("dense_search", mode="after")
    @classmethod
    def _match_index(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        # Absent if dense_index itself is invalid.
        if (index := info.data.get("dense_index")) is None:
            return value
        kind = index_kinds.KINDS[index["index_type"]]
        own_milvus = bool(info.data.get("milvus_uri"))
        server = None if own_milvus else "lite"
        _raise(index_kinds.search_problems(index, value, server=server))
        if value:
            return value
        defaults = kind.search_defaults(index.get("params") or {})
        if not own_milvus and kind.name == EMBEDDED_INDEX["index_type"]:
            defaults[index_kinds.CANDIDATES.name] = index_kinds.CANDIDATES.default
        return defaults


def _raise(problems: list[str]) -> None:
    if problems:
        raise ValueError("; ".join(problems))
