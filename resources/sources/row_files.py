"""The rows in a file of JSON Lines, CSV or Parquet. Each reads the whole file or raises SourceError.

`is_unfinished`: another process is writing the file. Then a last row that may be a part is left out.
"""

from __future__ import annotations

import csv
import io
import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

from resources.errors import SourceError
from resources.sources.columns import ColumnsConfig, check_columns, check_names
from resources.sources.compression import GZIP_START
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
            reason = _compressed(line) or _array(line, number) or f"is not JSON ({error})"
            raise SourceError(f"{where} {reason}. Nothing was changed.") from None
        if not isinstance(row, dict):
            raise SourceError(f"{where} {_array(line, number) or 'is not a JSON object'}")
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
    except UnicodeDecodeError as error:
        other = "utf-16" if error.object.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "cp1252"
        reason = _compressed(error.object) or (
            f"is not in the encoding {encoding.removesuffix('-sig')} ({error.reason}); name its encoding, such as: "
            f"rag sources change NAME --set encoding={other}"
        )
        raise SourceError(f"{path} {reason}. Nothing was changed.") from None
    finally:
        # Else its end closes the file, which the caller still needs.
        text.detach()


def _compressed(start: bytes) -> str:
    return (
        "is compressed with gzip; decompress it: gunzip FILE"
        if start.startswith(GZIP_START)
        else ""
    )


def _array(line: bytes, number: int) -> str:
    expected = "begins an array; expected one object a line: jq -c '.[]' FILE > FILE.jsonl"
    return expected if number == 1 and line.lstrip().startswith(b"[") else ""


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
        try:
            rows = batch.to_pylist()
        except (ValueError, OverflowError, LookupError):
            # A value that Python cannot represent, such as a date in the year 10000.
            rows = _rows_one_by_one(batch, path)
        yield from rows


def _rows_one_by_one(batch: Any, path: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a batch of Parquet; a value that Python cannot represent is Arrow's text of it."""
    for number in range(batch.num_rows):
        yield {
            name: _value(column[number], name, path)
            for name, column in zip(batch.schema.names, batch.columns)
        }


def _value(scalar: Any, name: str, path: str) -> Any:
    import pyarrow as arrow

    try:
        return scalar.as_py()
    except (ValueError, OverflowError, LookupError):
        pass
    try:
        return scalar.cast(arrow.string()).as_py()
    except arrow.ArrowException as error:
        raise SourceError(
            f"The column {name!r} of {path} has a value of the type {scalar.type} that cannot be read: {error}. "
            "Nothing was changed."
        ) from None


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
