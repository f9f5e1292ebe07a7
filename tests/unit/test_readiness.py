"""Readiness: while a store hangs, one caller waits for it and all others are answered."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from rag_assets.serving import readiness
from rag_assets.serving.readiness import Readiness, ReadinessProbe


def test_one_caller_waits_for_a_store_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "KEPT", 0.0)
    probe = ReadinessProbe(cast(Any, None), cast(Any, None))
    looks, began, answered = [Readiness({"a": "ok"})], threading.Event(), threading.Event()
    monkeypatch.setattr(probe, "_looked", lambda: looks[-1])
    assert probe.look() == looks[-1]

    def hanging() -> Readiness:
        began.set()
        assert answered.wait(10)
        return Readiness({"a": "away"})

    monkeypatch.setattr(probe, "_looked", hanging)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(probe.look)
        assert began.wait(10)
        assert probe.look().is_ready
        answered.set()
        assert not first.result(10).is_ready
