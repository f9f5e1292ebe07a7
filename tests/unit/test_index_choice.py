"""Choice of an index: the Pareto front of the measurements, and the rules of recommendation."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.pipeline.index_choice import (
    USABLE,
    IndexRequirements,
    Trial,
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
def test_the_front_contains_the_points_that_nothing_dominates(
    points: list[tuple[float, float]],
) -> None:
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


def test_the_cheapest_trial_with_enough_recall_is_chosen() -> None:
    recalls = {16: 0.8, 32: 0.96, 64: 0.99, 128: 0.99}
    trials = [Trial({"ef": ef}, recall, 1.0, 2.0) for ef, recall in recalls.items()]
    assert choose(trials, 0.95).search == {"ef": 32}
    # No trial reaches it: the cheapest with the highest recall.
    assert choose(trials, 0.999).search == {"ef": 64}


GIB = 2.0**30
NEEDS = IndexRequirements(
    rows=1_000_000, dimension=1024, memory=16 * GIB, latency_ms=20, recall=0.95
)


def recommended(needs: IndexRequirements) -> str | None:
    return next((option.kind.name for option in options(needs) if not option.objections), None)


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
def test_the_recommended_kind_follows_from_the_requirements(
    changes: dict[str, object], expected: str | None
) -> None:
    assert recommended(replace(NEEDS, **changes)) == expected  # pyright: ignore[reportArgumentType]


@given(
    st.integers(1, 10**9),
    st.integers(1, 2048).map(lambda half: 2 * half),
    st.floats(0.5, 1),
    st.sampled_from(["lite", "2.3", "current"]),
)
def test_recommended_indexes_fit_and_can_be_configured(
    rows: int, dimension: int, recall: float, server: str
) -> None:
    needs = replace(
        NEEDS, rows=rows, dimension=dimension, recall=recall, server=server, latency_ms=1e9
    )
    for option in options(needs):
        assert index_problems(option.index, dimension=dimension) == []
        assert search_problems(option.index, option.search) == []
        if not option.objections:
            assert server in option.kind.servers
            assert option.memory_bytes <= needs.memory * USABLE


def test_a_plot_has_every_point() -> None:
    series = {
        "HNSW": [Point(0.8, 1.0, "16"), Point(1.0, 1.0, "32", best=False)],
        "FLAT <&>": [Point(1.0, 250.0, "")],
    }
    drawing = ElementTree.fromstring(curves("A & B", "recall", "ms", series))
    circles = [element for element in drawing.iter() if element.tag.endswith("circle")]
    # Three points, and one circle per name in the legend.
    assert len(circles) == 3 + len(series)
    for circle in circles:
        assert 0 <= float(circle.attrib["cx"]) <= 900 and 0 <= float(circle.attrib["cy"]) <= 480
    assert curves("one", "x", "y", {"a": [Point(0.0, 5.0, "")]})
