"""How much is tested: a few cases and examples in `make test`, always the same ones; all and others in `make soak`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings


def times(factor: float) -> settings:
    """Return settings for so many times the examples of the profile (see tests/conftest.py)."""
    return settings(max_examples=int(factor * settings().max_examples))


def only_in_soak(*cases: Any) -> list[Any]:
    """Return cases as parameters that `make test` leaves out. A tuple is a case of several arguments."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.soak)
        for case in cases
    ]


def selected(cases: Iterable[Any], selection: Iterable[Any]) -> list[Any]:
    """Return all cases as parameters; those outside the selection have the mark `soak`. Ids are the cases' names."""
    chosen = list(selection)
    return [
        pytest.param(case, marks=() if case in chosen else pytest.mark.soak, id=str(case))
        for case in cases
    ]
