"""The source's metadata of a document, stored with its bytes: one file in the raw store, under one hash.

So an edit of a row's title is a change like any other: the document is parsed again, and since its text is equal,
nothing is embedded. Files have no envelope: their raw bytes are stored unchanged. Fields of `about`, all optional:
`name` (a file name whose suffix is the format), `charset` (of a text, as the server states it), title, author, url,
language, category, tags (a list), and `metadata` (all other fields). An empty category or list of tags removes the
value in the table; an absent one keeps it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rag_assets.pipeline.field_limits import (
    AUTHOR_CHARS,
    CATEGORY_CHARS,
    TAG_CHARS,
    TITLE_CHARS,
    cut_fields,
)
from resources.parsing.decoding import clean

#: A file that begins with these bytes gets an empty envelope, so that its contents never count as metadata.
_MAGIC = b"\0rag-document\0"


def wrap(data: bytes, about: Mapping[str, Any] | None) -> bytes:
    if about is None and not data.startswith(_MAGIC):
        return data
    fields = {name: value for name, value in (about or {}).items() if value not in (None, {})}
    # Sorted, and JSON escapes line ends: the same document gives the same bytes.
    return _MAGIC + json.dumps(fields, sort_keys=True, default=str).encode() + b"\n" + data


def unwrap(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """Return (`about`, the document)."""
    if not raw.startswith(_MAGIC):
        return {}, raw
    header, _, data = raw.removeprefix(_MAGIC).partition(b"\n")
    return json.loads(header), data


@dataclass(frozen=True, slots=True)
class SourceFields:
    """The source's metadata in the form of the columns of table `documents`."""

    name: str | None = None
    charset: str | None = None
    title: str | None = None
    author: str | None = None
    url: str | None = None
    language: str | None = None
    category: str | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def source_fields(about: Mapping[str, Any]) -> SourceFields:
    """Return `about` cleaned and cut to the lengths of the columns; invalid values become None."""
    language = str(about.get("language", "")).strip().lower()[:2]
    author, category = _line(about.get("author"), None), _line(about.get("category"), None)
    return SourceFields(
        name=about.get("name"),
        charset=about.get("charset"),
        title=_line(about.get("title"), TITLE_CHARS),
        author=_line(author, AUTHOR_CHARS),
        url=_line(about.get("url"), 8000),
        language=language if re.fullmatch("[a-z]{2}", language) else None,
        category=_line(category, CATEGORY_CHARS) or "" if "category" in about else None,
        tags=[tag for tag in (_line(tag, TAG_CHARS) for tag in about["tags"]) if tag]
        if "tags" in about
        else None,
        metadata=_cleaned(about.get("metadata", {})),
        left_out=cut_fields(author, category, None),
    )


def _line(value: Any, max_chars: int | None) -> str | None:
    return " ".join(clean(str(value or "")).split())[:max_chars].strip() or None


def _cleaned(value: Any) -> Any:
    """Return the value without the characters that PostgreSQL cannot store."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(name): _cleaned(item) for name, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list) else value
