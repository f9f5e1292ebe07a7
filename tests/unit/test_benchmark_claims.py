"""Claims about a benchmark's figures: medians of ratios, spread, verdict, and rows that were not run."""

from __future__ import annotations

from pkgutil import iter_modules
from typing import Any

import pytest

from tests import benchmarks
from tests.benchmarks.claims import CLAIMS, COLUMNS, Claim, Measured, cells, number, of_module
from tests.benchmarks.ingestion import ROWS
from tests.benchmarks.report import markdown

PAIRS = [(10.0, 20.0), (30.0, 20.0), (12.0, 100.0)]


@pytest.mark.parametrize(
    "claim,reached",
    [
        ({"target": 0.5}, "yes"),
        ({"target": 0.49}, "no"),
        ({"target": 0.5, "relation": "≥"}, "yes"),
        ({"target": 0.51, "relation": "≥"}, "no"),
        # The ratio must be equal in each round.
        ({"target": 0.5, "relation": "="}, "no"),
    ],
)
def test_the_median_of_the_rounds_ratios_is_judged(claim: dict[str, Any], reached: str) -> None:
    row = cells(Claim("1", "m", "a", "b", **claim), Measured({"1": PAIRS}))
    # Not 12 / 20, the ratio of the medians.
    assert row[3:7] == ("12.0 s", "20.0 s", "0.500", "0.120 to 1.50")
    assert row[8] == reached


def test_an_equality_must_be_true_in_every_round() -> None:
    claim = Claim("10", "m", "a", "b", 1, "=", "")
    assert cells(claim, Measured({"10": [(657, 657), (660, 660)]}))[8] == "yes"
    assert cells(claim, Measured({"10": [(657, 657), (660, 661), (1, 1)]}))[8] == "no"


def test_a_row_that_was_not_run_shows_the_reason() -> None:
    claims = (Claim("1", "m", "a", "b", 0.6), Claim("2", "m", "a", "c", 0.6))
    lines = markdown(claims, Measured({"1": PAIRS}, {"2": "no interpreter"})).splitlines()
    assert [line.count("|") for line in lines] == [len(COLUMNS) + 1] * 4
    assert lines[3] == "| 2 | a | c |  |  |  |  | ≤ 0.6 | not run: no interpreter |"


def test_figures_are_rounded_to_the_significant_digits() -> None:
    assert [number(value) for value in (0.046, 1.049, 12.34, 1234.5)] == ["0.046", "1.05", "12.3", "1,234"]  # fmt: skip


def test_each_row_is_measured_by_its_module() -> None:
    rows = [claim.row for claim in CLAIMS]
    assert len(set(rows)) == len(rows)
    assert set(ROWS) == set(of_module("ingestion"))
    assert {claim.module for claim in CLAIMS} <= {
        name for _, name, _ in iter_modules(benchmarks.__path__)
    }
