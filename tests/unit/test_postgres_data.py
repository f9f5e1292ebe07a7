"""The folder of the embedded PostgreSQL before a start: only PostgreSQL's own folder changes owner and permissions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from resources.embedded.postgres import start_postgres
from resources.embedded.postgres_data import take_over
from resources.errors import StackError

#: Any user other than root.
USER = 12345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change owners")


def test_a_folder_that_is_not_of_postgresql_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "postgres"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("Mine.")
    folder.chmod(0o755)
    folder.parent.chmod(0o700)
    before = [(path.stat().st_uid, path.stat().st_mode) for path in (tmp_path, folder)]
    for start in (
        lambda: take_over(folder, USER, {"user": USER, "group": USER}),
        lambda: start_postgres(folder.parent),
    ):
        with pytest.raises(StackError, match="is not a data folder of PostgreSQL") as caught:
            start()
        assert "\n" not in str(caught.value)
        assert before == [(path.stat().st_uid, path.stat().st_mode) for path in (tmp_path, folder)]
        assert (folder / "notes.txt").stat().st_uid == os.geteuid()


@as_root
def test_a_take_over_that_was_killed_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "postgres"
    (data / "base" / "1").mkdir(parents=True)
    for name in ("PG_VERSION", "base/1/112"):
        (data / name).write_text("18")
    chown, calls = os.chown, iter(range(100))

    def killed_after_three(*args: Any, **kwargs: Any) -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt
        chown(*args, **kwargs)

    credentials = {"user": USER, "group": USER}
    with monkeypatch.context() as fault:
        fault.setattr(os, "chown", killed_after_three)
        with pytest.raises(KeyboardInterrupt):
            take_over(data, USER, credentials)
    take_over(data, USER, credentials)
    assert {path.stat().st_uid for path in (data, *data.rglob("*"))} == {USER}
    assert data.stat().st_mode & 0o777 == 0o700
