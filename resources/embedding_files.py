"""Embeddings as Parquet: one file per flush, append-only, read by (file, row).

Columns: text_hash; dense as FixedSizeList; sparse_indices and sparse_values as lists; multi as one flat list per row
with its token count. Vectors are stored plain (no dictionary, no compression: floats of embeddings do not compress).
The schema's metadata names the model and the version that wrote the file, for readers without PostgreSQL.
The stage records the contents of a file in PostgreSQL, after the file has its name.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rag_assets.pipeline.vectors import Embeddings, Kind, Multi, Sparse
from resources.arrow_arrays import numbers, texts, to_numpy
from resources.extras import DISTRIBUTION
from resources.files import FileStore, WrittenFile

if TYPE_CHECKING:
    from resources.postgres.vectors.embeddings import EmbeddingFile

#: Rows per row group, the unit of reading. 512 rows of 1024 float32 are 2 MB.
ROW_GROUP_ROWS = 512
#: A file is closed when it reaches this size, and small files are compacted to it. A crash or a damaged file loses this
#: much at most, a verification reads it whole, and forgetting one text rewrites it. 10^8 texts of 1,024 numbers are
#: 6,900 files.
FILE_BYTES = 64 * 1024 * 1024
#: Files verified at a time.
HASHERS = 4
#: Keys of the schema's metadata.
MODEL_FINGERPRINT, MODEL_NAME = "rag_assets.model_fingerprint", "rag_assets.model"
KINDS_KEY, VERSION = "rag_assets.kinds", "rag_assets.version"
#: The columns of each kind.
COLUMNS: Mapping[str, list[str]] = {
    "dense": ["dense"],
    "sparse": ["sparse_indices", "sparse_values"],
    "multi": ["multi", "multi_tokens"],
}


class _HashingFile:
    """A file that hashes the bytes written to it: the checksum is not computed from bytes read again."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest, self.count, self.closed = file, hashlib.sha256(), 0, False

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.count += len(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()

    def tell(self) -> int:
        return self.count

    def close(self) -> None:
        """Leave the file open: pyarrow closes its output, but the owner must sync the file first."""
        self.closed = True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def to_table(
    text_hashes: Sequence[str], vectors: Embeddings, *, precision: str = "float32"
) -> pa.Table:
    """Return one row per text, in order. A kind that is None has no column."""
    dtype = np.float16 if precision == "float16" else np.float32
    columns: dict[str, pa.Array] = {"text_hash": texts(text_hashes)}
    if vectors.dense is not None:
        flat = numbers(np.asarray(vectors.dense, dtype).ravel())
        columns["dense"] = pa.FixedSizeListArray.from_arrays(flat, vectors.dense.shape[1])
    if vectors.sparse is not None:
        offsets = numbers(vectors.sparse.indptr.astype(np.int32))
        columns["sparse_indices"] = pa.ListArray.from_arrays(
            offsets, numbers(vectors.sparse.indices)
        )
        columns["sparse_values"] = pa.ListArray.from_arrays(offsets, numbers(vectors.sparse.values))
    if vectors.multi is not None:
        width = vectors.multi.vectors.shape[1] if vectors.multi.vectors.ndim == 2 else 0
        flat = numbers(np.asarray(vectors.multi.vectors, dtype).ravel())
        offsets = numbers((vectors.multi.offsets * width).astype(np.int64))
        columns["multi"] = pa.LargeListArray.from_arrays(offsets, flat)
        columns["multi_tokens"] = numbers(np.diff(vectors.multi.offsets).astype(np.int32))
    return pa.table(columns)


def write_tables(
    store: FileStore, model: str, tables: Iterable[pa.Table], model_name: str = ""
) -> WrittenFile:
    """Write the tables (at least one), concatenated, to a new file. It is durable when this returns.

    `model`: the fingerprint. `model_name`: empty for tables that were read from files, which have it in their metadata.
    """
    name = f"embeddings/{model}/{uuid.uuid4().hex}.parquet"
    groups = _row_groups(tables)
    first = next(groups)
    schema = first.schema.with_metadata(_metadata(first.schema, model, model_name))
    with store.replace(name) as file:
        sink = _HashingFile(file)
        with pq.ParquetWriter(
            sink, schema, use_dictionary=False, compression="none", write_statistics=False
        ) as writer:
            for group in chain([first], groups):
                writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
    return WrittenFile(name, sink.count, sink.digest.hexdigest())


def _metadata(schema: pa.Schema, model: str, model_name: str) -> dict[str, str]:
    """Return the metadata of a new file. Files of earlier versions have none."""
    columns = set(schema.names)
    values = {
        MODEL_FINGERPRINT: model,
        MODEL_NAME: model_name or (schema.metadata or {}).get(MODEL_NAME.encode(), b"").decode(),
        KINDS_KEY: ",".join(kind for kind in COLUMNS if columns.issuperset(COLUMNS[kind])),
        VERSION: _version(),
    }
    return {key: value for key, value in values.items() if value}


@cache
def _version() -> str:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return ""


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the same rows in whole row groups: otherwise each table of a few rows becomes a row group."""
    pending: list[pa.Table] = []
    count = 0
    for table in tables:
        pending.append(table)
        count += len(table)
        if count >= ROW_GROUP_ROWS:
            whole = pa.concat_tables(pending)
            end = count - count % ROW_GROUP_ROWS
            yield whole.slice(0, end)
            pending, count = [whole.slice(end)], count - end
    if count:
        yield pa.concat_tables(pending)


def read_rows(store: FileStore, path: str, rows: NDArray[np.int64]) -> Iterator[pa.Table]:
    """Yield the given rows (ascending) of a file, with all columns, row group by row group."""
    with pq.ParquetFile(store.open(path)) as parquet:
        start = 0
        for group in range(parquet.num_row_groups):
            count = parquet.metadata.row_group(group).num_rows
            low, high = np.searchsorted(rows, [start, start + count])
            if high > low:
                yield parquet.read_row_group(group).take(numbers(rows[low:high] - start))
            start += count


def damaged(store: FileStore, files: Sequence[EmbeddingFile]) -> list[tuple[EmbeddingFile, str]]:
    """Return the damaged files, each with its damage. Reads each file whole."""
    # SHA-256 runs outside the interpreter lock.
    with ThreadPoolExecutor(HASHERS) as pool:
        reasons = pool.map(lambda file: damage(store, file), files)
        return [(file, reason) for file, reason in zip(files, reasons) if reason is not None]


def damage(store: FileStore, file: EmbeddingFile) -> str | None:
    """Return how a file differs from its record, or None. Reads it whole, 1 MiB at a time."""
    path, size = file.written.path, store.size(file.written.path)
    if size is None:
        return "the file is gone"
    if size != file.written.byte_count:
        return f"expected {file.written.byte_count} bytes, found {size}"
    try:
        if (checksum := store.checksum(path).checksum) != file.written.checksum:
            return f"expected SHA-256 {file.written.checksum[:12]}…, found {checksum[:12]}…"
        with pq.ParquetFile(store.open(path)) as parquet:
            rows, columns = parquet.metadata.num_rows, set(parquet.schema_arrow.names)
    except (OSError, pa.ArrowException) as error:
        return f"cannot be read: {str(error).splitlines()[0]}"
    if rows != file.row_count or {c for kind in file.kinds for c in COLUMNS[kind]} - columns:
        return (
            f"expected {file.row_count} rows of {', '.join(file.kinds)}, "
            f"found {rows} of {', '.join(sorted(columns))}"
        )
    return None


@dataclass
class EmbeddingReader:
    """A reader of embedding files that keeps the last file and row group open (rows come in file order)."""

    store: FileStore
    kind: Kind
    _path: str = ""
    _file: pq.ParquetFile | None = None
    _starts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    _group: int = -1
    _table: pa.Table | None = None

    def read(self, path: str, rows: Sequence[int]) -> pa.Table:
        """Return rows of one file, in the order of `rows`. Raises OSError or pa.ArrowException on damage."""
        places = np.asarray(rows, np.int64)
        self._open(path)
        groups = np.searchsorted(self._starts, places, side="right") - 1
        parts = [
            self._row_group(int(group)).take(numbers(places[run] - self._starts[group]))
            for group, run in _runs(groups)
        ]
        return pa.concat_tables(parts)

    def _open(self, path: str) -> None:
        if path == self._path:
            return
        self._file = pq.ParquetFile(self.store.open(path))
        counts = [
            self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)
        ]
        self._starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
        self._path, self._group = path, -1

    def _row_group(self, group: int) -> pa.Table:
        assert self._file is not None
        if group != self._group or self._table is None:
            self._table = self._file.read_row_group(group, columns=COLUMNS[self.kind])
            self._group = group
        return self._table


def _runs(groups: NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """Yield the runs of equal values: (value, slice)."""
    edges = np.flatnonzero(np.diff(groups)) + 1
    start = 0
    for end in [*edges.tolist(), len(groups)]:
        if end > start:
            yield int(groups[start]), slice(start, end)
        start = end


def dense_rows(table: pa.Table) -> NDArray[np.float32]:
    """Return float32 [rows, dimension]."""
    column = table["dense"].combine_chunks()
    flat = to_numpy(column.flatten())
    return flat.astype(np.float32, copy=False).reshape(len(column), -1)


def sparse_rows(table: pa.Table) -> Sparse:
    indices = table["sparse_indices"].combine_chunks()
    values = table["sparse_values"].combine_chunks()
    lengths = to_numpy(indices.value_lengths())
    return Sparse(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        to_numpy(indices.flatten()).astype(np.uint32, copy=False),
        to_numpy(values.flatten()).astype(np.float32, copy=False),
    )


def multi_rows(table: pa.Table) -> Multi:
    flat = to_numpy(table["multi"].combine_chunks().flatten())
    tokens = to_numpy(table["multi_tokens"].combine_chunks())
    offsets = np.concatenate([[0], np.cumsum(tokens)]).astype(np.int64)
    width = len(flat) // int(offsets[-1]) if offsets[-1] else 0
    return Multi(offsets, flat.astype(np.float32, copy=False).reshape(-1, max(width, 1)))
