"""Choice of an index and of its search parameters, by measurements and a few rules. Pure numbers.

The rules and their sources: docs/explanation/search-indexes.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_assets.pipeline.index_kinds import KINDS, IndexKind, Server


@dataclass(frozen=True)
class Trial:
    """Recall of the ten nearest, and milliseconds of single searches, with one set of search parameters.

    `best`: the trial is on the Pareto front of recall and time.
    """

    search: Mapping[str, Any]
    recall: float
    p50: float
    p95: float
    best: bool = False

    @property
    def label(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.search.items()) or "exact"

    def as_dict(self) -> dict[str, Any]:
        return {
            "search": dict(self.search),
            "recall@10": round(self.recall, 4),
            "p50_ms": round(self.p50, 3),
            "p95_ms": round(self.p95, 3),
            "pareto": self.best,
        }


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Return for each (recall, milliseconds) whether no other point is at least as good in both and better in one."""
    return [
        not any(
            recall >= own_recall and ms <= own_ms and (recall, ms) != (own_recall, own_ms)
            for recall, ms in points
        )
        for own_recall, own_ms in points
    ]


#: Rows below which comparing every vector takes a few milliseconds, so that recall would be given up for nothing.
EXACT_ROWS = 10_000


def advice_against_tuning(rows: int) -> str | None:
    """Return why the search parameters of so few rows are best left alone; None for more rows."""
    if rows >= EXACT_ROWS:
        return None
    return f"exact search is fast enough at {rows:,} rows: leave the parameters as they are"


def choose(trials: Sequence[Trial], recall: float) -> Trial:
    """Return the first trial that reaches `recall`, else the one with the highest. `trials`: the cheapest first."""
    enough = (trial for trial in trials if trial.recall >= recall)
    return next(enough, None) or max(trials, key=lambda trial: trial.recall)


# Recommendations ---------------------------------------------------------------------------------------------------

#: Usable share of the memory: Milvus does not load beyond 90 % of its memory, and while it merges segments, parts of an
#: index exist twice.
USABLE = 0.7
#: Milliseconds of a search that reads nothing; bytes of vectors read in a further millisecond, sequentially or at
#: random. Fits the figures of Milvus 2.3.5 on two cores in docs/explanation/index-reachability.md to a millisecond
#: (20,473 rows of 1,024).
REQUEST_MS, SCANNED, VISITED = 3.0, 15e6, 10e6
#: recall@10 -> ef, and -> the share of the lists to read. Measured there: ef 128 found 0.98, 1,024 all, a sixteenth of
#: the lists 0.976; the other values are estimates, which `rag index tune` replaces.
EF = {0.9: 64, 0.95: 128, 0.98: 256, 0.99: 512, 1.0: 1024}
LISTS = {0.9: 1 / 32, 0.95: 1 / 16, 0.98: 1 / 8, 0.99: 1 / 4, 1.0: 1.0}
#: Highest recall@10 that rounded vectors are recommended for: estimates. The other kinds reach any recall.
ROUNDED = {"IVF_SQ8": 0.97, "HNSW_SQ": 0.97, "DISKANN": 0.98, "IVF_PQ": 0.6, "GPU_IVF_PQ": 0.6}
_GRAPHS = ("HNSW", "HNSW_SQ", "DISKANN", "GPU_CAGRA")

#: The kinds in order of preference, each with the reason to choose it if there is no objection.
_PREFERENCE = {
    "FLAT": "exact, nothing to build or to tune, and fast enough for this number of rows",
    "GPU_BRUTE_FORCE": "exact: the GPU reads every row fast enough",
    "GPU_CAGRA": "a graph in the GPU's memory answers the most queries per second",
    "HNSW": "highest recall in the least time, and the vectors and the graph fit into memory",
    "IVF_FLAT": "vectors are not rounded, and a search can reach every row",
    "HNSW_SQ": "the graph fits into memory with one byte per number",
    "IVF_SQ8": "the vectors fit into memory with one byte per number",
    "DISKANN": "the vectors do not fit into memory; they are read from an NVMe disk",
    "GPU_IVF_PQ": "product quantisation fits into the GPU's memory",
    "IVF_PQ": "product quantisation fits into memory",
}


@dataclass(frozen=True)
class IndexRequirements:
    """Requirements for an index. `memory`, `gpu_memory`: bytes. `copies`: some texts have hundreds of equal ones."""

    rows: int
    dimension: int
    memory: float
    latency_ms: float
    recall: float
    server: Server = "current"
    gpu_memory: float = 0.0
    copies: bool = False


@dataclass(frozen=True)
class Option:
    """One kind of index with parameters, estimates of memory and time, and the `objections` to it."""

    kind: IndexKind
    params: Mapping[str, Any]
    search: Mapping[str, Any]
    memory_bytes: float
    milliseconds: float
    reason: str
    objections: Sequence[str]

    @property
    def index(self) -> dict[str, Any]:
        return {
            "index_type": self.kind.name,
            "metric_type": "IP",
            "params": dict(self.params),
        }

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.index,
            "search": dict(self.search),
            "memory_bytes": round(self.memory_bytes),
            "milliseconds": round(self.milliseconds, 1),
            "reason": self.reason,
            "against": list(self.objections),
        }


def options(needs: IndexRequirements) -> list[Option]:
    """Return every kind in order of preference. The first one without objections, if any, is recommended."""
    return [_option(KINDS[name], reason, needs) for name, reason in _PREFERENCE.items()]


def _option(kind: IndexKind, reason: str, needs: IndexRequirements) -> Option:
    params = kind.build_defaults(needs.rows, needs.dimension)
    if needs.server == "lite" and "nlist" in params:
        # Milvus Lite builds 128 lists, whatever number it receives.
        params["nlist"] = 128
    search = _search_params(kind, params, needs.recall)
    row_bytes = kind.bytes_per_row(needs.dimension, params)
    size = row_bytes * needs.rows
    milliseconds = _milliseconds(kind, params, search, row_bytes, needs)
    objections = []
    if needs.server not in kind.servers:
        objections.append("not available on this server")
    memory = needs.gpu_memory if kind.on_gpu else needs.memory
    if kind.on_gpu and not memory:
        objections.append("no GPU")
    elif size > memory * USABLE:
        objections.append(
            f"needs {size / 2**30:,.1f} GiB; {USABLE:.0%} of {memory / 2**30:,.1f} GiB are usable"
        )
    if needs.recall > ROUNDED.get(kind.name, 1.0):
        objections.append(f"recall of about {ROUNDED[kind.name]:g}")
    if milliseconds > needs.latency_ms:
        objections.append(f"about {milliseconds:,.0f} ms per search")
    if needs.copies and kind.name in _GRAPHS:
        objections.append("a graph does not reach rows beside hundreds of copies")
    elif needs.server == "lite" and kind.name in _GRAPHS:
        objections.append("Milvus Lite takes minutes to build a graph, and again after each crash")
    return Option(kind, params, search, size, milliseconds, reason, objections)


def _search_params(kind: IndexKind, params: Mapping[str, Any], recall: float) -> dict[str, Any]:
    search = kind.search_defaults(params)
    if "nprobe" in search:
        search["nprobe"] = max(1, round(params["nlist"] * _at_least(LISTS, recall)))
    for name in ("ef", "search_list", "itopk_size"):
        if name in search:
            search[name] = int(_at_least(EF, recall))
    return search


def _at_least(table: Mapping[float, float], recall: float) -> float:
    return table[min(level for level in table if level >= recall)]


def _milliseconds(
    kind: IndexKind,
    params: Mapping[str, Any],
    search: Mapping[str, Any],
    row_bytes: float,
    needs: IndexRequirements,
) -> float:
    """Estimate the time of a search from the bytes that it reads. Rough: the processor and the disk are unknown."""
    vector_bytes = 4.0 * needs.dimension
    speed = 20 if kind.on_gpu else 1
    if "nprobe" in search:
        lists = float(params["nlist"])
        read = lists * vector_bytes + search["nprobe"] / lists * needs.rows * row_bytes
        return REQUEST_MS + read / SCANNED / speed
    if kind.name in _GRAPHS:
        visited = max(search.values()) * 16 * math.log10(max(10, needs.rows)) / 5
        slowdown = 3 if kind.name == "DISKANN" else 1
        return REQUEST_MS + slowdown * visited * row_bytes / VISITED / speed
    return REQUEST_MS + needs.rows * vector_bytes / SCANNED / speed
