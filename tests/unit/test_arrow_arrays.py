"""Arrow arrays without pyarrow's import of pandas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from resources.arrow_arrays import numbers, texts, to_numpy, truths


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "float16", "float32"])
def test_arrays_are_those_of_pyarrow(dtype: str) -> None:
    values = np.arange(20).astype(dtype)
    for part in (values, values[:0], values[3::2]):
        array = numbers(part)
        assert array.equals(pa.array(part))
        assert np.array_equal(to_numpy(array), part)
        assert to_numpy(array).dtype == part.dtype
    sliced = numbers(values).slice(5, 3)
    assert to_numpy(sliced).tolist() == values[5:8].tolist()
    with_null = pa.array([1.0, None], pa.float32())
    assert np.array_equal(to_numpy(with_null), [1.0, np.nan], equal_nan=True)


def test_texts_and_truths_are_those_of_pyarrow() -> None:
    for given in (["", "a", "é 漢字 🎈"], []):
        assert texts(given).equals(pa.array(given, pa.string()))
    for bits in ([], [True], [False, True] * 9):
        assert truths(bits).equals(pa.array(bits, pa.bool_()))


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
