"""Source type `folder` on real trees: the listed files, their keys, and the rejected ones."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.ingestion.fetch import listed_entries
from rag_assets.pipeline.entries import Entry
from resources.errors import ConfigError, SourceError, UnreadablePart
from resources.sources.folder import FolderSource
from resources.sources.globs import KeyFilter, exact_glob, exact_key
from resources.sources.registry import open_source
from resources.sources.signs import FINE_TICK
from tests.support.folder_sources import folder, keys, make, unprivileged


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    make(
        tmp_path,
        "a.md",
        "b.txt",
        "docs/c.md",
        "docs/deep/d.md",
        "docs/deep/e.MD",
        "new\nline/f.md",
        "odd/[x].md",
        "odd/*.md",
    )
    make(tmp_path, ".hidden.md", ".git/config", "docs/.cache/x.md")
    return tmp_path


ALL = [
    "a.md",
    "b.txt",
    "docs/c.md",
    "docs/deep/d.md",
    "docs/deep/e.MD",
    "new\nline/f.md",
    "odd/*.md",
    "odd/[x].md",
]


@pytest.mark.parametrize(
    ("globs", "expected"),
    [
        ([], ALL),
        (["**"], ALL),
        # Without "/" a glob matches a name at any depth.
        (["*.md"], [key for key in ALL if key.endswith(".md")]),
        (["**/*.md"], [key for key in ALL if key.endswith(".md")]),
        (["/*.md"], ["a.md"]),
        (["docs/*"], ["docs/c.md"]),
        (["docs/**"], ["docs/c.md", "docs/deep/d.md", "docs/deep/e.MD"]),
        (["docs/"], ["docs/c.md", "docs/deep/d.md", "docs/deep/e.MD"]),
        (["docs/**/d.md"], ["docs/deep/d.md"]),
        (["docs/**/c.md"], ["docs/c.md"]),
        (["?.md"], ["a.md", "docs/c.md", "docs/deep/d.md", "new\nline/f.md", "odd/*.md"]),
        (["[a-c].*"], ["a.md", "b.txt", "docs/c.md"]),
        (["[!a-c].md"], ["docs/deep/d.md", "new\nline/f.md", "odd/*.md"]),
        # A class never spans folders.
        (["docs[!x]c.md"], []),
        (["odd/[[]x].md"], ["odd/[x].md"]),
        (["a.md", "b.*"], ["a.md", "b.txt"]),
        (["aXmd"], []),
    ],
)
def test_globs_select_keys(tree: Path, globs: list[str], expected: list[str]) -> None:
    assert keys(tree, include=globs) == expected
    assert keys(tree, exclude=globs) == (sorted(set(ALL) - set(expected)) if globs else ALL)


NAMES = st.text("ab.*?[]!-^\\{}()|+$", min_size=1, max_size=6)


@given(NAMES.filter(lambda name: name not in (".", "..")), NAMES)
def test_globs_of_names_match_as_in_the_shell(name: str, glob: str) -> None:
    """Compared with the standard library's fnmatch, except for classes, of which it has more forms, and `**`."""
    if "[" in glob or "**" in glob:
        return
    from resources.sources.globs import compile_globs

    pattern = compile_globs((glob,))
    assert pattern is not None
    assert (pattern.fullmatch(name) is not None) == fnmatchcase(name, glob)
    assert (pattern.fullmatch("folder/" + name) is not None) == fnmatchcase(name, glob)


def test_hidden_files_are_skipped_unless_configured(tree: Path) -> None:
    assert keys(tree) == ALL
    assert keys(tree, hidden=True) == sorted(
        [*ALL, ".hidden.md", ".git/config", "docs/.cache/x.md"]
    )


def test_an_entry_contains_its_size_and_a_token_that_changes_with_the_file(tmp_path: Path) -> None:
    make(tmp_path, "a.md")
    source = folder(tmp_path)
    (first,) = source.list()
    assert (first.key, first.size, source.fetch(first).data) == ("a.md", 4, b"a.md")
    os.utime(tmp_path / "a.md", ns=(0, 12345))
    (touched,) = source.list()
    assert touched.change_token != first.change_token and touched.locator == first.locator
    # A file changed this moment may change again within the same tick of the clock: its token is not the last one.
    assert touched.change_token == f"{old_token(source)}?"
    assert list(source.list()) == list(source.list())


def old_token(source: FolderSource) -> str | None:
    """Return the token of the only file when its last change is no longer young."""
    time.sleep(FINE_TICK * 1.5)
    (entry,) = source.list()
    return entry.change_token


@pytest.mark.parametrize("way", ["in place", "moved"])
def test_another_text_of_equal_size_and_time_has_another_token(tmp_path: Path, way: str) -> None:
    """As after `cp -p`, `mv`, a restored backup, `rsync --times` and tools that fix all times."""
    make(tmp_path, "a.md")
    os.utime(tmp_path / "a.md", (10**9, 10**9))
    source = folder(tmp_path)
    before = old_token(source)
    assert old_token(source) == before
    target = tmp_path / ("a.md" if way == "in place" else ".new")
    target.write_bytes(b"A.MD")
    os.utime(target, (10**9, 10**9))
    target.rename(tmp_path / "a.md")
    assert old_token(source) != before


def test_links_are_followed_only_to_files_inside(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "root-outside"
    make(root, "a.md", "docs/b.md")
    make(outside, "secret.md")
    (root / "inside.md").symlink_to("docs/b.md")
    (root / "out.md").symlink_to(outside / "secret.md")
    (root / "parent.md").symlink_to("../root-outside/secret.md")
    (root / "broken.md").symlink_to("nothing")
    (root / "self.md").symlink_to("self.md")
    (root / "loop").symlink_to(".")
    (root / "docs" / "up").symlink_to("..")
    (root / "folder").symlink_to("docs")
    (root / "chain.md").symlink_to("out.md")
    assert keys(root) == ["a.md", "docs/b.md", "inside.md"]
    # The folder itself may be a link.
    (tmp_path / "link").symlink_to(root)
    assert keys(tmp_path / "link") == ["a.md", "docs/b.md", "inside.md"]


def test_a_link_that_leads_outside_since_the_listing_is_not_fetched(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make(root, "a.md", "docs/b.md")
    make(tmp_path, "secret.md")
    source = folder(root)
    listed = {entry.key: entry for entry in source.list()}
    (root / "a.md").unlink()
    (root / "a.md").symlink_to(tmp_path / "secret.md")
    shutil.rmtree(root / "docs")
    (root / "docs").symlink_to(tmp_path)
    for key in ("a.md", "docs/b.md"):
        with pytest.raises(SourceError):
            source.fetch(listed[key])
    with pytest.raises(SourceError, match="out of the folder"):
        source.fetch(Entry("x", "../secret.md", "", None))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (b"caf\xe9.md", "caf\\xe9.md"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("q\"uo'te.md", "q\"uo'te.md"),
        ("back\\slash.md", "back\\slash.md"),
        ("per%20cent.md", "per%20cent.md"),
        (" spaces .md ", " spaces .md "),
        ("new\nline.md", "new\nline.md"),
        ("東京/資料.md", "東京/資料.md"),
        ("می‌شود.md", "می‌شود.md"),
        ("🗼.md", "🗼.md"),
        (unicodedata.normalize("NFD", "ガイド/é.md"), unicodedata.normalize("NFC", "ガイド/é.md")),
    ],
)
def test_any_name_has_a_key_and_is_fetched(tmp_path: Path, name: str | bytes, key: str) -> None:
    make(tmp_path, name)
    source = folder(tmp_path)
    (entry,) = source.list()
    assert entry.key == key
    # PostgreSQL requires UTF-8.
    entry.key.encode()
    assert source.fetch(entry).data == os.fsencode(name)


def test_globs_are_compared_in_nfc(tmp_path: Path) -> None:
    make(tmp_path, unicodedata.normalize("NFD", "ガイド.md"), "x.md")
    for form in ("NFC", "NFD"):
        glob = unicodedata.normalize(form, "ガ*")  # pyright: ignore[reportArgumentType]
        assert keys(tmp_path, include=[glob]) == [unicodedata.normalize("NFC", "ガイド.md")]


def test_two_files_with_one_key_are_an_error(tmp_path: Path) -> None:
    make(tmp_path, unicodedata.normalize("NFC", "é.md"), unicodedata.normalize("NFD", "é.md"))
    with pytest.raises(SourceError, match="one key"):
        keys(tmp_path)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that user nobody may read: pytest closes its own folders to other users."""
    with tempfile.TemporaryDirectory(prefix="rag-folder-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_a_folder_that_cannot_be_read_fails_the_listing(open_folder: Path) -> None:
    """Otherwise the entries missing from the listing would be deleted."""
    make(open_folder, "a.md", "docs/b.md", "zoo/c.md")
    os.chmod(open_folder / "docs", 0)
    try:
        with unprivileged(), pytest.raises(SourceError, match="docs"):
            list(folder(open_folder).list())
    finally:
        os.chmod(open_folder / "docs", 0o755)
    assert keys(open_folder) == ["a.md", "docs/b.md", "zoo/c.md"]


def test_the_glob_of_an_unreadable_folder_excludes_it(open_folder: Path) -> None:
    """A folder that a glob excludes as a whole is not listed, so it need not be readable."""
    make(open_folder, "a.md", "docs/[x]?/b.md", "docs/c.md")
    os.chmod(open_folder / "docs" / "[x]?", 0)
    try:
        with unprivileged():
            with pytest.raises(UnreadablePart) as unreadable:
                keys(open_folder)
            with pytest.raises(SourceError, match="rag sources change 'my docs' --exclude '"):
                list(listed_entries("my docs", folder(open_folder)))
            assert keys(open_folder, exclude=[unreadable.value.glob]) == ["a.md", "docs/c.md"]
            assert keys(open_folder, exclude=["docs/"]) == ["a.md"]
            # This glob leaves other files of the folder in the source.
            with pytest.raises(UnreadablePart):
                keys(open_folder, exclude=["docs/*/*.txt"])
    finally:
        os.chmod(open_folder / "docs" / "[x]?", 0o755)


@given(st.text(st.sampled_from("a*?[]!-."), min_size=1, max_size=6))
def test_the_glob_of_a_key_matches_it_alone(name: str) -> None:
    accepts = KeyFilter([exact_glob(name)], [])
    assert accepts(name) and exact_key(exact_glob(name)) == name
    assert not accepts(f"sub/{name}") and not accepts(f"{name}x")


def test_only_the_file_that_cannot_be_read_fails(open_folder: Path) -> None:
    make(open_folder, "a.md", "b.md")
    os.chmod(open_folder / "a.md", 0)
    source = folder(open_folder)
    with unprivileged():
        a, b = sorted(source.list(), key=lambda entry: entry.key)
        assert source.fetch(b).data == b"b.md"
        with pytest.raises(SourceError, match="Permission denied"):
            source.fetch(a)


def test_files_and_folders_may_vanish_during_a_listing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    make(root, "a.md", "b.md", "docs/c.md")
    source = folder(root)
    listing = source.list()
    first = next(listing)
    (root / "b.md").unlink()
    # b.md was deleted after its folder was read.
    assert {entry.key for entry in listing} == {"docs/c.md"}
    (root / first.key).unlink()
    with pytest.raises(SourceError, match="No such file"):
        source.fetch(first)
    shutil.rmtree(root)
    with pytest.raises(SourceError, match="mounted"):
        list(source.list())
    root.write_text("a file")
    with pytest.raises(SourceError):
        list(source.list())


def test_a_pipe_is_not_listed(tmp_path: Path) -> None:
    make(tmp_path, "a.md")
    os.mkfifo(tmp_path / "pipe.md")
    assert keys(tmp_path) == ["a.md"]


def test_all_problems_of_a_configuration_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        open_source(
            "folder",
            {
                "path": "relative/path",
                "include": 5,
                "exclude": ["", 7, "[z-a]"],
                "hidden": "yes",
                "language": "japanese",
                "recursive": True,
            },
        )
    problems = str(caught.value).splitlines()[1:-1]
    assert sorted(problem.strip().split(":")[0] for problem in problems) == [
        "exclude",
        "exclude",
        "exclude",
        "hidden",
        "include",
        "language",
        "path",
        "recursive",
    ]


@pytest.mark.parametrize("config", [{}, {"path": ""}, {"path": 5}, {"path": "/x", "include": "*"}])
def test_each_invalid_setting_is_an_error(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"path|include"):
        open_source("folder", config)


def test_an_unknown_type_is_an_error_that_lists_the_types() -> None:
    with pytest.raises(ConfigError, match=r"'ftp'.*folder"):
        open_source("ftp", {})
