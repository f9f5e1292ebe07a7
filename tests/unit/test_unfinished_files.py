"""Source type `folder`: a file that another process is writing is left for the next sync."""

from __future__ import annotations

import mmap
import threading
from pathlib import Path

import pytest

from resources.sources import writers
from tests.support.folder_sources import folder, make


def unfinished(root: Path, *, known: bool = False) -> dict[str, str]:
    """Return key -> why the file is not whole. `known`: it was read before."""
    source = folder(root)
    return {e.key: source.fetch(e, "old" if known else None).unfinished for e in source.list()}


def test_a_file_that_is_open_for_writing_is_not_whole(tmp_path: Path) -> None:
    make(tmp_path, "a.md", "b.md")
    assert set(unfinished(tmp_path).values()) == {""}
    with open(tmp_path / "a.md", "r+b") as file, open(tmp_path / "b.md", "rb"):
        assert unfinished(tmp_path) == {
            "a.md": "another process has it open for writing",
            "b.md": "",
        }
        mapped = mmap.mmap(file.fileno(), 4)
    # A mapping keeps writing after its file is closed.
    assert unfinished(tmp_path)["a.md"]
    mapped.close()
    assert not unfinished(tmp_path)["a.md"]


def test_a_file_that_is_open_but_at_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "log.md")
    monkeypatch.setattr(writers, "PATIENCE", -1.0)
    with open(tmp_path / "log.md", "ab"):
        assert unfinished(tmp_path) == {"log.md": ""}


def test_writers_are_found_without_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems without leases, and files of other users: then the open files in /proc tell of some writers."""
    make(tmp_path, "a.md", "b.md")
    monkeypatch.setattr("fcntl.F_SETLEASE", -1)
    monkeypatch.setattr(writers, "_scanned", (-1e9, frozenset()))
    monkeypatch.setattr(writers, "_QUIET", 0.05)
    with open(tmp_path / "a.md", "ab"):
        assert unfinished(tmp_path) == {
            "a.md": "another process has it open for writing",
            "b.md": "",
        }


def test_a_closed_file_of_another_machine_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS and SMB refuse leases also of files that nobody has open."""
    make(tmp_path, "a b/a.md")
    mounts = [("/", "ext4"), (f"{tmp_path}/a b/", "nfs4")]
    monkeypatch.setattr(writers, "_mounts", lambda _: mounts)
    monkeypatch.setattr("fcntl.fcntl", lambda *_: pytest.fail("a lease was asked for"))
    monkeypatch.setattr(writers, "_QUIET", 0.05)
    assert unfinished(tmp_path) == {"a b/a.md": ""}


def test_a_file_that_changes_while_it_is_read_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system does not tell who has it open: a writer on another machine."""
    make(tmp_path, "a.md")
    monkeypatch.setattr("resources.sources.writers.is_open_for_writing", lambda _: None)
    monkeypatch.setattr(writers, "_QUIET", 0.2)
    path = tmp_path / "a.md"
    writer = threading.Timer(0.05, lambda: path.write_bytes(b"a.md and more"))
    writer.start()
    assert unfinished(tmp_path) == {"a.md": "it changed while it was read"}
    writer.join()
    assert unfinished(tmp_path) == {"a.md": ""}


def test_a_known_file_that_lost_its_end_is_not_whole(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"id": 1}, {"id"')
    # A new file has no text to lose, and the parser reports what is wrong with it.
    assert unfinished(tmp_path) == {"a.json": ""}
    assert "not closed" in unfinished(tmp_path, known=True)["a.json"]
