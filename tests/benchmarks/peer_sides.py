"""The sides of `embedded_peers`, and the parameters that each of them tries until it reaches the recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Side:
    """`builds` and `efforts`: the parameters to try, cheapest first. `environment`: None is that of this process."""

    index: str
    environment: str | None = None
    modules: str = ""
    builds: Sequence[Parameters] = ({},)
    efforts: Sequence[Parameters] = ({},)


def each(name: str, *values: int, **fixed: Any) -> list[Parameters]:
    return [{name: value, **fixed} for value in values]


_EF = (64, 128, 256, 512, 1024, 2048, 4096)
#: M and efConstruction.
_GRAPHS = ((16, 256), (32, 400), (64, 500))
_QDRANT = ("Qdrant", "qdrant", "qdrant_client")
_LANCE = ("Lance", "lancedb", "lancedb")
OURS = "rag-assets"
SIDES = {
    OURS: Side("Ours", efforts=each("candidates", 1000, 2000, 4000, 8000)),
    "rag-assets, HNSW": Side(
        "Ours",
        builds=[{"kind": "HNSW", "M": m, "efConstruction": ef} for m, ef in _GRAPHS],
        efforts=each("ef", *_EF[1:]),
    ),
    "Chroma": Side(
        "Chroma",
        "chroma",
        "chromadb",
        [{"max_neighbors": m, "ef_construction": ef} for m, ef in _GRAPHS],
        each("ef_search", *_EF),
    ),
    "Qdrant, memory": Side(*_QDRANT, builds=[{"location": ":memory:"}]),
    "LanceDB, flat": Side(*_LANCE),
    "LanceDB, IVF_HNSW_SQ": Side(
        *_LANCE,
        builds=[
            {"index_type": "IVF_HNSW_SQ", "num_partitions": 1, "m": m, "ef_construction": ef}
            for m, ef in _GRAPHS
        ],
        efforts=each("ef", *_EF, refine_factor=4),
    ),
    "LanceDB, IVF_PQ": Side(
        *_LANCE,
        builds=[{"index_type": "IVF_PQ", "num_sub_vectors": 128}],
        efforts=[
            {"nprobes": lists, "refine_factor": factor}
            for factor in (4, 20, 100)
            for lists in (20, 80, 320)
        ],
    ),
    "FAISS, HNSW": Side(
        "Faiss",
        "faiss",
        "faiss",
        [{"M": m, "efConstruction": ef} for m, ef in _GRAPHS],
        each("ef", *_EF),
    ),
    # Last: it commits each row alone, which takes far longer than rows in memory. The search is the same.
    "Qdrant, local": Side(*_QDRANT),
}
