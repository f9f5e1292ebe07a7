"""Choosing an index: the front of what was measured, and the rules of recommendations."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.pipeline.index_choice import (
    USABLE,
    Trial,
    Wanted,
    choose,
    options,
    pareto,
)
from rag_assets.pipeline.index_kinds import index_problems, search_problems
from rag_assets.pipeline.plot import Point, curves

POINTS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 0.9, 1.0]), st.sampled_from([1.0, 2.0, 3.0])), min_size=1
)


@given(POINTS)
def test_the_front_is_what_nothing_dominates(points: list[tuple[float, float]]) -> None:
    best = pareto(points)
    front = [point for point, on_it in zip(points, best) if on_it]
    assert front
    for point, on_it in zip(points, best):
        better = [
            other
            for other in front
            if other != point and other[0] >= point[0] and other[1] <= point[1]
        ]
        assert on_it == (not better)


def test_the_cheapest_that_finds_enough_is_chosen() -> None:
    found = {16: 0.8, 32: 0.96, 64: 0.99, 128: 0.99}
    trials = [Trial({"ef": ef}, recall, 1.0, 2.0) for ef, recall in found.items()]
    assert choose(trials, 0.95).search == {"ef": 32}
    assert choose(trials, 0.999).search == {"ef": 64}  # none does: the most, for the least


GIB = 2.0**30
WANTED = Wanted(rows=1_000_000, dimension=1024, memory=16 * GIB, latency_ms=20, recall=0.95)


def recommended(wanted: Wanted) -> str | None:
    return next((each.kind.name for each in options(wanted) if not each.against), None)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "HNSW"),
        ({"rows": 20_000}, "FLAT"),
        ({"rows": 20_000, "server": "lite"}, "FLAT"),
        ({"rows": 200_000, "server": "lite"}, "IVF_FLAT"),
        ({"copies": True, "latency_ms": 40}, "IVF_FLAT"),
        ({"memory": 3 * GIB}, "HNSW_SQ"),
        ({"memory": 3 * GIB, "server": "2.3"}, "IVF_SQ8"),
        ({"memory": 3 * GIB, "recall": 0.99}, None),
        ({"memory": 3 * GIB, "recall": 0.98, "latency_ms": 50}, "DISKANN"),
        ({"memory": 1 * GIB, "recall": 0.5}, "IVF_PQ"),
        ({"gpu_memory": 24 * GIB}, "GPU_BRUTE_FORCE"),
        ({"gpu_memory": 24 * GIB, "rows": 2_000_000}, "GPU_CAGRA"),
        ({"gpu_memory": 24 * GIB, "server": "2.3"}, "HNSW"),
        ({"latency_ms": 0.5}, None),
    ],
)
def test_the_rules(changes: dict[str, object], expected: str | None) -> None:
    assert recommended(replace(WANTED, **changes)) == expected  # pyright: ignore[reportArgumentType]


@given(
    st.integers(1, 10**9),
    st.integers(1, 2048).map(lambda half: 2 * half),
    st.floats(0.5, 1),
    st.sampled_from(["lite", "2.3", "current"]),
)
def test_what_is_recommended_fits_and_can_be_configured(
    rows: int, dimension: int, recall: float, server: str
) -> None:
    wanted = replace(
        WANTED, rows=rows, dimension=dimension, recall=recall, server=server, latency_ms=1e9
    )
    for each in options(wanted):
        assert index_problems(each.index, dimension=dimension) == []
        assert search_problems(each.index, each.search) == []
        if not each.against:
            assert server in each.kind.servers
            assert each.memory_bytes <= wanted.memory * USABLE


def test_a_plot_has_every_point() -> None:
    series = {
        "HNSW": [Point(0.8, 1.0, "16"), Point(1.0, 1.0, "32", best=False)],
        "FLAT <&>": [Point(1.0, 250.0, "")],
    }
    drawing = ElementTree.fromstring(curves("A & B", "recall", "ms", series))
    circles = [each for each in drawing.iter() if each.tag.endswith("circle")]
    assert len(circles) == 3 + len(series)  # and the legend's
    for circle in circles:
        assert 0 <= float(circle.attrib["cx"]) <= 900 and 0 <= float(circle.attrib["cy"]) <= 480
    assert curves("one", "x", "y", {"a": [Point(0.0, 5.0, "")]})
