"""Source type `files`: the objects below a URL that fsspec opens (S3, Google, Azure, HTTP, …), or a single one.

The change sign is the ETag or version that the store lists: nothing is read to see that nothing changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from pydantic import Field

from resources.errors import SourceError
from resources.sources.base import Content, Entry, Source
from resources.sources.config import SourceConfig
from resources.sources.globs import Exclude, Include, KeyFilter
from resources.sources.stores import StoreOptions, StoreUrl, answering, open_store, version_of


class FilesConfig(SourceConfig):
    url: StoreUrl = Field(description="s3://bucket/folder, gs://…, abfs://…, https://…/ and others")
    include: Include = Field(default=[])
    exclude: Exclude = Field(default=[])
    options: StoreOptions = Field(default={})
    allow_private_addresses: bool = Field(
        default=False, description="http and https: servers in private networks too"
    )


class FilesSource(Source):
    def __init__(self, config: FilesConfig, credentials: Mapping[str, str]) -> None:
        self.config = config
        self._credentials = credentials
        self._wanted = KeyFilter(config.include, config.exclude)

    @cached_property
    def _store(self) -> tuple[Any, str]:
        return open_store(
            self.config.url,
            self.config.options,
            self._credentials,
            self.config.allow_private_addresses,
        )

    def list(self) -> Iterator[Entry]:
        store, root = self._store
        with answering(self.config.url):
            top = {"type": "directory"} if self.config.url.endswith("/") else store.info(root)
        if top["type"] == "file":
            yield self._entry(root.rsplit("/", 1)[-1], root, top)
            return
        prefix = root.rstrip("/") + "/"
        walk = self._pages if self.config.url.startswith("s3") else self._walk
        for path, info in walk(prefix.rstrip("/")):
            key = path.removeprefix(prefix)
            if self._wanted(key):
                yield self._entry(key, path, info)

    def _entry(self, key: str, path: str, info: Mapping[str, Any]) -> Entry:
        if version_of(info) is None:
            # A web server's index has names only.
            with answering(path):
                info = self._store[0].info(path)
        return Entry(key, path, version_of(info), info.get("size"))

    def _pages(self, folder: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """S3's listing page by page: a folder there may hold millions."""
        store, _ = self._store
        bucket, _, prefix = folder.partition("/")
        wanted = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else ""}
        while True:
            with answering(folder):
                page = store.call_s3("list_objects_v2", **wanted)
            for item in page.get("Contents", ()):
                if not item["Key"].endswith("/"):  # the marker of a folder
                    yield f"{bucket}/{item['Key']}", {**item, "size": item["Size"]}
            if not page.get("IsTruncated"):
                return
            wanted["ContinuationToken"] = page["NextContinuationToken"]

    def _walk(self, folder: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Folder by folder, so that one folder's names are in memory. fsspec's own walk leaves out what fails."""
        store, _ = self._store
        stack = [folder]
        while stack:
            current = stack.pop()
            # A web server's index is found with the slash only.
            named = current + "/" if current.startswith("http") else current
            with answering(current):
                listed = store.ls(named, detail=True)
            for info in sorted(listed, key=lambda info: info["name"]):
                path = info["name"].rstrip("/")
                if path == current or not path.startswith(current + "/"):
                    continue  # the marker of the folder itself; a link that leads elsewhere
                if info["type"] == "directory":
                    stack.append(path)
                else:
                    yield path, info

    def fetch(self, entry: Entry, known: str | None = None) -> Content:
        most = self.config.max_bytes
        if entry.size == 0:
            return Content(b"")
        if (entry.size or 0) > most:
            raise SourceError(f"larger than {most:,} bytes: {entry.size:,}")
        with answering(entry.key):
            data = self._read(entry, most)
        if len(data) > most:
            raise SourceError(f"larger than {most:,} bytes")
        return Content(data)

    def _read(self, entry: Entry, most: int) -> bytes:
        store, _ = self._store
        if not entry.locator.startswith("http"):
            return store.cat_file(entry.locator, start=0, end=most + 1)
        blocks, count = [], 0
        with store.open(entry.locator, "rb", block_size=0) as file:
            while count <= most and (block := file.read(1 << 20)):
                blocks.append(block)
                count += len(block)
        return b"".join(blocks)
