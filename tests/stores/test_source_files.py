"""Source type `files` on an S3-compatible server and a web server: its listing, and how it detects changes."""

from __future__ import annotations

from typing import Any

import pytest

from rag_assets.ingestion.fetch import listed_entries
from resources.errors import ConfigError, SourceError, SourceUnavailable
from resources.sources.base import Source
from resources.sources.files import FilesConfig, FilesSource
from resources.sources.registry import open_source
from tests.support.servers import S3, Page, Web, web_server


def on_s3(s3: S3, url: str = "s3://bucket/docs", **config: Any) -> Source:
    return FilesSource(FilesConfig(url=url, options=s3.options, **config), s3.credentials)


def test_objects_are_listed_by_prefix_and_fetched(s3: S3) -> None:
    s3.put("bucket/docs/a.md", "# A")
    s3.put("bucket/docs/deep/東京 b.md", "# B")
    s3.put("bucket/docs/empty.md", "")
    s3.put("bucket/docs/skip.bin", "x")
    s3.put("bucket/docs-of-others/c.md", "# C")
    source = on_s3(s3, include=["*.md"])
    listed = {entry.key: entry for entry in source.list()}
    assert list(listed) == ["a.md", "deep/東京 b.md", "empty.md"]
    contents = {key: content.data for key in listed if (content := source.fetch(listed[key]))}
    assert contents == {"a.md": b"# A", "deep/東京 b.md": b"# B", "empty.md": b""}
    assert [entry.key for entry in on_s3(s3, "s3://bucket/docs/a.md").list()] == ["a.md"]
    assert len(list(on_s3(s3, "s3://bucket/").list())) == 5


def test_the_etag_reveals_a_change_of_equal_size_within_a_second(s3: S3) -> None:
    source = on_s3(s3)
    s3.put("bucket/docs/a.md", "one")
    (first,) = source.list()
    assert list(source.list()) == [first]
    s3.put("bucket/docs/a.md", "two")
    (second,) = source.list()
    assert second.size == first.size
    assert second.change_token != first.change_token


def test_a_listing_of_several_pages_is_complete(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(25):
        s3.put(f"bucket/docs/{number:03}.md", "x")
    source = on_s3(s3)
    store, _ = source._store  # pyright: ignore[reportAttributeAccessIssue]
    call = store.call_s3
    pages = []

    def call_with_small_pages(method: str, **arguments: Any) -> Any:
        page = call(method, **arguments, MaxKeys=10)
        pages.append(len(page["Contents"]))
        return page

    monkeypatch.setattr(store, "call_s3", call_with_small_pages)
    assert [entry.key for entry in source.list()] == [f"{n:03}.md" for n in range(25)]
    assert pages == [10, 10, 5]


def test_a_missing_folder_or_bucket_is_an_error_and_no_empty_listing(s3: S3) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        list(on_s3(s3, "s3://bucket/nothing").list())
    with pytest.raises(SourceError, match="does not exist"):
        list(on_s3(s3, "s3://no-such-bucket/").list())


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    config = FilesConfig(url="s3://bucket/docs/", options={"endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(SourceUnavailable):
        list(FilesSource(config, {"key": "k", "secret": "hush"}).list())


def test_a_large_object_is_rejected(s3: S3) -> None:
    s3.put("bucket/docs/a.md", b"x" * 1001)
    source = on_s3(s3, max_bytes=1000)
    (entry,) = source.list()
    with pytest.raises(SourceError, match="larger than 1,000 bytes"):
        source.fetch(entry)


def test_a_web_folder_is_listed_by_its_index(web: Web) -> None:
    web.put("/docs/", '<a href="../">up</a> <a href="a.md">a</a> <a href="deep/">deep</a>')
    web.put("/docs/deep/", '<a href="b.md">b</a> <a href="http://elsewhere.test/c.md">c</a>')
    web.put("/docs/a.md", "# A")
    web.put("/docs/deep/b.md", "# B")
    source = FilesSource(FilesConfig(url=web.url("/docs/"), allow_private_addresses=True), {})
    listed = {entry.key: entry for entry in source.list()}
    assert sorted(listed) == ["a.md", "deep/b.md"]
    content = source.fetch(listed["deep/b.md"])
    assert content is not None and content.data == b"# B"
    web.put("/docs/a.md", "# Z")
    assert {e.key for e in source.list() if e != listed[e.key]} == {"a.md"}


def test_an_incomplete_web_listing_is_an_error(web: Web) -> None:
    web.put("/docs/", '<a href="a.md">a</a> <a href="deep/">deep</a>')
    web.put("/docs/a.md", "# A")
    source = FilesSource(FilesConfig(url=web.url("/docs/"), allow_private_addresses=True), {})
    web.fault = lambda _, path: 503 if path == "/docs/deep/" else None
    with pytest.raises(SourceUnavailable, match="deep"):
        list(source.list())


def test_an_index_that_lists_nothing_is_an_error_unless_it_is_one_of_an_empty_folder(
    web: Web,
) -> None:
    web.put("/docs/", '<a href="a.md">a</a> <a href="deep/">deep</a>')
    web.put("/docs/a.md", "# A")
    source = FilesSource(FilesConfig(url=web.url("/docs/"), allow_private_addresses=True), {})
    for body in ("", "<p>Log in first</p>", '{"error": "down"}'):
        for path in ("/docs/deep/", "/docs/deep"):
            web.put(path, body)
        with pytest.raises(SourceError, match="--exclude 'deep/\\*\\*'"):
            list(listed_entries("docs", source))
    for body in (
        '<title>Index of /docs/deep</title><a href="/docs/">Up</a>',
        '<a href="../">../</a>',
    ):
        for path in ("/docs/deep/", "/docs/deep"):
            web.put(path, body)
        assert [entry.key for entry in source.list()] == ["a.md"]


def test_an_object_that_is_written_while_it_is_read_is_not_whole() -> None:
    """In a store where objects do not appear as a whole; fsspec's memory stands for SFTP, SMB and others."""
    source = FilesSource(FilesConfig(url="memory://unfinished/docs/"), {})
    store, root = source._store
    store.pipe_file(f"{root}/a.md", b"whole")
    (entry,) = source.list()
    content = source.fetch(entry)
    assert content is not None and (content.data, content.unfinished) == (b"whole", "")
    store.pipe_file(f"{root}/a.md", b"a part")
    content = source.fetch(entry)
    assert content is not None and content.unfinished


def test_a_link_on_a_file_server_is_read_as_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec's memory stands for SFTP, whose listing has the size and the time of the link itself."""
    source = FilesSource(FilesConfig(url="memory://linked/docs/"), {})
    store, root = source._store
    store.pipe_file(f"{root}/a.md", b"A file that a link points to.")
    store.pipe_file(f"{root}/folder/x.md", b"in a folder")
    listed = store.ls(root, detail=True)
    links = [{**info, "type": "link", "size": 7} for info in listed]
    links.append({"name": f"{root}/broken", "type": "link", "size": 7})
    monkeypatch.setattr(store, "ls", lambda path, detail: links if path == root else [])
    (entry,) = source.list()
    assert (entry.key, entry.size) == ("a.md", 29)
    content = source.fetch(entry)
    assert content is not None and content.data == b"A file that a link points to."


def test_no_compressed_answer_is_accepted_whose_end_could_be_missing(web: Web) -> None:
    web.put("/a.md", "# A")
    source = FilesSource(FilesConfig(url=web.url("/a.md"), allow_private_addresses=True), {})
    assert [source.fetch(entry).data for entry in source.list()] == [b"# A"]
    assert {sent["accept-encoding"] for sent in web.headers} == {"identity"}


def test_private_addresses_are_rejected_before_any_request(web: Web) -> None:
    web.put("/a.md", "# A")
    source = FilesSource(FilesConfig(url=web.url("/a.md")), {})
    with pytest.raises(SourceError, match="not a public address"):
        list(source.list())
    assert web.requests == []


def test_credentials_are_not_sent_to_another_server(web: Web) -> None:
    with web_server() as other:
        other.put("/b.md", "# B")
        web.pages["/a.md"] = Page(status=302, headers={"Location": other.url("/b.md")})
        config = FilesConfig(url=web.url("/a.md"), allow_private_addresses=True)
        source = FilesSource(config, {"username": "reader", "password": "hush"})
        assert [source.fetch(entry).data for entry in source.list()] == [b"# B"]
        assert web.headers and all("authorization" in sent for sent in web.headers)
        assert other.headers and not any("authorization" in sent for sent in other.headers)


def test_all_problems_of_a_configuration_are_reported_at_once() -> None:
    config = {
        "url": "s3://key:hush-1@bucket/x",
        "options": {
            "secret": "hush-2",
            "anon": True,
            "client_kwargs": {"aws_secret_access_key": "hush-4"},
            "layers": [{"headers": {"Authorization": "hush-5"}}],
        },
        "include": "*.md",
        "token": "hush-3",
    }
    with pytest.raises(ConfigError) as caught:
        open_source("files", config)
    message = str(caught.value)
    assert "hush" not in message
    assert (
        "set secret, client_kwargs.aws_secret_access_key, layers.0.headers.Authorization" in message
    )
    for name in ("url:", "options:", "include:", "token:"):
        assert name in message
    for url in ("/data", "file:///data", "zip://x::s3://b/c", "s3:///x"):
        with pytest.raises(ConfigError, match="expected the URL of one store"):
            open_source("files", {"url": url})
