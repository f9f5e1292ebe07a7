"""Files and the embeddings in them: complete or absent, on a disk and behind a URL."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rag_assets.pipeline.vectors import Embeddings, Multi, Sparse
from resources.embedding_files import (
    ROW_GROUP_ROWS,
    EmbeddingReader,
    dense_rows,
    multi_rows,
    read_rows,
    sparse_rows,
    to_table,
    write_tables,
)
from resources.errors import ConfigError
from resources.files import SPOOL_BYTES, FileStore, raw_name
from tests.support.servers import S3


@pytest.fixture(params=["path", "file", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    """A store in a folder by path, by URL, and in an fsspec backend."""
    root = tmp_path / "a folder"
    return FileStore(
        {
            "path": str(root),
            "file": f"file://{root}",
            "memory": f"memory://{uuid.uuid4().hex}/storage",
        }[request.param]
    )


def names(files: FileStore, folder: str = "x") -> list[str]:
    return sorted(info.path.rsplit(f"/{folder}/", 1)[1] for info in files.list(folder))


def test_a_file_is_written_read_replaced_and_deleted(files: FileStore) -> None:
    assert names(files) == [] and files.size("x/a") is None
    with pytest.raises(FileNotFoundError):
        files.read("x/a")
    files.write("x/a", b"one")
    files.write("x/deep/er/b", b"", durable=False)
    assert files.read("x/a") == b"one" and files.size("x/a") == 3 and files.size("x/deep") is None
    files.write("x/a", b"another")
    assert files.read("x/a") == b"another"
    assert names(files) == ["a", "deep/er/b"]
    written = files.checksum("x/a")
    assert (written.path, written.byte_count) == ("x/a", 7)
    assert written.checksum == hashlib.sha256(b"another").hexdigest()
    with files.open("x/a") as opened:
        opened.seek(3)
        assert opened.read(2) == b"th"
    files.delete("x/a")
    files.delete("x/a")
    assert names(files) == ["deep/er/b"]
    with pytest.raises(FileNotFoundError):
        files.open("x/a")


def test_an_error_keeps_the_previous_file(files: FileStore) -> None:
    files.write("x/a", b"old")
    for name in ("x/a", "x/b"):
        with pytest.raises(ZeroDivisionError):
            with files.replace(name) as file:
                file.write(b"half")
                raise ZeroDivisionError
    assert names(files) == ["a"] and files.read("x/a") == b"old"


def test_a_file_takes_its_name_only_when_it_is_complete(files: FileStore) -> None:
    with files.replace("x/a") as file:
        file.write(b"half")
        assert files.size("x/a") is None
    assert files.read("x/a") == b"half"


def test_a_file_larger_than_the_spool_is_written(tmp_path: Path) -> None:
    files = FileStore(f"memory://{uuid.uuid4().hex}")
    block = b"0123456789abcdef" * 65_536
    with files.replace("x/a") as file:
        for _ in range(SPOOL_BYTES // len(block) + 1):
            file.write(block)
    assert files.size("x/a") == SPOOL_BYTES + len(block)
    files.delete("x/a")


def test_a_small_object_is_written_by_one_request(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.credentials["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.credentials["secret"])
    methods: list[str] = []
    answer = DomainDispatcherApplication.__call__

    def count(self: Any, environ: dict[str, Any], start: Any) -> Any:
        methods.append(environ["REQUEST_METHOD"])
        return answer(self, environ, start)

    monkeypatch.setattr(DomainDispatcherApplication, "__call__", count)
    files = FileStore("s3://bucket/rag?region=us-east-1")
    files.write("raw/a", b"small")
    assert methods == ["PUT"]
    large = bytes(12 << 20)
    files.write("raw/b", large)
    assert files.size("raw/b") == len(large) and files.read("raw/a") == b"small"


def test_an_unknown_url_is_an_error_without_its_secrets(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nonsense://key:\*\*\*@bucket") as caught:
        FileStore("nonsense://key:hush@bucket/x").read("a")
    assert "hush" not in str(caught.value)


def test_raw_bytes_are_named_by_their_hash() -> None:
    assert raw_name("ab" + "c" * 62) == "raw/ab/ab" + "c" * 62


# Embedding files ---------------------------------------------------------------------------------------------------


def embeddings(
    count: int, seed: int, *, dimension: int = 16, token_dimension: int = 4
) -> Embeddings:
    """Return random vectors; every third sparse row and every fourth token matrix is empty."""
    random = np.random.default_rng(seed)
    terms = [0 if n % 3 == 1 else int(random.integers(1, 9)) for n in range(count)]
    tokens = [0 if n % 4 == 2 else int(random.integers(1, 6)) for n in range(count)]
    indices = [np.sort(random.choice(2**32 - 1, n, replace=False)) for n in terms]
    return Embeddings(
        random.standard_normal((count, dimension)).astype(np.float32),
        Sparse(
            np.concatenate([[0], np.cumsum(terms)]).astype(np.int64),
            np.concatenate([[], *indices]).astype(np.uint32),
            random.random(sum(terms)).astype(np.float32) + 0.1,
        ),
        Multi(
            np.concatenate([[0], np.cumsum(tokens)]).astype(np.int64),
            random.standard_normal((sum(tokens), token_dimension)).astype(np.float32),
        ),
    )


def hashes(count: int) -> list[str]:
    return [f"{n:032x}" for n in range(count)]


def row(vectors: Embeddings, n: int) -> tuple[np.ndarray, dict[int, float], np.ndarray]:
    assert vectors.dense is not None and vectors.sparse is not None and vectors.multi is not None
    span = slice(vectors.sparse.indptr[n], vectors.sparse.indptr[n + 1])
    tokens = slice(vectors.multi.offsets[n], vectors.multi.offsets[n + 1])
    weights = dict(zip(vectors.sparse.indices[span].tolist(), vectors.sparse.values[span].tolist()))
    return vectors.dense[n], weights, vectors.multi.vectors[tokens]


def read_back(files: FileStore, path: str, rows: list[int]) -> Embeddings:
    return Embeddings(
        dense_rows(EmbeddingReader(files, "dense").read(path, rows)),
        sparse_rows(EmbeddingReader(files, "sparse").read(path, rows)),
        multi_rows(EmbeddingReader(files, "multi").read(path, rows)),
    )


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_every_kind_is_read_in_any_order(files: FileStore, precision: str) -> None:
    # Three row groups.
    count = ROW_GROUP_ROWS * 2 + 37
    vectors = embeddings(count, 1)
    file = write_tables(files, "model", [to_table(hashes(count), vectors, precision=precision)])
    assert file == files.checksum(file.path)
    random = np.random.default_rng(2)
    rows = [*random.integers(0, count, 300).tolist(), 0, count - 1, count - 1]
    result = read_back(files, file.path, rows)
    tolerance = 0 if precision == "float32" else 2e-3
    for place, n in enumerate(rows):
        dense, sparse, multi = row(vectors, n)
        read_dense, read_sparse, read_multi = row(result, place)
        np.testing.assert_allclose(read_dense, dense, rtol=tolerance, atol=tolerance / 10)
        # Weights are never rounded.
        assert read_sparse == sparse
        np.testing.assert_allclose(read_multi, multi, rtol=tolerance, atol=tolerance / 10)
        assert read_dense.dtype == read_multi.dtype == np.float32


def test_one_reader_reads_many_files(files: FileStore) -> None:
    written = []
    for seed in range(5):
        parts = [embeddings(20, seed * 10 + part) for part in range(3)]
        tables = [to_table(hashes(20), part) for part in parts]
        written.append((write_tables(files, "model", tables).path, parts))
    assert len({path for path, _ in written}) == 5
    reader = EmbeddingReader(files, "dense")
    for place in np.random.default_rng(0).integers(0, 300, 60).tolist():
        path, parts = written[place // 60]
        table = reader.read(path, [place % 60])
        np.testing.assert_array_equal(
            dense_rows(table)[0], parts[place % 60 // 20].dense[place % 20]
        )


def test_rows_without_terms_or_tokens_are_read(files: FileStore) -> None:
    empty = Embeddings(
        np.zeros((3, 4), np.float32),
        Sparse(np.zeros(4, np.int64), np.zeros(0, np.uint32), np.zeros(0, np.float32)),
        Multi(np.zeros(4, np.int64), np.zeros((0, 4), np.float32)),
    )
    path = write_tables(files, "model", [to_table(hashes(3), empty)]).path
    result = read_back(files, path, [2, 0])
    assert result.sparse is not None and result.multi is not None and result.dense is not None
    assert result.dense.shape == (2, 4)
    assert result.sparse.indptr.tolist() == result.multi.offsets.tolist() == [0, 0, 0]


def test_a_kind_without_vectors_has_no_column() -> None:
    vectors = embeddings(2, 0)
    assert to_table(hashes(2), Embeddings(dense=vectors.dense)).column_names == [
        "text_hash",
        "dense",
    ]
    assert to_table(hashes(2), Embeddings(sparse=vectors.sparse)).column_names == [
        "text_hash", "sparse_indices", "sparse_values",
    ]  # fmt: skip


def metadata(files: FileStore, path: str) -> dict[str, str]:
    with pq.ParquetFile(files.open(path)) as parquet:
        stored = parquet.schema_arrow.metadata or {}
    return {key.decode(): value.decode() for key, value in stored.items()}


def test_a_file_names_its_model_and_the_version_that_wrote_it(files: FileStore) -> None:
    table = to_table(hashes(3), embeddings(3, 0))
    first = write_tables(files, "0123456789ab", [table], "BAAI/bge-m3").path
    expected = {
        "rag_assets.model_fingerprint": "0123456789ab",
        "rag_assets.model": "BAAI/bge-m3",
        "rag_assets.kinds": "dense,sparse,multi",
        "rag_assets.version": version("rag-assets"),
    }
    assert metadata(files, first) == expected
    # A copy of its rows, as a compaction or an erasure writes it, keeps the name.
    copied = read_rows(files, first, np.array([0, 2]))
    assert metadata(files, write_tables(files, "0123456789ab", copied).path) == expected


def test_files_without_metadata_are_read_and_copied_together_with_others(files: FileStore) -> None:
    vectors = embeddings(4, 0)
    assert vectors.dense is not None
    table = to_table(hashes(4), vectors)
    with files.replace("embeddings/model/old.parquet") as file:
        pq.write_table(table, file)
    old, new = "embeddings/model/old.parquet", write_tables(files, "model", [table], "name").path
    assert metadata(files, old) == {}
    np.testing.assert_array_equal(
        dense_rows(EmbeddingReader(files, "dense").read(old, [3])), vectors.dense[3:]
    )
    rows = [part for path in (old, new) for part in read_rows(files, path, np.arange(4))]
    copy = write_tables(files, "model", rows).path
    assert len(EmbeddingReader(files, "dense").read(copy, list(range(8)))) == 8


def test_a_failed_write_leaves_no_file(files: FileStore) -> None:
    good = to_table(hashes(600), embeddings(600, 0))
    bad = to_table(hashes(5), Embeddings(dense=np.zeros((5, 3), np.float32)))
    with pytest.raises((ValueError, pa.ArrowInvalid)):
        write_tables(files, "model", [good, bad])
    assert names(files, "embeddings") == []


@pytest.fixture
def written(tmp_path: Path) -> Iterator[tuple[FileStore, str]]:
    files = FileStore(str(tmp_path))
    yield files, write_tables(files, "model", [to_table(hashes(600), embeddings(600, 0))]).path


def test_a_lost_or_damaged_file_is_an_error(
    written: tuple[FileStore, str],
) -> None:
    files, path = written
    with pytest.raises(FileNotFoundError):
        EmbeddingReader(files, "dense").read(path + ".not", [0])
    data = files.read(path)
    for damaged in (data[:-100], b"", b"nothing of the kind" * 10):
        files.write(path, damaged)
        with pytest.raises(pa.ArrowInvalid):
            EmbeddingReader(files, "dense").read(path, [0])


def test_embedding_files_are_written_and_read_without_pandas(tmp_path: Path) -> None:
    program = """
import sys
import numpy as np
from rag_assets.pipeline.vectors import Embeddings, Multi, Sparse
from resources.embedding_files import EmbeddingReader, dense_rows, multi_rows, sparse_rows, to_table, write_tables
from resources.files import FileStore
store = FileStore(sys.argv[1])
vectors = Embeddings(
    np.ones((2, 3), np.float32),
    Sparse(np.array([0, 1, 2]), np.array([1, 2], np.uint32), np.ones(2, np.float32)),
    Multi(np.array([0, 1, 3]), np.ones((3, 4), np.float32)),
)
file = write_tables(store, "model", [to_table(["a", "b"], vectors)])
for kind, rows in (("dense", dense_rows), ("sparse", sparse_rows), ("multi", multi_rows)):
    rows(EmbeddingReader(store, kind).read(file.path, [0, 1]))
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)
