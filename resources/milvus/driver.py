"""The only import of pymilvus: without the libraries that it loads for arguments of types that nobody passes.

pymilvus takes pandas, 0.7 of the 1.2 seconds of its import, to tell whether a value is a DataFrame, and scipy, 0.4
seconds at the first search where it is installed, to tell whether a query is a sparse matrix. A process that has no
such library has no such value, so both questions have an answer without it. `tests/unit/test_milvus_driver.py` fails
where pymilvus changed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class _KindOfFrame(type):
    def __instancecheck__(cls, value: object) -> bool:
        pandas = sys.modules.get("pandas")
        return pandas is not None and isinstance(value, pandas.DataFrame)


class _DataFrame(metaclass=_KindOfFrame):
    """Stands for pandas.DataFrame in annotations and type checks. A process without pandas has no instance."""


class _Deferred(ModuleType):
    """A module of pandas that is imported at the first use of a name in it."""

    DataFrame = _DataFrame

    def __getattr__(self, name: str) -> Any:
        # Without dunder names, which the import system asks for.
        if name.startswith("__"):
            raise AttributeError(name)

        def deferred(*args: Any) -> Any:
            return getattr(import_module(self.__name__), name)(*args)

        return deferred


_PANDAS = ("pandas", "pandas.api", "pandas.api.types")


@contextmanager
def _pandas_deferred() -> Iterator[None]:
    """Let the modules that are imported in the block get stand-ins for pandas, unless it is imported already.

    Not beside other threads: one of them could import pandas meanwhile.
    """
    if "pandas" in sys.modules or "pymilvus" in sys.modules or threading.active_count() > 1:
        yield
        return
    stand_ins = {name: _Deferred(name) for name in _PANDAS}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


with _pandas_deferred():
    from pymilvus import DataType, MilvusClient
    from pymilvus.client.types import ConsistencyLevel
    from pymilvus.client.utils import SciPyHelper
    from pymilvus.exceptions import MilvusException
    from pymilvus.grpc_gen import common_pb2

__all__ = ["ConsistencyLevel", "DataType", "MilvusClient", "MilvusException", "common_pb2"]

_is_scipy_sparse = SciPyHelper.is_scipy_sparse
SciPyHelper.is_scipy_sparse = lambda data: "scipy.sparse" in sys.modules and _is_scipy_sparse(data)
