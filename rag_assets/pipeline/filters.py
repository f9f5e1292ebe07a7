"""What a search is limited to, as data, and the Milvus expression that says the same.

Values reach the expression as literals only, so no value can change which conditions there are.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime

#: Values that one condition takes; longer lists belong into a narrower question.
MAX_VALUES = 1000
#: Characters of a value: no field is longer. Of a tag, the beginning that is kept (`rag_filter_tags`).
MAX_CHARACTERS = {"tags": 100, "category": 100, "author": 255, "chunk_type": 50}
MAX_CHARACTERS_ELSEWHERE = 1000

#: What a literal may not hold as it is. Milvus Lite knows no other escapes of JSON; Milvus takes the rest as it stands.
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})

_CODE = re.compile("[a-z]{2}")


@dataclass(frozen=True)
class Filters:
    """Every condition must hold; of the values of one condition any is enough.

    `document`: ids. `language`: ISO 639-1. `tags`: documents that have any of them. `created_from` (inclusive) and
    `created_before` (exclusive): when the document was first seen; a time without a zone is UTC, whole seconds.
    """

    source: tuple[str, ...] = ()
    source_type: tuple[str, ...] = ()
    language: tuple[str, ...] = ()
    document: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    author: tuple[str, ...] = ()
    chunk_type: tuple[str, ...] = ()
    created_from: datetime | None = None
    created_before: datetime | None = None

    @classmethod
    def of(cls, conditions: Mapping[str, object]) -> Filters:
        """From data: a value, a list of them, or None for no condition; times as ISO 8601.

        Raises ValueError that lists every condition that cannot be read.
        """
        known = {field.name for field in fields(cls)}
        problems: list[str] = []
        read: dict[str, object] = {}
        for name, value in conditions.items():
            if name not in known:
                problems.append(f"{name}: expected one of {', '.join(sorted(known))}")
            elif value is None:
                continue
            elif name.startswith("created_"):
                try:
                    read[name] = _time(value)
                except ValueError as error:
                    problems.append(
                        f"{name}: expected a time such as 2024-05-01T12:00:00Z, {error}"
                    )
            else:
                values = _values(value)
                problems += [f"{name}: {problem}" for problem in _problems(name, values)]
                read[name] = tuple(str(each) for each in values)
        if problems:
            raise ValueError("\n  ".join(problems))
        return cls(**read)  # pyright: ignore[reportArgumentType]

    def expression(self) -> str:
        """The Milvus expression; empty when there is no condition."""
        return " and ".join(condition for _, condition in self._conditions())

    @property
    def columns(self) -> frozenset[str]:
        """The fields of Milvus that the expression names."""
        return frozenset(column for column, _ in self._conditions())

    def _conditions(self) -> Iterator[tuple[str, str]]:
        for column, values in (
            ("source", self.source),
            ("source_type", self.source_type),
            ("language", self.language),
            ("document_id", self.document),
            ("category", self.category),
            ("author", self.author),
            ("chunk_type", self.chunk_type),
        ):
            if values:
                yield column, one_of(column, values)
        if self.tags:
            yield "tags", f"array_contains_any(tags, {_literals(self.tags)})"
        if self.created_from is not None:
            yield "created_timestamp", f"created_timestamp >= {_seconds(self.created_from)}"
        if self.created_before is not None:
            yield "created_timestamp", f"created_timestamp < {_seconds(self.created_before)}"


def one_of(column: str, values: Iterable[object]) -> str:
    """The expression for rows that say one of the values, which may be anything but a null character."""
    return f"{column} in {_literals(values)}"


def _values(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def _problems(name: str, values: list[object]) -> Iterable[str]:
    if not values:
        yield "expected at least one value, found an empty list"
    if len(values) > MAX_VALUES:
        yield f"expected at most {MAX_VALUES} values, found {len(values)}"
    for value in values:
        if not isinstance(value, (str, uuid.UUID)):
            yield f"expected text, found {type(value).__name__}"
        elif not str(value):
            yield "expected text, found an empty one"
        elif len(str(value)) > (most := MAX_CHARACTERS.get(name, MAX_CHARACTERS_ELSEWHERE)):
            yield f"expected at most {most} characters, found {len(str(value))}"
        elif "\0" in str(value) or not _encodable(str(value)):
            yield f"expected text without null characters and lone surrogates, found {str(value)[:40]!r}"
        elif name == "language" and not _CODE.fullmatch(str(value)):
            yield f"expected an ISO 639-1 code such as ja, found {str(value)[:40]!r}"
        elif name == "document" and not _is_uuid(str(value)):
            yield f"expected a document's id (a UUID), found {str(value)[:40]!r}"


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_uuid(value: str) -> bool:
    try:
        return str(uuid.UUID(value)) == value
    except ValueError:
        return False


def _time(value: object) -> datetime:
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise ValueError(f"found {type(value).__name__}")
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _seconds(time: datetime) -> int:
    return int(time.timestamp())


def literal(value: object) -> str:
    """Text as an expression quotes it."""
    return f'"{str(value).translate(_ESCAPES)}"'


def _literals(values: Iterable[object]) -> str:
    return "[" + ", ".join(map(literal, values)) + "]"
