"""A wait is reported once, and only if it is long."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from resources import waiting


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, float]]]:
    monkeypatch.setattr(waiting, "NOTICE", 0.02)
    reports: list[tuple[str, float]] = []
    waiting.listen(lambda *report: reports.append(report))
    yield reports
    waiting.listen(None)


def test_only_a_long_wait_is_reported(reports: list[tuple[str, float]]) -> None:
    with pytest.raises(KeyError), waiting.waiting("a failing store", 30):
        raise KeyError
    with waiting.waiting("a quick store", 30):
        pass
    # A wait that ends before the report is due has no timer.
    with waiting.waiting("a short time limit", 0.01):
        pass
    with waiting.waiting("Milvus at http://127.0.0.1:1", 30):
        threading.Event().wait(0.2)
    assert reports == [("Milvus at http://127.0.0.1:1", 30)]
