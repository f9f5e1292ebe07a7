"""Source types `jsonl`, `csv` and `parquet`: one document per row of a file on this machine or in a store.

The key identifies a row; its change token is the hash of its document. The file is read once to list and, if rows
changed, once more to fetch: rows are requested in the order of the listing. While another process writes the file, the
rows that are whole are read, and no missing row counts as deleted.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, BinaryIO, ClassVar, Literal

from pydantic import AfterValidator, Field

from rag_assets.pipeline.entries import Content, Entry
from rag_assets.pipeline.identity import content_hash
from resources.errors import SourceChanging, SourceError
from resources.sources.base import Source
from resources.sources.columns import ColumnsConfig, document_of, raw_row
from resources.sources.envelope import wrap
from resources.sources.row_files import csv_rows, json_lines, parquet_rows
from resources.sources.stores import StoreOptions, open_store, remote_url, store_errors
from resources.sources.writers import why_unfinished


def _path_or_url(value: str) -> str:
    if "://" in value:
        return remote_url(value)
    if not os.path.isabs(value):
        raise ValueError("expected an absolute path or a URL")
    return value


class RowsConfig(ColumnsConfig):
    kind: ClassVar[str]
    path: Annotated[str, AfterValidator(_path_or_url)] = Field(
        description="the file: an absolute path, or a URL such as s3://bucket/file"
    )
    options: StoreOptions = Field(default={})
    allow_private_addresses: bool = Field(
        default=False, description="http and https: allow servers in private networks"
    )


class JsonlConfig(RowsConfig):
    kind = "jsonl"


class CsvConfig(RowsConfig):
    kind = "csv"
    delimiter: str = Field(
        default=",", min_length=1, max_length=1, description="separator of the fields"
    )
    encoding: Literal["utf-8", "utf-16", "latin-1", "cp1252", "shift_jis", "gb18030", "euc_kr"] = (
        Field(
            default="utf-8",
            description="encoding of the file; utf-8 with or without a byte order mark",
        )
    )


class ParquetConfig(RowsConfig):
    kind = "parquet"


class RowsSource(Source):
    batched = True

    def __init__(self, config: RowsConfig, credentials: Mapping[str, str]) -> None:
        self.config = config
        self._credentials = credentials
        self._rows: Iterator[tuple[int, Mapping[str, Any]]] = iter(())
        #: Number of the next row of `_rows`; -1 if the file is not open.
        self._next = -1
        self._fetched: dict[str, Content | SourceError] = {}
        self._lock = threading.Lock()
        #: Why the file that was read may be a part.
        self._unfinished = ""

    def list(self) -> Iterator[Entry]:
        for number, row in self._read():
            key = self._key(number, row)
            raw = raw_row(self.config, key, row)
            yield Entry(key, "", content_hash(raw), len(raw))

    @property
    def incomplete(self) -> str:
        return f"{self.config.path}: {self._unfinished}" if self._unfinished else ""

    def column_names(self) -> list[str]:
        """Return the names of the columns of the first row."""
        return list(next(self._read(), (0, {}))[1])

    def prefetch(self, entries: Sequence[Entry]) -> None:
        """Read the rows, in one pass over the file for all batches. Rows without a position are found by key."""
        self._fetched = {}
        self._find(entries)

    def _find(self, entries: Sequence[Entry]) -> None:
        missing = {entry.key: entry for entry in entries}
        positions = [entry.position for entry in entries if entry.position is not None]
        last = max(positions, default=0) if len(positions) == len(missing) else None
        if self._next < 0 or last is None or min(positions, default=0) < self._next:
            self._rows, self._next = self._read(), 0
        while missing and (last is None or self._next <= last):
            number, row = next(self._rows, (-1, {}))
            self._next = number + 1
            if number < 0:
                self._next = -1
                break
            key = self._key(number, row)
            if key in missing:
                self._fetched[key] = self._content(missing.pop(key), row)
        for key in missing:
            self._fetched[key] = SourceChanging("deleted since the listing")

    def _content(self, entry: Entry, row: Mapping[str, Any]) -> Content | SourceError:
        try:
            text, about = document_of(self.config, entry.key, row)
        except SourceError as error:
            return error
        if entry.change_token and content_hash(wrap(text, about)) != entry.change_token:
            return SourceChanging("changed while it was read; the next run reads it again")
        if len(text) > self.config.max_bytes:
            return SourceError(f"larger than {self.config.max_bytes:,} bytes: {len(text):,}")
        return Content(text, about=about)

    def fetch(self, entry: Entry, previous_token: str | None = None) -> Content:
        with self._lock:
            if entry.key not in self._fetched:
                self._find([entry])
            content = self._fetched[entry.key]
        if isinstance(content, SourceError):
            raise content
        return content

    def _key(self, number: int, row: Mapping[str, Any]) -> str:
        if self.config.key is None:
            return f"row-{number + 1:09d}"
        value = row.get(self.config.key)
        if value is None or value == "":
            raise SourceError(
                f"Row {number + 1} of {self.config.path} has no {self.config.key!r}: without a key it cannot be "
                f"distinguished from a deleted row. Nothing was changed. Its fields: {', '.join(map(str, row))}"
            )
        if isinstance(value, bytes):
            value = value.decode("utf-8", "backslashreplace")
        return str(value).encode("utf-8", "backslashreplace").decode().replace("\0", "")

    def _read(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        self._unfinished = ""
        try:
            with store_errors(self.config.path), self._open() as file:
                yield from enumerate(self._rows_in(file))
        except SourceError as error:
            if not self._unfinished:
                raise
            message = (
                f"{error} The file may be a part, since {self._unfinished}: the next sync reads it."
            )
            raise SourceError(message) from None

    def _rows_in(self, file: BinaryIO) -> Iterator[Mapping[str, Any]]:
        config, is_unfinished = self.config, bool(self._unfinished)
        if isinstance(config, CsvConfig):
            return csv_rows(
                file, config, config.path, config.delimiter, config.encoding, is_unfinished
            )
        if isinstance(config, JsonlConfig):
            return json_lines(file, config, config.path, is_unfinished)
        return parquet_rows(file, config, config.path)

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        path = self.config.path
        if os.path.isdir(path):
            raise SourceError(
                f"{path} is a folder; expected one file. Add each of its files as a source, or join them in one"
            )
        if "://" not in path:
            with open(path, "rb") as file:
                before = os.fstat(file.fileno())
                self._unfinished = why_unfinished(file.fileno(), before, now=time.time())
                yield file
                # Again at the end: rows may be written while the others are read.
                self._unfinished = self._unfinished or why_unfinished(
                    file.fileno(), before, now=time.time()
                )
            return
        store, name = open_store(
            path, self.config.options, self._credentials, self.config.allow_private_addresses
        )
        with store.open(name, "rb") as file:
            yield io.BufferedReader(file, 1 << 20)
