"""Arrow arrays without pyarrow's import of pandas."""

from __future__ import annotations

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
