"""Source type `files`: the objects below a URL that fsspec opens (S3, Google, Azure, HTTP, …), or a single one.

The change token is the ETag or version in the store's listing, so an unchanged object is never read. Where objects can
be read while they are written (SFTP, SMB, …), one that changes or was changed within seconds is left for the next sync.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

from pydantic import Field

from rag_assets.pipeline.entries import Content, Entry
from resources.errors import SourceError, UnreadablePart
from resources.parsing.charsets import codecs_of, stated_in_content_type
from resources.sources.base import Source
from resources.sources.config import SourceConfig
from resources.sources.endings import missing_end
from resources.sources.globs import Exclude, Include, KeyFilter, folder_glob
from resources.sources.signs import YOUNG
from resources.sources.stores import (
    StoreOptions,
    StoreUrl,
    open_store,
    replaces_whole_objects,
    store_errors,
    version_of,
)

#: A part of every web server's index of a folder that has no files: its title, or the link to the folder above.
_INDEX = re.compile(
    rb"""index of |director(?:y|ies)|listing|href=["']?\.\./?["'> ]|parent""", re.IGNORECASE
)
#: Bytes of an index that are searched for it.
_INDEX_BYTES = 64 * 1024


class FilesConfig(SourceConfig):
    url: StoreUrl = Field(description="s3://bucket/folder, gs://…, abfs://…, https://…/ and others")
    include: Include = Field(default=[])
    exclude: Exclude = Field(default=[])
    options: StoreOptions = Field(default={})
    allow_private_addresses: bool = Field(
        default=False, description="http and https: allow servers in private networks"
    )


class FilesSource(Source):
    def __init__(self, config: FilesConfig, credentials: Mapping[str, str]) -> None:
        self.config = config
        self._credentials = credentials
        self._key_filter = KeyFilter(config.include, config.exclude)

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
        with store_errors(self.config.url):
            top = {"type": "directory"} if self.config.url.endswith("/") else store.info(root)
        if top["type"] == "file":
            yield self._entry(root.rsplit("/", 1)[-1], root, top)
            return
        prefix = root.rstrip("/") + "/"
        walk = self._pages if self.config.url.startswith("s3") else self._walk
        for path, info in walk(prefix.rstrip("/")):
            key = path.removeprefix(prefix)
            if self._key_filter(key):
                yield self._entry(key, path, info)

    def _entry(self, key: str, path: str, info: Mapping[str, Any]) -> Entry:
        if version_of(info) is None:
            # The index of a web server contains names only.
            with store_errors(path):
                info = self._store[0].info(path)
        return Entry(key, path, version_of(info), info.get("size"))

    def _pages(self, folder: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield S3's listing page by page: a folder there may contain millions of objects."""
        store, _ = self._store
        bucket, _, prefix = folder.partition("/")
        request = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else ""}
        while True:
            with store_errors(folder):
                page = store.call_s3("list_objects_v2", **request)
            for item in page.get("Contents", ()):
                # A key that ends with a slash is the marker of a folder.
                if not item["Key"].endswith("/"):
                    yield f"{bucket}/{item['Key']}", {**item, "size": item["Size"]}
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def _walk(self, folder: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield folder by folder, with one folder's names in memory. fsspec's own walk skips folders that fail."""
        store, _ = self._store
        stack = [folder]
        while stack:
            current = stack.pop()
            # A web server returns an index only for a URL with a final slash.
            url = current + "/" if current.startswith("http") else current
            with store_errors(current):
                infos = store.ls(url, detail=True)
            if not infos and current.startswith("http"):
                self._require_index(url, folder)
            for info in sorted(infos, key=lambda info: info["name"]):
                path = info["name"].rstrip("/")
                # Skip the marker of the folder itself, and links to other folders.
                if path == current or not path.startswith(current + "/"):
                    continue
                if info["type"] == "directory":
                    stack.append(path)
                elif info["type"] == "file" or (info := self._linked_file(path)):
                    yield path, info

    def _linked_file(self, path: str) -> Mapping[str, Any] | None:
        """Return the state of the file that a link points to; None if it is broken, or points to a folder.

        A listing has the link's own size and time, which stay as they are when the file changes.
        """
        with store_errors(path), suppress(FileNotFoundError):
            info = self._store[0].info(path)
            return info if info["type"] == "file" else None
        return None

    def _require_index(self, url: str, root: str) -> None:
        """Raise SourceError if a page without links is no index of an empty folder, but an error or an empty answer."""
        with store_errors(url):
            page = self._store[0].cat_file(url)[:_INDEX_BYTES]
        if _INDEX.search(page):
            return
        message = f"{url} lists nothing and is no index of an empty folder: {page[:60]!r}"
        if url.rstrip("/") == root:
            raise SourceError(f"{message}. Nothing was deleted or changed.")
        glob = folder_glob(url.rstrip("/").removeprefix(root + "/"))
        raise UnreadablePart(message, glob, "Repair the server's answer")

    def fetch(self, entry: Entry, previous_token: str | None = None) -> Content:
        max_bytes = self.config.max_bytes
        if entry.size == 0:
            return Content(b"")
        if (entry.size or 0) > max_bytes:
            raise SourceError(f"larger than {max_bytes:,} bytes: {entry.size:,}")
        with store_errors(entry.key):
            data, charset = self._read(entry, max_bytes)
        if len(data) > max_bytes:
            raise SourceError(f"larger than {max_bytes:,} bytes")
        unfinished = ""
        if not replaces_whole_objects(self.config.url):
            unfinished = self._why_unfinished(entry, len(data))
        elif previous_token is not None and (entry.change_token or "").endswith(YOUNG):
            # A web server shows files while they are written.
            unfinished = missing_end(entry.key, data)
        return Content(data, about={"charset": charset} if charset else None, unfinished=unfinished)

    def _why_unfinished(self, entry: Entry, length: int) -> str:
        with store_errors(entry.key):
            info = self._store[0].info(entry.locator)
        version, listed = version_of(info) or "", entry.change_token or ""
        sizes = {info.get("size"), length if entry.size is None else entry.size}
        if sizes != {length} or version.rstrip(YOUNG) != listed.rstrip(YOUNG):
            return "it changed while it was read"
        return "it was changed a moment ago" if version.endswith(YOUNG) else ""

    def _read(self, entry: Entry, max_bytes: int) -> tuple[bytes, str | None]:
        """Return the bytes, and the encoding that a web server states: object stores would need one more request."""
        store, _ = self._store
        if not entry.locator.startswith("http"):
            return store.cat_file(entry.locator, start=0, end=max_bytes + 1), None
        blocks, count = [], 0
        with store.open(entry.locator, "rb", block_size=0) as file:
            charset = stated_in_content_type(file.r.headers.get("content-type", ""))
            while count <= max_bytes and (block := file.read(1 << 20)):
                blocks.append(block)
                count += len(block)
        # UTF-8 needs no statement: such a file is stored without an envelope.
        return b"".join(blocks), None if codecs_of(charset or "") == ("utf-8",) else charset
