"""Arrow arrays of NumPy arrays and of texts, made without `pyarrow.array`.

That function imports pandas to find out whether its argument is a series: half a second and 60 MB in each command that
embeds a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_TYPES = {
    np.dtype(name): getattr(pa, name)()
    for name in ("int32", "int64", "uint32", "uint64", "float16", "float32", "float64")
}


def numbers(values: NDArray[Any]) -> pa.Array:
    """Return the numbers of an array of one dimension, in the same type, without a copy if they are contiguous."""
    contiguous = np.ascontiguousarray(values)
    buffers = [None, pa.py_buffer(contiguous)]
    return pa.Array.from_buffers(_TYPES[contiguous.dtype], len(contiguous), buffers)


def truths(values: Sequence[bool]) -> pa.BooleanArray:
    bits = np.packbits(np.asarray(values, bool), bitorder="little")
    return pa.BooleanArray.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])


def texts(values: Sequence[str]) -> pa.StringArray:
    """Raises UnicodeEncodeError for a text that UTF-8 has no form of."""
    data = [value.encode() for value in values]
    starts = np.fromiter(accumulate(map(len, data), initial=0), np.int32, len(data) + 1)
    return pa.StringArray.from_buffers(
        len(data), pa.py_buffer(starts), pa.py_buffer(b"".join(data))
    )


def to_numpy(array: pa.Array) -> NDArray[Any]:
    """Return the numbers of an array, read-only and without a copy. A null becomes NaN."""
    if array.null_count or not len(array):
        return array.to_numpy(zero_copy_only=False)
    dtype = next(dtype for dtype, arrow in _TYPES.items() if arrow == array.type)
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)
