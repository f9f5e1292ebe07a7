"""Kinds of index as data: the descriptions are consistent with themselves and with Milvus Lite."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from milvus_lite.index.factory import build_index_from_spec
from milvus_lite.index.spec import IndexSpec

from rag_assets.pipeline.index_kinds import (
    KINDS,
    IndexKind,
    index_problems,
    search_problems,
    wide_enough,
)

EVERY = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
ANY = st.sampled_from(list(KINDS.values()))


@given(ANY, st.integers(1, 10**9), st.integers(1, 512).map(lambda half: 2 * half))
def test_defaults_and_trials_are_within_the_limits(
    kind: IndexKind, rows: int, dimension: int
) -> None:
    params = kind.build_defaults(rows, dimension)
    index = {"index_type": kind.name, "metric_type": "IP", "params": params}
    assert index_problems(index, dimension=dimension) == []
    trials = kind.trials(params, 10)
    for search in (kind.search_defaults(params), *trials):
        assert search_problems(index, search) == []
        assert wide_enough(search, 10) == search
    assert len({str(trial) for trial in trials}) == len(trials) > 0


@given(ANY, st.integers(-5, 70_000))
def test_a_number_is_rejected_exactly_outside_its_limits(kind: IndexKind, value: int) -> None:
    for parameter in kind.build:
        index = {
            "index_type": kind.name,
            "metric_type": "IP",
            "params": {parameter.name: value},
        }
        problems = index_problems(index)
        within = not parameter.choices and parameter.least <= value <= parameter.most
        assert (problems == []) == within
        assert within or f"{parameter.name}: expected {parameter.expected}" in problems[0]


def test_bytes_per_row_match_a_calculation_by_hand() -> None:
    """For vectors of 1,024 numbers."""
    cost = {
        name: kind.bytes_per_row(1024, kind.build_defaults(100_000, 1024))
        for name, kind in KINDS.items()
    }
    assert cost == {
        "FLAT": 4096,
        "IVF_FLAT": 4104,
        "IVF_SQ8": 1032,
        "IVF_PQ": 264,
        "HNSW": 4096 + 128,
        "HNSW_SQ": 1024 + 128,
        "SCANN": 4096 + 256 + 8,
        "DISKANN": 1024,
        "GPU_CAGRA": pytest.approx(7372.8),
        "GPU_IVF_FLAT": 4096,
        "GPU_IVF_PQ": 264,
        "GPU_BRUTE_FORCE": 4096,
    }
    assert KINDS["IVF_FLAT"].build_defaults(100_000, 1024) == {"nlist": 1024}


def test_parameters_that_do_not_fit_the_dimension_are_rejected() -> None:
    index = {"index_type": "IVF_PQ", "metric_type": "IP", "params": {"nlist": 8, "m": 7}}
    assert index_problems(index, dimension=64) == [
        "m: expected a divisor of the dimension, 64, found 7"
    ]
    index = {"index_type": "SCANN", "metric_type": "IP", "params": {"nlist": 8}}
    assert index_problems(index, dimension=63)


@EVERY
def test_milvus_lite_builds_exactly_the_kinds_described_for_it(kind: IndexKind) -> None:
    vectors = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    spec = IndexSpec("vector", kind.name, "IP", kind.build_defaults(300, 8), {})
    try:
        build_index_from_spec(spec, vectors)
        built = True
    except (NotImplementedError, ValueError):
        built = False
    assert built == ("lite" in kind.servers)
