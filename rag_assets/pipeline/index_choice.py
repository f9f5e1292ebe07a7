"""Which index, and which search parameters: what measurements and a few rules say. Pure numbers.

The rules and where they come from: docs/search-indexes.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rag_assets.pipeline.index_kinds import KINDS, IndexKind, Server


@dataclass(frozen=True)
class Trial:
    """What one set of search parameters found and took. `recall`: of the ten nearest; milliseconds of single searches.

    `best`: no other trial has a higher recall in less time.
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
    """Of (recall, milliseconds): whether no other point is at least as good in both and better in one."""
    return [
        not any(
            recall >= own_recall and ms <= own_ms and (recall, ms) != (own_recall, own_ms)
            for recall, ms in points
        )
        for own_recall, own_ms in points
    ]


def choose(trials: Sequence[Trial], recall: float) -> Trial:
    """Of trials, the cheapest first, the first one that finds so much; where none does, the one that finds most."""
    enough = (trial for trial in trials if trial.recall >= recall)
    return next(enough, None) or max(trials, key=lambda trial: trial.recall)


# Recommendations ---------------------------------------------------------------------------------------------------

#: Of the memory that is given: Milvus refuses to load beyond 90 % of its own, and while segments are merged an index
#: is there twice in part.
USABLE = 0.7
#: Milliseconds of a search that has nothing to read; bytes of vectors read in one more, in a row or here and there:
#: fits the figures of Milvus 2.3.5 on two cores in docs/decisions.md to a millisecond (20,473 rows of 1,024).
REQUEST_MS, SCANNED, VISITED = 3.0, 15e6, 10e6
#: recall@10 -> ef, and the share of the lists to read. Measured there: 128 found 0.98, 1,024 all, a sixteenth 0.976;
#: the others are estimates, which `rag index tune` replaces.
EF = {0.9: 64, 0.95: 128, 0.98: 256, 0.99: 512, 1.0: 1024}
LISTS = {0.9: 1 / 32, 0.95: 1 / 16, 0.98: 1 / 8, 0.99: 1 / 4, 1.0: 1.0}
#: The recall@10 up to which rounded vectors are recommended: estimates. The others reach what is asked for.
ROUNDED = {"IVF_SQ8": 0.97, "HNSW_SQ": 0.97, "DISKANN": 0.98, "IVF_PQ": 0.6, "GPU_IVF_PQ": 0.6}
_GRAPHS = ("HNSW", "HNSW_SQ", "DISKANN", "GPU_CAGRA")

#: The order in which they are preferred, and why one is taken where nothing speaks against it.
_ORDER = {
    "FLAT": "exact, nothing to build and nothing to tune, and so few rows are read fast enough",
    "GPU_BRUTE_FORCE": "exact: the GPU reads every row fast enough",
    "GPU_CAGRA": "a graph in the GPU's memory answers most queries a second",
    "HNSW": "finds most in the least time, and there is memory for the vectors and the graph",
    "IVF_FLAT": "whole vectors, and every row in reach",
    "HNSW_SQ": "the graph fits with a byte a number",
    "IVF_SQ8": "the vectors fit with a byte a number",
    "DISKANN": "the vectors do not fit into memory; they lie on an NVMe",
    "GPU_IVF_PQ": "product quantisation is what fits into the GPU's memory",
    "IVF_PQ": "product quantisation is what fits into memory",
}


@dataclass(frozen=True)
class Wanted:
    """What is asked of an index. `memory`, `gpu_memory`: bytes. `copies`: some texts have hundreds of equal ones."""

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
    """One kind for what is wanted, with parameters, about what it takes, and what speaks `against` it."""

    kind: IndexKind
    params: Mapping[str, Any]
    search: Mapping[str, Any]
    memory_bytes: float
    milliseconds: float
    reason: str
    against: Sequence[str]

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
            "against": list(self.against),
        }


def options(wanted: Wanted) -> list[Option]:
    """Every kind in the order of preference. Recommended is the first that nothing speaks against, if there is one."""
    return [_option(KINDS[name], reason, wanted) for name, reason in _ORDER.items()]


def _option(kind: IndexKind, reason: str, wanted: Wanted) -> Option:
    params = kind.build_defaults(wanted.rows, wanted.dimension)
    if wanted.server == "lite" and "nlist" in params:
        params["nlist"] = 128  # whatever it is told
    search = _search(kind, params, wanted.recall)
    row = kind.bytes_per_row(wanted.dimension, params)
    size, milliseconds = row * wanted.rows, _milliseconds(kind, params, search, row, wanted)
    against = []
    if wanted.server not in kind.servers:
        against.append("not on this server")
    room = wanted.gpu_memory if kind.on_gpu else wanted.memory
    if kind.on_gpu and not room:
        against.append("no GPU")
    elif size > room * USABLE:
        against.append(f"{size / 2**30:,.1f} GiB, of {room / 2**30:,.1f} are {USABLE:.0%} usable")
    if wanted.recall > ROUNDED.get(kind.name, 1.0):
        against.append(f"finds about {ROUNDED[kind.name]:g}")
    if milliseconds > wanted.latency_ms:
        against.append(f"about {milliseconds:,.0f} ms a search")
    if wanted.copies and kind.name in _GRAPHS:
        against.append("rows beside hundreds of copies are out of a graph's reach")
    elif wanted.server == "lite" and kind.name in _GRAPHS:
        against.append("Milvus Lite builds a graph for minutes, and again after a crash")
    return Option(kind, params, search, size, milliseconds, reason, against)


def _search(kind: IndexKind, params: Mapping[str, Any], recall: float) -> dict[str, Any]:
    search = kind.search_defaults(params)
    if "nprobe" in search:
        search["nprobe"] = max(1, round(params["nlist"] * _at_least(LISTS, recall)))
    for name in ("ef", "search_list", "itopk_size"):
        if name in search:
            search[name] = int(_at_least(EF, recall))
    return search


def _at_least(table: Mapping[float, float], recall: float) -> float:
    return table[min(known for known in table if known >= recall)]


def _milliseconds(
    kind: IndexKind,
    params: Mapping[str, Any],
    search: Mapping[str, Any],
    row: float,
    wanted: Wanted,
) -> float:
    """About what a search takes, from the bytes that it reads; rough, as the processor and the disk are not known."""
    whole = 4.0 * wanted.dimension
    if "nprobe" in search:
        lists = float(params["nlist"])
        read = lists * whole + search["nprobe"] / lists * wanted.rows * row
        return REQUEST_MS + read / SCANNED / (20 if kind.on_gpu else 1)
    if kind.name in _GRAPHS:
        visited = max(search.values()) * 16 * math.log10(max(10, wanted.rows)) / 5
        slower = 3 if kind.name == "DISKANN" else 1
        return REQUEST_MS + slower * visited * row / VISITED / (20 if kind.on_gpu else 1)
    return REQUEST_MS + wanted.rows * whole / SCANNED / (20 if kind.on_gpu else 1)
