"""The precision and the devices of BGE-M3 by default, without loading it."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.embedders.bge_m3 import BgeM3Embedder
from resources.embedders.local_models import default_device


@pytest.mark.parametrize(
    ("device", "precision"), [("cuda:0", "fp16"), ("mps", "fp32"), ("cpu", None)]
)
def test_the_automatic_precision_follows_the_device(device: str, precision: str | None) -> None:
    identity = BgeM3Embedder(device=device).identity
    cpuinfo = Path("/proc/cpuinfo")
    has_bf16 = cpuinfo.is_file() and "_bf16" in cpuinfo.read_text()
    assert identity["precision"] == (precision or ("bf16" if has_bf16 else "fp32"))


@pytest.mark.parametrize(
    ("visible", "expected"), [(None, "cuda:0,cuda:1"), ("1", "cuda:0"), ("", "cpu")]
)
def test_every_visible_device_is_used(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: str
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.13.0")
    monkeypatch.setattr(Path, "glob", lambda *_: iter(["nvidia0", "nvidia1"]))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert default_device() == expected
