"""Records as data frames: one row per record, one column per field, with the types that the fields declare.

pandas and pyarrow are imported when a frame is made (0.6 s and 0.1 s of CPU time).
"""

from __future__ import annotations

import types
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, overload
from typing import get_type_hints as type_hints

from resources.extras import missing_extra

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

T = TypeVar("T")

#: Type of a field -> (pandas's dtype, the same if values may be absent, name of Arrow's type). Others are objects.
_TYPES: dict[Any, tuple[str, str, str]] = {
    str: ("string", "string", "string"),
    uuid.UUID: ("string", "string", "string"),
    int: ("int64", "Int64", "int64"),
    float: ("float64", "float64", "float64"),
    bool: ("bool", "boolean", "bool_"),
}


class Records(Sequence[T]):
    """A sequence of records of one dataclass that can also become a data frame."""

    def __init__(self, record_type: type[T], records: Iterable[T]) -> None:
        self._type, self._records = record_type, tuple(records)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return self._records[index]

    def __repr__(self) -> str:
        return f"Records({list(self._records)!r})"

    def to_pandas(self) -> pd.DataFrame:
        """Return a pandas DataFrame: one row per record. Also without rows it has all columns, with their types."""
        import pandas as pd

        columns = {}
        for name, hint in self._hints().items():
            kind, optional = _without_none(hint)
            values = self._column(name)
            if kind is datetime:
                times = pd.to_datetime(pd.Series(values, dtype="object"), utc=True)
                columns[name] = times.astype("datetime64[us, UTC]")
            else:
                dtype = _TYPES.get(kind, ("object", "object", ""))[int(optional)]
                columns[name] = pd.Series(values, dtype=dtype)  # pyright: ignore[reportArgumentType, reportCallIssue]
        return pd.DataFrame(columns)

    def to_arrow(self) -> pa.Table:
        """Return a pyarrow Table: one row per record. Raises ConfigError if pyarrow is not installed."""
        try:
            import pyarrow as pa
        except ModuleNotFoundError as error:
            raise missing_extra(error, "A table of Arrow") or error from None
        hints = self._hints()
        schema = pa.schema([_arrow_field(name, hint) for name, hint in hints.items()])
        return pa.table({name: self._column(name) for name in hints}, schema=schema)

    def _hints(self) -> dict[str, Any]:
        hints = type_hints(self._type)
        return {field.name: hints[field.name] for field in fields(self._type)}  # pyright: ignore[reportArgumentType]

    def _column(self, name: str) -> list[Any]:
        return [_plain(getattr(record, name)) for record in self._records]


def _without_none(hint: Any) -> tuple[Any, bool]:
    """Return the type, and whether a value may be None. A Literal is the type of its values."""
    optional = False
    if get_origin(hint) in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not types.NoneType]
        optional = len(members) < len(get_args(hint))
        (hint,) = members
    if get_origin(hint) is Literal:
        hint = type(get_args(hint)[0])
    return hint, optional


def _arrow_field(name: str, hint: Any) -> pa.Field:
    import pyarrow as pa

    kind, optional = _without_none(hint)
    return pa.field(name, _arrow_type(kind), nullable=optional)


def _arrow_type(kind: Any) -> pa.DataType:
    import pyarrow as pa

    if kind is datetime:
        return pa.timestamp("us", "UTC")
    if kind in _TYPES:
        return getattr(pa, _TYPES[kind][2])()
    if is_dataclass(kind):
        hints = type_hints(kind)
        return pa.struct([_arrow_field(field.name, hints[field.name]) for field in fields(kind)])
    if get_args(kind):
        return pa.list_(_arrow_type(get_args(kind)[0]))
    raise TypeError(f"expected a type that has a column, found {kind}")


def _plain(value: Any) -> Any:
    """Return the value made of what both libraries accept: no tuples, dataclasses or UUIDs."""
    if isinstance(value, uuid.UUID):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(part) for name, part in asdict(value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value
