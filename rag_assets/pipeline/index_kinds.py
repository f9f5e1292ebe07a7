"""The kinds of index for dense vectors, as data: parameters and their limits, memory, and servers.

The limits are those of knowhere, Milvus's index library (`src/index/*/*_config.h`), tried on 2.3.5; the memory formulas
are those of faiss and Milvus. Sources, and when to choose which:
docs/explanation/search-indexes.md. No server is called here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: lite: Milvus Lite 3.2; 2.3: Milvus 2.3 (the server in a wheel); current: Milvus 2.6.
Server = Literal["lite", "2.3", "current"]
ALL: tuple[Server, ...] = ("lite", "2.3", "current")
MILVUS: tuple[Server, ...] = ("2.3", "current")

#: Maximum candidates of a search. knowhere has no limit, but 2.3.5 reserves their memory: ef 2,147,483,647 ended it.
MOST = 32_768


@dataclass(frozen=True)
class Parameter:
    """A whole number from `least` to `most`, or one of `choices`. `default`: ours; None leaves it to the server.

    `tried`: values to tune with, ascending. `results`: the value must not be below the number of requested results.
    """

    name: str
    least: int = 1
    most: int = MOST
    default: int | None = None
    choices: tuple[str | bool, ...] = ()
    tried: tuple[int, ...] = ()
    results: bool = False

    @property
    def expected(self) -> str:
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        return f"a whole number from {self.least} to {self.most}"

    def accepts(self, value: object) -> bool:
        if self.choices:
            return str(value).lower() in [str(choice).lower() for choice in self.choices]
        return type(value) is int and self.least <= value <= self.most


@dataclass(frozen=True)
class IndexKind:
    """`bytes_per_row`: of (dimension, index parameters), in the memory of the server or its GPU; `memory`: the formula.

    `reaches_all`: a search for a row's own vector finds that row or an equal one. `note`: other costs and requirements.
    """

    name: str
    build: tuple[Parameter, ...]
    search: tuple[Parameter, ...]
    bytes_per_row: Callable[[int, Mapping[str, Any]], float]
    memory: str
    servers: tuple[Server, ...]
    note: str
    reaches_all: bool = False

    @property
    def on_gpu(self) -> bool:
        return self.name.startswith("GPU_")

    def build_defaults(self, rows: int, dimension: int) -> dict[str, Any]:
        """Return the parameters for an index of this size."""
        sized = {"nlist": lists(rows), "m": subvectors(dimension)}
        return {name: sized.get(name, value) for name, value in _defaults(self.build).items()}

    def search_defaults(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters for a search of an index that was built with `params`."""
        defaults = _defaults(self.search)
        if "nprobe" in defaults and "nlist" in params:
            defaults["nprobe"] = min(defaults["nprobe"], int(params["nlist"]))
        return defaults

    def trials(self, params: Mapping[str, Any], results: int) -> list[dict[str, Any]]:
        """Return the search parameters worth measuring, cheapest first, for an index that was built with `params`."""
        if not self.search:
            return [{}]
        first, *others = self.search
        most = int(params.get("nlist", first.most)) if first.name == "nprobe" else first.most
        values = sorted({min(value, most) for value in first.tried})
        return [
            {first.name: value, **_defaults(others)}
            for value in values
            if not first.results or value >= results
        ]


def _defaults(parameters: Iterable[Parameter]) -> dict[str, int]:
    return {each.name: each.default for each in parameters if each.default is not None}


def lists(rows: int) -> int:
    """nlist: four times the square root of the rows (Milvus's advice), as a power of two."""
    return min(65_536, 2 ** round(math.log2(max(1.0, 4 * math.sqrt(rows)))))


def subvectors(dimension: int) -> int:
    """m of product quantisation: the largest number of equal parts with four numbers or more each."""
    return next((m for m in range(dimension // 4, 1, -1) if dimension % m == 0), 1)


_NLIST = Parameter("nlist", most=65_536, default=1024)
_NPROBE = Parameter(
    "nprobe", most=65_536, default=64, tried=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
)
_PQ = (
    _NLIST,
    Parameter("m", most=65_536, default=256),
    Parameter("nbits", most=24, default=8),
)
_GRAPH = (Parameter("M", 2, 2048, 16), Parameter("efConstruction", default=256))
_EF = Parameter("ef", default=128, tried=(16, 32, 64, 128, 256, 512, 1024), results=True)


def _floats(dimension: int, _: Mapping[str, Any]) -> float:
    return 4.0 * dimension


def _links(params: Mapping[str, Any]) -> int:
    return 8 * int(params.get("M", 16))


def _quantised(dimension: int, params: Mapping[str, Any]) -> float:
    return int(params.get("m", subvectors(dimension))) * int(params.get("nbits", 8)) / 8 + 8


def _scann(dimension: int, params: Mapping[str, Any]) -> float:
    raw = str(params.get("with_raw_data", True)).lower() == "true"
    return dimension / 4 + 8 + (4 * dimension if raw else 0)


_DESCRIBED = (
    IndexKind(
        "FLAT", (), (), _floats, "4·d", ALL,
        "exact; a search reads every row", reaches_all=True,
    ),
    IndexKind(
        "IVF_FLAT", (_NLIST,), (_NPROBE,), lambda d, _: 4 * d + 8, "4·d + 8", ALL,
        "a search reads nprobe of nlist lists; the inverted file reaches every row", reaches_all=True,
    ),
    IndexKind(
        "IVF_SQ8", (_NLIST,), (_NPROBE,), lambda d, _: d + 8, "d + 8", ALL,
        "one byte per number: scores are rounded",
    ),
    IndexKind(
        "IVF_PQ", _PQ, (_NPROBE,), _quantised, "m·nbits/8 + 8", MILVUS,
        "m must divide the dimension; the smallest and least exact kind",
    ),
    IndexKind(
        "HNSW", _GRAPH, (_EF,), lambda d, p: 4 * d + _links(p), "4·d + 8·M", ALL,
        "slow to build; does not reach all rows where hundreds of texts are equal",
    ),
    IndexKind(
        "HNSW_SQ",
        (*_GRAPH, Parameter("sq_type", choices=("SQ6", "SQ8", "BF16", "FP16"))), (_EF,),
        lambda d, p: d + _links(p), "d + 8·M", ("lite", "current"),
        "as HNSW, with one byte per number",
    ),
    IndexKind(
        "SCANN", (_NLIST, Parameter("with_raw_data", choices=(True, False))),
        (_NPROBE, Parameter("reorder_k", default=200, results=True)), _scann, "4·d + d/4 + 8", MILVUS,
        "needs an even dimension and AVX2; 4 bits per two numbers, exact scores for reorder_k candidates",
    ),
    IndexKind(
        "DISKANN", (),
        (Parameter("search_list", default=128, tried=(16, 32, 64, 128, 256, 512), results=True),),
        lambda d, _: 4 * d * 0.25, "d (¼ of 4·d, by the server's settings)", MILVUS,
        "the vectors are on disk, which must be an NVMe",
    ),
    IndexKind(
        "GPU_CAGRA",
        (Parameter("intermediate_graph_degree", default=128), Parameter("graph_degree", default=64),
         Parameter("build_algo", choices=("IVF_PQ", "NN_DESCENT")),
         Parameter("cache_dataset_on_device", choices=(True, False))),
        (Parameter("itopk_size", default=128, tried=(32, 64, 128, 256, 512), results=True),),
        lambda d, _: 1.8 * 4 * d, "1.8·4·d", ("current",),
        "at most 1,024 results per search; graph_degree below intermediate_graph_degree",
    ),
    IndexKind(
        "GPU_IVF_FLAT", (_NLIST,), (_NPROBE,), _floats, "4·d", MILVUS,
        "at most 1,024 results per search (2.3: 256)", reaches_all=True,
    ),
    IndexKind(
        "GPU_IVF_PQ", _PQ, (_NPROBE,), _quantised, "m·nbits/8 + 8", MILVUS,
        "at most 1,024 results per search",
    ),
    IndexKind(
        "GPU_BRUTE_FORCE", (), (), _floats, "4·d", ("current",),
        "exact; a search reads every row", reaches_all=True,
    ),
)  # fmt: skip

KINDS: Mapping[str, IndexKind] = {kind.name: kind for kind in _DESCRIBED}

#: Search parameters that limit the number of results.
_RESULTS = {parameter.name for kind in _DESCRIBED for parameter in kind.search if parameter.results}

#: Search parameter of the embedded Milvus alone, for any index: rows that are found by sketches of their vectors, and
#: scored exactly (resources/embedded/sketches.py).
CANDIDATES = Parameter("candidates", default=1000, results=True)
_RESULTS.add(CANDIDATES.name)


def wide_enough(params: Mapping[str, Any], results: int) -> dict[str, Any]:
    """Return search parameters wide enough for `results` results: HNSW, for example, finds no more than ef."""
    return {
        name: max(int(value), results) if name in _RESULTS else value
        for name, value in params.items()
    }


def index_problems(
    index: Mapping[str, Any], *, server: Server | None = None, dimension: int | None = None
) -> list[str]:
    """Return the problems of a declared index (index_type, metric_type, params), each with the expected value."""
    kind = KINDS.get(str(index.get("index_type")))
    if kind is None:
        return [
            f"index_type: expected one of {', '.join(KINDS)}, found {index.get('index_type')!r}"
        ]
    problems = []
    if server is not None and server not in kind.servers:
        available = ", ".join(each.name for each in _DESCRIBED if server in each.servers)
        name = {"lite": "Milvus Lite", "2.3": "Milvus 2.3", "current": "Milvus"}[server]
        problems.append(f"index_type: {name} has {available}; found {kind.name}")
    if index.get("metric_type") != "IP":
        problems.append(
            f"metric_type: expected IP (vectors have norm 1), found {index.get('metric_type')!r}"
        )
    params = index.get("params") or {}
    problems += _parameter_problems(kind.name, kind.build, params)
    if not problems and dimension is not None:
        problems += _dimension_problems(kind, params, dimension)
    return problems


def search_problems(
    index: Mapping[str, Any], search: Mapping[str, Any], *, server: Server | None = None
) -> list[str]:
    """Return the problems of search parameters for a declared index."""
    kind = KINDS[index["index_type"]]
    parameters = (*kind.search, CANDIDATES) if server == "lite" else kind.search
    problems = list(_parameter_problems(kind.name, parameters, search))
    nlist = (index.get("params") or {}).get("nlist")
    if not problems and nlist is not None and search.get("nprobe", 1) > nlist:
        problems.append(f"nprobe: expected at most nlist, {nlist}, found {search['nprobe']}")
    return problems


def _parameter_problems(
    kind: str, parameters: tuple[Parameter, ...], values: Mapping[str, Any]
) -> Iterator[str]:
    by_name = {parameter.name: parameter for parameter in parameters}
    for name, value in values.items():
        if name not in by_name:
            expected = ", ".join(by_name) or "no parameters"
            yield f"{name}: {kind} has {expected}"
        elif not by_name[name].accepts(value):
            yield f"{name}: expected {by_name[name].expected}, found {value!r}"


def _dimension_problems(
    kind: IndexKind, params: Mapping[str, Any], dimension: int
) -> Iterator[str]:
    if (m := params.get("m")) and dimension % m:
        yield f"m: expected a divisor of the dimension, {dimension}, found {m}"
    if kind.name == "SCANN" and dimension % 2:
        yield f"SCANN: expected an even dimension, found {dimension}"
