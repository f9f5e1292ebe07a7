"""What a source says of a document, kept with its bytes: one file in the raw store, under one hash.

So an edit of a row's title is a change like any other: parsed again, and since the text is equal, nothing is embedded.
Files carry no envelope: their raw bytes are kept as they are. Fields of `about`, all optional: `name` (a file name that
tells the format), title, author, url, language, category, tags (a list), and `metadata` (what else there is). An empty
category or list of tags says that there is none; where nothing is said, what stands in the table stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resources.parsing.decoding import clean

#: A file that begins so gets an empty envelope: what it says of itself is not what its source says.
_MAGIC = b"\0rag-document\0"


def wrap(data: bytes, about: Mapping[str, Any] | None) -> bytes:
    if about is None and not data.startswith(_MAGIC):
        return data
    said = {name: value for name, value in (about or {}).items() if value not in (None, {})}
    # Sorted, and JSON escapes line ends: the same document gives the same bytes.
    return _MAGIC + json.dumps(said, sort_keys=True, default=str).encode() + b"\n" + data


def unwrap(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """(what the source said, the document)."""
    if not raw.startswith(_MAGIC):
        return {}, raw
    said, _, data = raw.removeprefix(_MAGIC).partition(b"\n")
    return json.loads(said), data


@dataclass(frozen=True, slots=True)
class Stated:
    """What a source said, as the columns of `documents` can hold it."""

    name: str | None = None
    title: str | None = None
    author: str | None = None
    url: str | None = None
    language: str | None = None
    category: str | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def stated(about: Mapping[str, Any]) -> Stated:
    language = str(about.get("language", "")).strip().lower()[:2]
    return Stated(
        name=about.get("name"),
        title=_line(about.get("title"), 1000),
        author=_line(about.get("author"), 255),
        url=_line(about.get("url"), 8000),
        language=language if re.fullmatch("[a-z]{2}", language) else None,
        category=_line(about["category"], 100) or "" if "category" in about else None,
        tags=[tag for tag in (_line(tag, 255) for tag in about["tags"]) if tag]
        if "tags" in about
        else None,
        metadata=_cleaned(about.get("metadata", {})),
    )


def _line(value: Any, most: int) -> str | None:
    return " ".join(clean(str(value or "")).split())[:most].strip() or None


def _cleaned(value: Any) -> Any:
    """Without the characters that PostgreSQL cannot hold."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(name): _cleaned(item) for name, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value
