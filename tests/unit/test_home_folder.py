"""A home folder that cannot be used is refused in one sentence that names RAG_HOME and the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from resources.errors import ConfigError
from resources.home_folder import create_home


def test_a_missing_home_is_created_and_an_existing_one_is_kept(tmp_path: Path) -> None:
    home = tmp_path / "a" / "家"
    assert create_home(home) == home == create_home(home)
    assert home.is_dir()
    # Nobody else lists or writes it.
    assert home.stat().st_mode & 0o066 == 0


def test_a_home_that_cannot_be_used_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    for home, reason in (
        (file, "is a file, not a folder"),
        (file / "below", "cannot be created: Not a directory"),
        (Path("/proc/nowhere"), "cannot be created: "),
    ):
        with pytest.raises(ConfigError) as caught:
            create_home(home)
        assert str(caught.value).startswith(f"RAG_HOME={home} {reason}")
        assert "Set RAG_HOME to a folder that you may write to." in str(caught.value)
    # Root may write everywhere, so a refusal is injected.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="cannot be written: Permission denied"):
        create_home(tmp_path)
