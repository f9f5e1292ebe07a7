"""Specifications of sources and files: mistakes are reported before anything is read, written or measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from rag_assets.cli.plots import expect_writable
from rag_assets.operations.source_specs import check_source, target_config
from resources.errors import ConfigError


def test_an_invalid_url_is_reported_without_its_password() -> None:
    with pytest.raises(ConfigError, match=r"http://u:\*\*\*@\[::1/x is not a path or a URL"):
        target_config("http://u:hush@[::1/x")


def test_a_schedule_longer_than_its_column_is_rejected(tmp_path: Path) -> None:
    schedule = ",".join(map(str, range(60))) + " * * * *"
    (problem,) = check_source("folder", {"path": str(tmp_path)}, schedule, [])
    assert "of 100 characters at most" in problem
    assert check_source("folder", {"path": str(tmp_path)}, "*/5 * * * *", []) == []


def test_an_unwritable_plot_is_rejected_before_any_measurement(tmp_path: Path) -> None:
    expect_writable(None)
    expect_writable(tmp_path / "plot.svg")
    for path in (tmp_path, tmp_path / "none" / "plot.svg"):
        with pytest.raises(ConfigError, match="--plot: expected a file"):
            expect_writable(path)
