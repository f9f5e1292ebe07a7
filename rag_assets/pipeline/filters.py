"""The conditions of a search as data, and the Milvus expression with the same meaning.

Values reach the expression as literals only, so a value can neither add nor remove a condition.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import cast

from rag_assets.pipeline.plain_text import nfc, plain_line

#: Maximum number of values of one condition.
MAX_VALUES = 1000
#: Maximum characters of a value: no field is longer.
MAX_CHARACTERS = {"tags": 100, "category": 100, "author": 255, "chunk_type": 50}
MAX_CHARACTERS_ELSEWHERE = 1000
#: Of longer values of these fields the beginning is stored, so the beginning is searched for.
_CUT = ("tags", "category", "author")
#: Of a tag, the table stores as many characters, and `rag_filter_tags` cuts them.
_STORED_CHARACTERS = {**MAX_CHARACTERS, "tags": 255}

#: Characters that a literal must escape. Milvus Lite knows no other escapes of JSON; Milvus takes the rest unescaped.
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})

_LANGUAGE = re.compile("[a-z]{2}")

#: Conditions on a time; the others are lists of texts.
TIMES = ("created_from", "created_before")
_EXPECTED_TIME = "expected a time such as 2024-05-01T12:00:00Z"


@dataclass(frozen=True)
class Filters:
    """Conditions, all of which a row must meet; one value of a condition is enough, and an empty one is no condition.

    `document`: ids. `language`: ISO 639-1; rows whose language is unknown meet it too. `tags`: documents with at least
    one of them. `created_from` (inclusive) and `created_before` (exclusive): when the document was first seen, in whole
    seconds; a time without a zone is UTC. A text is searched for as the ingestion stores it: in NFC, without invisible
    characters, cut to the length of its field.
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

    def __post_init__(self) -> None:
        for name in TIMES:
            moment = getattr(self, name)
            if isinstance(moment, datetime) and moment.tzinfo is None:
                object.__setattr__(self, name, moment.replace(tzinfo=UTC))
        for name in _CONDITIONS:
            values = getattr(self, name)
            if values and name not in TIMES and isinstance(values, tuple):
                object.__setattr__(self, name, _searched(name, values))

    @classmethod
    def of(cls, conditions: Mapping[str, object]) -> Filters:
        """Read conditions from data: a value, a list of values, or None for no condition; times as ISO 8601.

        Raises ValueError that lists every problem.
        """
        names = set(_CONDITIONS)
        problems: list[str] = []
        times: dict[str, datetime] = {}
        texts: dict[str, tuple[str, ...]] = {}
        for name, value in conditions.items():
            if name not in names:
                problems.append(f"{name}: expected one of {', '.join(sorted(names))}")
            elif value is None:
                continue
            elif name in TIMES:
                try:
                    times[name] = _time(value)
                except ValueError as error:
                    problems.append(f"{name}: {_EXPECTED_TIME}, {error}")
            else:
                values = _values(value)
                if not values:
                    problems.append(f"{name}: expected at least one value, found an empty list")
                values = _searched(name, values)
                problems += _problems(name, values)
                texts[name] = tuple(map(str, values))
        if problems:
            raise ValueError("\n  ".join(problems))
        return cls(**texts, **times)  # pyright: ignore[reportArgumentType]

    def problems(self) -> list[str]:
        """Return a sentence for each value that no row can have, or that no store accepts."""
        problems: list[str] = []
        for name in _CONDITIONS:
            value: object = getattr(self, name)
            if name in TIMES:
                if value is not None and not isinstance(value, datetime):
                    problems.append(f"{name}: {_EXPECTED_TIME}, found {value!r}")
            elif not isinstance(value, tuple):
                problems.append(f"{name}: expected a tuple of texts, found {value!r}")
            elif value:
                problems += _problems(name, cast(tuple[object, ...], value))
        return problems

    def expression(self) -> str:
        """Return the Milvus expression; empty if there is no condition."""
        return " and ".join(condition for _, condition in self._conditions())

    @property
    def columns(self) -> frozenset[str]:
        """The fields of Milvus in the expression."""
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
            if values and column == "language":
                # A short text may be in any language: its language is unknown, not another one.
                yield column, f'({one_of(column, values)} or language == "")'
            elif values:
                yield column, one_of(column, values)
        if self.tags:
            yield "tags", f"array_contains_any(tags, {_literals(self.tags)})"
        if self.created_from is not None:
            yield "created_timestamp", f"created_timestamp >= {_seconds(self.created_from)}"
        if self.created_before is not None:
            yield "created_timestamp", f"created_timestamp < {_seconds(self.created_before)}"


#: The names of all conditions, read once: `fields` is slow, and every search makes filters.
_CONDITIONS = tuple(field.name for field in fields(Filters))


def one_of(column: str, values: Iterable[object]) -> str:
    """Return the expression for rows whose column has one of the values: any text without null characters."""
    return f"{column} in {_literals(values)}"


def _searched(name: str, values: Iterable[object]) -> tuple[object, ...]:
    """Return the values as the ingestion stores them, and as they are: plain SQL may have stored those."""
    searched: list[object] = []
    for value in values:
        if not isinstance(value, str):
            searched.append(value)
            continue
        most = _STORED_CHARACTERS.get(name, MAX_CHARACTERS_ELSEWHERE + 1)
        # A source's name may contain two blanks.
        stored = plain_line(value, most) if name in _CUT else nfc(value)
        stored = stored[: MAX_CHARACTERS[name]] if name in _CUT else stored
        is_kept = stored != value and (name not in _CUT or len(value) <= MAX_CHARACTERS[name])
        searched += [stored, value] if is_kept and stored else [stored or value]
        if name == "source" and not value.isascii():
            # Names from folders of other systems may be stored decomposed.
            searched.append(unicodedata.normalize("NFD", value))
    return (
        tuple(dict.fromkeys(searched))
        if all(isinstance(v, str) for v in searched)
        else tuple(searched)
    )


def _values(value: object) -> Sequence[object]:
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(cast(Iterable[object], value))
    return [value]


def _problems(name: str, values: Sequence[object]) -> Iterator[str]:
    if len(values) > MAX_VALUES:
        yield f"{name}: expected at most {MAX_VALUES} values, found {len(values)}"
    for value in values:
        if problem := _problem(name, value):
            yield f"{name}: {problem}"


def _problem(name: str, value: object) -> str:
    if not isinstance(value, (str, uuid.UUID)):
        return f"expected text, found {type(value).__name__}"
    text = str(value)
    if not text:
        return "expected text, found an empty one"
    if len(text) > (most := MAX_CHARACTERS.get(name, MAX_CHARACTERS_ELSEWHERE)):
        return f"expected at most {most} characters, found {len(text)}"
    if "\0" in text or not _encodable(text):
        return f"expected text without null characters and lone surrogates, found {text[:40]!r}"
    if name == "language" and not _LANGUAGE.fullmatch(text):
        return f"expected an ISO 639-1 code such as ja, found {text[:40]!r}"
    if name == "document" and not _is_uuid(text):
        return f"expected a document's id (a UUID), found {text[:40]!r}"
    return ""


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
    return value


def _seconds(time: datetime) -> int:
    return int(time.timestamp())


def literal(value: object) -> str:
    """Return the text as a quoted literal of an expression."""
    return f'"{str(value).translate(_ESCAPES)}"'


def _literals(values: Iterable[object]) -> str:
    return "[" + ", ".join(map(literal, values)) + "]"
