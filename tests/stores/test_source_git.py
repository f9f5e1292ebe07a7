"""Source type `git` with a bare repository: on this machine, and behind a real HTTP server."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from dulwich.repo import Repo
from dulwich.server import DictBackend
from dulwich.web import HTTPGitApplication, WSGIRequestHandlerLogger, WSGIServerLogger, make_server

from rag_assets.pipeline.entries import Entry
from resources.errors import ConfigError, SourceError, SourceUnavailable
from resources.sources import git
from resources.sources.base import Source
from resources.sources.git import GitConfig, GitSource
from resources.sources.registry import open_source
from tests.support.repositories import commit

FILES = {
    "a.md": b"# A",
    "docs/\xe6\x9d\xb1.md".encode("latin-1").decode(): b"# B",
    ".ci/x.md": b"x",
    "y.link": b"/etc",
}


@pytest.fixture
def repository(tmp_path: Path) -> Repo:
    repository = Repo.init_bare(str(tmp_path / "docs.git"), mkdir=True, default_branch=b"main")
    commit(repository, FILES)
    return repository


@contextmanager
def served(repository: Repo) -> Iterator[str]:
    server = make_server(
        "127.0.0.1",
        0,
        HTTPGitApplication(DictBackend({"/docs.git": repository})),
        handler_class=WSGIRequestHandlerLogger,
        server_class=WSGIServerLogger,
    )
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/docs.git"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(params=["path", "http"])
def source(
    request: pytest.FixtureRequest,
    repository: Repo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Source]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "path":
        yield open_source("git", {"url": repository.path})
    else:
        with served(repository) as url:
            yield open_source("git", {"url": url})


def contents(source: Source) -> dict[str, bytes]:
    return {e.key: content.data for e in source.list() if (content := source.fetch(e))}


def test_a_branch_is_read_without_a_checkout(source: Source) -> None:
    visible = {name: data for name, data in FILES.items() if name not in (".ci/x.md", "y.link")}
    assert contents(source) == visible


def test_a_commit_reveals_the_changed_files_without_reading_them(
    source: Source, repository: Repo
) -> None:
    before = {entry.key: entry.change_token for entry in source.list()}
    changed = {**FILES, "a.md": b"# Z", "new.md": b"# N"}
    changed.pop("docs/東.md")
    commit(repository, changed)
    after = {entry.key: entry.change_token for entry in source.list()}
    assert set(after) == {"a.md", "new.md"}
    assert after["a.md"] != before["a.md"]
    commit(repository, {**changed, "a.md": b"# A"})
    assert {e.key: e.change_token for e in source.list()}["a.md"] == before["a.md"]
    assert contents(source)["new.md"] == b"# N"


def test_the_listing_for_a_sensor_fetches_nothing(source: Source, repository: Repo) -> None:
    remote = source.config.url.startswith("http")  # pyright: ignore[reportAttributeAccessIssue]
    listed = list(source.list())
    assert list(source.list_quickly()) == listed
    commit(repository, {"new.md": b"# N"})
    newest = repository.refs[b"refs/heads/main"].decode()  # pyright: ignore[reportArgumentType]
    entries = list(source.list_quickly())
    assert [entry.key for entry in entries] == [newest if remote else "new.md"]
    assert list(source.list_quickly()) == entries
    assert list(source.list()) == list(source.list_quickly()) != entries or not remote


def test_the_listing_for_a_sensor_ends_when_the_server_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(git, "SENSOR_TIMEOUT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/docs.git"
        began = time.monotonic()
        with pytest.raises(SourceUnavailable):
            list(open_source("git", {"url": url}).list_quickly())
        # One try, not four.
        assert time.monotonic() - began < 4


def test_an_older_version_is_still_fetched_by_its_blob(source: Source, repository: Repo) -> None:
    (old,) = (entry for entry in source.list() if entry.key == "a.md")
    commit(repository, {"a.md": b"# Z"})
    list(source.list())
    content = source.fetch(Entry("a.md", old.locator, None, None))
    assert content is not None and content.data == b"# A"


def test_the_configured_branch_is_read(source: Source, repository: Repo) -> None:
    commit(repository, {"only.md": b"here"}, "next")
    config = source.config.model_copy(update={"branch": "next"})  # pyright: ignore[reportAttributeAccessIssue]
    assert contents(GitSource(config, {})) == {"only.md": b"here"}
    config = config.model_copy(update={"branch": "gone"})
    with pytest.raises(SourceError, match=r"no branch 'gone'; it has: main, next"):
        list(GitSource(config, {}).list())


def test_without_a_default_branch_the_only_one_is_read(repository: Repo) -> None:
    """As behind a plain web server, whose list of branches has no HEAD."""
    repository.refs.set_symbolic_ref(b"HEAD", b"refs/heads/renamed")  # pyright: ignore[reportArgumentType]
    source = open_source("git", {"url": repository.path, "include": ["a.md"]})
    assert contents(source) == {"a.md": b"# A"}
    commit(repository, {"only.md": b"here"}, "next")
    with pytest.raises(SourceError, match=r"default branch. Name one \(it has: main, next\)"):
        list(source.list())


def test_a_server_that_does_not_answer_is_unavailable(repository: Repo) -> None:
    with served(repository) as url:
        pass
    with pytest.raises(SourceUnavailable):
        list(GitSource(GitConfig(url=url), {"username": "u", "password": "hush"}).list())


def test_a_folder_without_a_repository_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not a git repository"):
        list(GitSource(GitConfig(url=str(tmp_path)), {}).list())


def test_a_repository_in_a_form_that_is_not_read_is_named_with_a_way_out(
    repository: Repo, tmp_path: Path
) -> None:
    def reason(url: Path | str) -> str:
        with pytest.raises(SourceError) as caught:
            list(GitSource(GitConfig(url=str(url)), {}).list())
        assert not caught.value.transient
        return str(caught.value)

    assert "does not exist" in reason(tmp_path / "none")
    Repo.init(str(tmp_path / "empty"), mkdir=True)
    assert "no commit yet" in reason(tmp_path / "empty")
    (tmp_path / "empty" / "docs").mkdir()
    assert "a folder of the repository" in (within := reason(tmp_path / "empty" / "docs"))
    assert "--include 'docs/**'" in within

    store = Path(repository.path, "objects")
    blob = next(e for e in GitSource(GitConfig(url=repository.path), {}).list() if e.key == "a.md")
    (store / blob.locator[:2] / blob.locator[2:]).unlink()
    (store / "pack").mkdir(exist_ok=True)
    (store / "pack" / "pack-1.promisor").touch()
    assert "is a partial clone: it lacks a.md" in (partial := reason(repository.path))
    assert "--refetch" in partial

    config = repository.get_config()
    config.set((b"core",), b"repositoryformatversion", b"1")
    config.set((b"extensions",), b"newform", b"true")
    config.write_to_path()
    assert "newform" in reason(repository.path)
    config.remove((b"extensions",), b"newform")
    config.set((b"extensions",), b"refStorage", b"reftable")
    config.write_to_path()
    assert "the form 'reftable'" in (form := reason(repository.path))
    assert "refs migrate --ref-format=files" in form


def test_a_large_file_and_an_lfs_pointer_are_rejected(repository: Repo) -> None:
    commit(
        repository,
        {"big.md": b"x" * 200, "lfs.md": b"version https://git-lfs.github.com/spec/v1\n"},
    )
    source = GitSource(GitConfig(url=repository.path, max_bytes=100), {})
    big, pointer = sorted(source.list(), key=lambda entry: entry.key)
    with pytest.raises(SourceError, match="larger than 100 bytes"):
        source.fetch(big)
    with pytest.raises(SourceError, match="LFS"):
        source.fetch(pointer)


def test_a_damaged_copy_is_fetched_again(source: Source, repository: Repo, tmp_path: Path) -> None:
    contents(source)
    source.close()
    for pack in (tmp_path / "cache").rglob("*.pack"):
        pack.write_bytes(b"damaged")
    commit(repository, {"a.md": b"# Z"})
    for _ in range(2):
        try:
            assert contents(source) == {"a.md": b"# Z"}
            break
        except SourceUnavailable:
            continue
    else:
        pytest.fail("the copy stayed damaged")


def test_a_password_in_the_url_is_rejected_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="credential") as caught:
        open_source("git", {"url": "https://user:hush@example.org/x.git"})
    assert "hush" not in str(caught.value)
