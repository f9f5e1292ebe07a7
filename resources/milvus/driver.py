"""The only import of pymilvus: without the libraries that it loads for arguments of types that nobody passes.

pymilvus takes pandas, 0.7 of the 1.2 seconds of its import, to tell whether a value is a DataFrame, and scipy, 0.4
seconds at the first search where it is installed, to tell whether a query is a sparse matrix. A process that has not
imported them has no such value. `requests`, 0.1 seconds, asks for the addresses of a cluster in several regions.
`tests/stores/test_light_imports.py` fails where pymilvus changed.
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

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        return import_module("pandas").DataFrame(*arguments, **options)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(import_module("pandas").DataFrame, name)


class _DataFrame(metaclass=_KindOfFrame):
    """Stands for pandas.DataFrame in annotations, type checks and calls. A process without pandas has no instance."""


class _Deferred(ModuleType):
    """A module that is imported at the first use of a name in it."""

    DataFrame = _DataFrame

    def __getattr__(self, name: str) -> Any:
        # The import system asks for dunder names.
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is not self:
            return getattr(import_module(self.__name__), name)

        def function(*args: Any) -> Any:
            return getattr(import_module(self.__name__), name)(*args)

        return function


_DEFERRED = ("pandas", "pandas.api", "pandas.api.types", "requests")


@contextmanager
def _deferred() -> Iterator[None]:
    """Let the modules that are imported in the block get stand-ins for libraries that are not imported yet.

    Not beside other threads: one of them could import such a library meanwhile.
    """
    if "pymilvus" in sys.modules or threading.active_count() > 1:
        yield
        return
    stand_ins = {
        name: _Deferred(name) for name in _DEFERRED if name.partition(".")[0] not in sys.modules
    }
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


with _deferred():
    from pymilvus import DataType, MilvusClient
    from pymilvus.client.constants import GUARANTEE_TIMESTAMP
    from pymilvus.client.ts_utils import construct_guarantee_ts
    from pymilvus.client.types import ConsistencyLevel
    from pymilvus.client.utils import SciPyHelper, check_status
    from pymilvus.decorators import retry_on_rpc_failure
    from pymilvus.exceptions import MilvusException
    from pymilvus.grpc_gen import common_pb2
    from pymilvus.grpc_gen.milvus_pb2 import SearchRequest, UpsertRequest
    from pymilvus.grpc_gen.schema_pb2 import FieldData, ScalarField, SearchResultData, StringArray

__all__ = [
    "GUARANTEE_TIMESTAMP",
    "ConsistencyLevel",
    "DataType",
    "FieldData",
    "MilvusClient",
    "MilvusException",
    "ScalarField",
    "SearchRequest",
    "SearchResultData",
    "StringArray",
    "UpsertRequest",
    "check_status",
    "common_pb2",
    "construct_guarantee_ts",
    "retry_on_rpc_failure",
]

_is_scipy_sparse = SciPyHelper.is_scipy_sparse
SciPyHelper.is_scipy_sparse = lambda data: "scipy.sparse" in sys.modules and _is_scipy_sparse(data)
