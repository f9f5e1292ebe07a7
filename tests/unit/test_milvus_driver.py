"""The import of pymilvus: pandas and scipy are not loaded, and values of their types are recognized as before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: In a process of its own: this one has imported pandas already.
LIGHT = """
import sys
from resources.milvus.driver import MilvusClient
from pymilvus.client.entity_helper import entity_is_sparse_matrix
from pymilvus.orm.schema import check_is_row_based, infer_dtype_bydata

assert entity_is_sparse_matrix([{1: 0.5}]) and not entity_is_sparse_matrix([[0.5, 0.5]])
assert check_is_row_based([{"id": 1}])
print(sorted({"pandas", "pyarrow", "scipy", "scipy.sparse"} & sys.modules.keys()))

# Their values are recognized in a process that has them.
import pandas
from pandas.api.types import is_scalar
assert pandas.__name__ in sys.modules and callable(pandas.read_csv) and is_scalar(1)
assert not check_is_row_based(pandas.DataFrame({"id": [1]}))
assert infer_dtype_bydata("text").name == "VARCHAR"
try:
    from scipy.sparse import csr_array
except ModuleNotFoundError:
    pass
else:
    assert entity_is_sparse_matrix(csr_array([[0.5, 0.0]]))
"""


def test_pymilvus_is_imported_without_pandas_and_knows_its_types_later() -> None:
    process = subprocess.run(
        [sys.executable, "-c", LIGHT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stdout) == (0, "[]\n"), process.stderr
