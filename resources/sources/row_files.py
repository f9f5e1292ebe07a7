"""The rows in a file of JSON Lines, CSV or Parquet. Each reads the whole file or raises SourceError.

`is_unfinished`: another process is writing the file. Then a last row that may be a part is left out.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

from resources.errors import SourceError
from resources.sources.columns import ColumnsConfig, check_columns, check_names
from resources.sources.endings import is_unclosed

#: Maximum bytes of a CSV field. The default of module csv, 128 KiB, is too small for documents.
FIELD_BYTES = 256 * 1024 * 1024
#: Maximum forms of rows, by the names in them, that are remembered as checked.
MAX_FORMS = 1000


def json_lines(
    file: BinaryIO, config: ColumnsConfig, path: str, is_unfinished: bool
) -> Iterator[Mapping[str, Any]]:
    # JSON escapes lengthen the text.
    max_bytes = config.max_bytes * 2 + 65536
    number = 0
    forms: set[tuple[str, ...]] = set()
    while line := file.readline(max_bytes + 1):
        number += 1
        where = f"Line {number} of {path}"
        if len(line) > max_bytes:
            raise SourceError(f"{where} is longer than {max_bytes:,} bytes")
        if not line.strip():
            continue
        try:
            row = json.loads(line.removeprefix(b"\xef\xbb\xbf"), object_pairs_hook=_object)
        # RecursionError: the value is nested deeper than Python's stack.
        except (ValueError, RecursionError) as error:
            if is_unfinished and not line.endswith(b"\n"):
                return
            raise SourceError(f"{where} is not JSON ({error}). Nothing was changed.") from None
        if not isinstance(row, dict):
            raise SourceError(f"{where} is not a JSON object")
        names = row.names if isinstance(row, _Repeated) else tuple(row)
        if names not in forms:
            check_names(config, names, where)
            if len(forms) < MAX_FORMS:
                forms.add(names)
        _check_values(config, row, where)
        yield row


def _check_values(config: ColumnsConfig, row: Mapping[str, Any], where: str) -> None:
    for column in config.columns if config.metadata != "*" else row:
        value = row.get(column)
        if isinstance(value, dict | list) and (repeated := _repeated_within(value)):
            raise SourceError(
                f"{where} has the name {repeated!r} twice within {column!r}. Nothing was changed."
            )


def csv_rows(
    file: BinaryIO,
    config: ColumnsConfig,
    path: str,
    delimiter: str,
    encoding: str,
    is_unfinished: bool,
) -> Iterator[Mapping[str, Any]]:
    csv.field_size_limit(FIELD_BYTES)
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    text = io.TextIOWrapper(file, encoding=encoding, newline="")
    try:
        yield from _csv_rows(_Lines(text), config, path, delimiter, is_unfinished)
    finally:
        # Else its end closes the file, which the caller still needs.
        text.detach()


def _csv_rows(
    lines: _Lines, config: ColumnsConfig, path: str, delimiter: str, is_unfinished: bool
) -> Iterator[Mapping[str, Any]]:
    reader = csv.reader(lines, delimiter=delimiter)
    header = next(reader, None)
    if header is None:
        raise SourceError(
            f"{path} is empty: expected a line with the names of the columns. Nothing was changed."
        )
    check_columns(config, header, path)

    def is_part() -> bool:
        whole = text.endswith(("\n", "\r")) and not is_unclosed(text, delimiter)
        return is_unfinished and not whole

    lines.take()
    waiting: Mapping[str, Any] | None = None
    text = ""
    for row in reader:
        # Only a row behind it shows that this one is not the last, which may be a part.
        if waiting is not None:
            yield waiting
            waiting = None
        text = lines.take()
        if row and len(row) != len(header):
            if is_part():
                return
            raise SourceError(
                f"The row that ends in line {reader.line_num} of {path} does not have the {len(header)} fields of the "
                "header. Nothing was changed."
            )
        waiting = dict(zip(header, row)) if row else None
    if waiting is None or is_part():
        return
    if is_unclosed(text, delimiter):
        raise SourceError(f"The last row of {path} ends within quotes. Nothing was changed.")
    yield waiting


def parquet_rows(file: BinaryIO, config: ColumnsConfig, path: str) -> Iterator[Mapping[str, Any]]:
    import pyarrow.parquet as parquet

    reader = parquet.ParquetFile(file)
    check_columns(config, reader.schema_arrow.names, path)
    columns = sorted(config.columns) if config.metadata != "*" else None
    for batch in reader.iter_batches(batch_size=1024, columns=columns or None):
        yield from batch.to_pylist()


class _Lines:
    """The lines of a text. `take` returns those since the last call: the text of a row of CSV."""

    def __init__(self, text: Iterable[str]) -> None:
        self._text = iter(text)
        self._row: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for line in self._text:
            self._row.append(line)
            yield line

    def take(self) -> str:
        text = "".join(self._row)
        self._row = []
        return text


class _Repeated(dict[str, Any]):
    """A JSON object that has a name twice. `names`: all, in their order."""

    names: tuple[str, ...] = ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) == len(pairs):
        return row
    repeated = _Repeated(row)
    repeated.names = tuple(name for name, _ in pairs)
    return repeated


def _repeated_within(value: Any) -> str | None:
    """Return a name that an object in the value has twice; None if there is none."""
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, _Repeated):
            return next(name for name in value.names if value.names.count(name) > 1)
        if isinstance(value, dict | list):
            stack.extend(value.values() if isinstance(value, dict) else value)
    return None
