"""Documents from rows: the columns of the text, the title, and so on. `rows` and `sql` read the rows."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field

from resources.errors import SourceError
from resources.sources.config import SourceConfig
from resources.sources.envelope import wrap

Column = Annotated[str, Field(min_length=1)]
_SUFFIXES = {"text": ".txt", "markdown": ".md", "html": ".html"}


class ColumnsConfig(SourceConfig):
    """`key` identifies a row. Without it the row's number does, and an inserted row renumbers all later rows."""

    key: Column | None = Field(default=None, description="column of the key; else the row's number")
    text: Column | list[Column] = Field(description="column of the text, or a list to join")
    format: Literal["text", "markdown", "html"] = Field(
        default="text", description="format of the text: text, markdown or html"
    )
    title: Column | None = Field(default=None, description="column of the title")
    author: Column | None = Field(default=None, description="column of the author")
    url_column: Column | None = Field(
        default=None, description="column of the address shown with the document"
    )
    language_column: Column | None = Field(
        default=None, description="column of the language's ISO 639-1 code"
    )
    category: Column | None = Field(default=None, description="column of the category")
    tags: Column | None = Field(
        default=None, description="column of tags: a list, a JSON list, or separated by commas"
    )
    metadata: list[Column] | Literal["*"] = Field(
        default=[], description="columns to keep as metadata of the document, or * for all others"
    )

    @cached_property
    def text_columns(self) -> tuple[str, ...]:
        return (self.text,) if isinstance(self.text, str) else tuple(self.text)

    @cached_property
    def columns(self) -> frozenset[str]:
        """Every column named in the configuration."""
        single = (
            self.key, self.title, self.author, self.url_column, self.language_column, self.category, self.tags
        )  # fmt: skip
        more = self.metadata if self.metadata != "*" else ()
        return frozenset([*self.text_columns, *more, *filter(None, single)])


def check_columns(config: ColumnsConfig, names: Sequence[str], where: str) -> None:
    """Raise SourceError if a used column is missing from `names`, all columns in their order, or cannot be read."""
    missing = sorted(config.columns - set(names))
    near = [name for name in names if stored_name(name) in set(map(stored_name, missing))]
    problems = [f"has no {_quoted(missing)}" + (f" but {_quoted(near)}" if near else "")] * bool(
        missing
    )
    _refuse([*problems, *_ambiguous(config, names)], names, where)


def check_names(config: ColumnsConfig, names: Sequence[str], where: str) -> None:
    """Raise SourceError if a used column of a row shares its name with another one or has none: it would be lost."""
    _refuse(_ambiguous(config, names), names, where)


def _ambiguous(config: ColumnsConfig, names: Sequence[str]) -> Iterator[str]:
    """Yield the problems with names. Columns that no setting uses may have any name."""
    places: dict[str, list[str]] = {}
    for name in names:
        places.setdefault(stored_name(name), []).append(name)
    every = config.metadata == "*"
    used = set(map(stored_name, config.columns))
    for stored, same in places.items():
        if len(same) > 1 and stored and (every or stored in used):
            yield (
                f"has the column {_quoted(same[:1])} {len(same)} times"
                if len(set(same)) == 1
                else f"has the columns {_quoted(same)}, which have one name"
            )
    if every and "" in places:
        numbers = [str(n) for n, name in enumerate(names, 1) if not stored_name(name)]
        yield f"has no name for column {', '.join(numbers)} (name it, or list the columns to keep in metadata)"


def _refuse(problems: Iterable[str], names: Sequence[str], where: str) -> None:
    if problems := list(problems):
        columns = f"its columns: {_quoted(names)}"
        raise SourceError(f"{where} {' and '.join(problems)}; {columns}. Nothing was changed.")


@lru_cache(maxsize=4096)
def stored_name(name: str) -> str:
    """Return the name as people see it: in NFC, without invisible characters and blanks around it."""
    visible = "".join(c for c in name if unicodedata.category(c) not in ("Cc", "Cf"))
    return " ".join(unicodedata.normalize("NFC", visible).split())


def _quoted(names: Iterable[str]) -> str:
    """Return the names in quotes, which show a blank at the end, with escapes for what is not in NFC or invisible."""
    shown = (
        repr(n) if unicodedata.is_normalized("NFC", n) and n.isprintable() else ascii(n)
        for n in names
    )
    return ", ".join(shown) or "none"


def document_of(
    config: ColumnsConfig, key: str, row: Mapping[str, Any]
) -> tuple[bytes, dict[str, Any]]:
    """Return (text, metadata as in `envelope`). Raises SourceError if the row has no text."""
    texts = [
        text_of(row[name], name) for name in config.text_columns if row.get(name) not in (None, "")
    ]
    text = "\n\n".join(texts)
    if not text.strip():
        raise SourceError(f"no text in {', '.join(config.text_columns)}")
    others = sorted(set(row) - config.columns) if config.metadata == "*" else config.metadata
    about: dict[str, Any] = {
        "name": key + _SUFFIXES[config.format],
        **{
            name: text_of(row[column], column)
            for name, column in (
                ("title", config.title),
                ("author", config.author),
                ("url", config.url_column),
                ("language", config.language_column),
            )
            if column and row.get(column) not in (None, "")
        },
        "metadata": {name: json_value(row[name]) for name in others if row.get(name) is not None},
    }
    if config.category:
        about["category"] = text_of(row.get(config.category) or "", config.category)
    if config.tags:
        about["tags"] = _tags(row.get(config.tags))
    return text.encode("utf-8", "replace"), about


def text_of(value: Any, column: str) -> str:
    """Return a value as text. Bytes are UTF-8: Parquet files of some programs, and BLOB columns, contain text as bytes.

    Raises SourceError for other bytes.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{column} contains bytes that are no text in UTF-8: {error.reason}"
            ) from None
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(json_value(value), ensure_ascii=False)
    return str(value)


def raw_row(config: ColumnsConfig, key: str, row: Mapping[str, Any]) -> bytes:
    """Return the raw bytes of a row's document, whose hash is its change token."""
    try:
        return wrap(*document_of(config, key, row))
    except SourceError as error:
        # The row has no text; its fetch raises the same error.
        return str(error).encode()


def json_value(value: Any) -> Any:
    """Return the value in a form that JSON can represent."""
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): json_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [json_value(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _tags(value: Any) -> list[str]:
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.lstrip().startswith("[") else value.split(",")
        except ValueError:
            value = value.split(",")
    items = value if isinstance(value, list | tuple) else []
    return [tag for tag in (str(item).strip() for item in items) if tag]
