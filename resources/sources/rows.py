"""Source types `jsonl`, `csv` and `parquet`: one document per row of a file on this machine or in a store.

The key identifies a row; its change token is the hash of its document. The file is read once to list and, if rows
changed, once more to fetch: rows are requested in the order of the listing.
"""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, BinaryIO, ClassVar, Literal

from pydantic import AfterValidator, Field

from rag_assets.pipeline.entries import Content, Entry
from rag_assets.pipeline.identity import content_hash
from resources.errors import SourceError
from resources.sources.base import Source
from resources.sources.columns import ColumnsConfig, document_of, raw_row
from resources.sources.envelope import wrap
from resources.sources.stores import StoreOptions, open_store, remote_url, store_errors

#: Maximum bytes of a CSV field. The default of module csv, 128 KiB, is too small for documents.
FIELD_BYTES = 256 * 1024 * 1024


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

    def list(self) -> Iterator[Entry]:
        for number, row in self._read():
            key = self._key(number, row)
            raw = raw_row(self.config, key, row)
            yield Entry(key, "", content_hash(raw), len(raw))

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
            self._fetched[key] = SourceError("deleted since the listing")

    def _content(self, entry: Entry, row: Mapping[str, Any]) -> Content | SourceError:
        try:
            text, about = document_of(self.config, entry.key, row)
        except SourceError as error:
            return error
        if entry.change_token and content_hash(wrap(text, about)) != entry.change_token:
            return SourceError("changed while it was read; the next run reads it again")
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
        return str(value).encode("utf-8", "backslashreplace").decode().replace("\0", "")

    def _read(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        reader = {"jsonl": self._json_lines, "csv": self._csv, "parquet": self._parquet}
        with store_errors(self.config.path), self._open() as file:
            yield from enumerate(reader[self.config.kind](file))

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        path = self.config.path
        if "://" not in path:
            with open(path, "rb") as file:
                yield file
            return
        store, name = open_store(
            path, self.config.options, self._credentials, self.config.allow_private_addresses
        )
        with store.open(name, "rb") as file:
            yield io.BufferedReader(file, 1 << 20)

    def _json_lines(self, file: BinaryIO) -> Iterator[Mapping[str, Any]]:
        # JSON escapes lengthen the text.
        max_bytes = self.config.max_bytes * 2 + 65536
        number = 0
        while line := file.readline(max_bytes + 1):
            number += 1
            if len(line) > max_bytes:
                raise SourceError(
                    f"Line {number} of {self.config.path} is longer than {max_bytes:,} bytes"
                )
            if not line.strip():
                continue
            try:
                row = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
            # RecursionError: the value is nested deeper than Python's stack.
            except (ValueError, RecursionError) as error:
                raise SourceError(
                    f"Line {number} of {self.config.path} is not JSON ({error}). Nothing was changed."
                ) from None
            if not isinstance(row, dict):
                raise SourceError(f"Line {number} of {self.config.path} is not a JSON object")
            yield row

    def _csv(self, file: BinaryIO) -> Iterator[Mapping[str, Any]]:
        config = self.config
        assert isinstance(config, CsvConfig)
        csv.field_size_limit(FIELD_BYTES)
        encoding = "utf-8-sig" if config.encoding == "utf-8" else config.encoding
        reader = csv.DictReader(
            io.TextIOWrapper(file, encoding=encoding, newline=""), delimiter=config.delimiter
        )
        self._require_columns(reader.fieldnames or ())
        for row in reader:
            if None in row or None in row.values():
                raise SourceError(
                    f"The row that ends in line {reader.line_num} of {config.path} does not have the "
                    f"{len(reader.fieldnames or ())} fields of the header. Nothing was changed."
                )
            yield row

    def _parquet(self, file: BinaryIO) -> Iterator[Mapping[str, Any]]:
        import pyarrow.parquet as parquet

        reader = parquet.ParquetFile(file)
        self._require_columns(reader.schema_arrow.names)
        columns = sorted(self.config.columns) if self.config.metadata != "*" else None
        for batch in reader.iter_batches(batch_size=1024, columns=columns or None):
            yield from batch.to_pylist()

    def _require_columns(self, names: Sequence[str]) -> None:
        if missing := sorted(self.config.columns - set(names)):
            raise SourceError(
                f"{self.config.path} has no {', '.join(missing)}; its columns: {', '.join(names)}"
            )
