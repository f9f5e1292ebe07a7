"""Author, category and tags as a document states them: in its properties, else in its front matter."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parseaddr
from typing import Any

from rag_assets.pipeline.field_limits import TITLE_CHARS
from rag_assets.pipeline.front_matter import Fields
from resources.parsing.decoding import clean


def author_of(properties: Mapping[str, Any], fields: Fields) -> str:
    """Return the author, or several in one line; empty if none is stated."""
    properties_of_authors = ("authors", "author", "from_name", "from_email")
    stated = next(filter(None, map(properties.get, properties_of_authors)), None)
    stated = stated or fields.get("author") or fields.get("authors") or ""
    authors = stated if isinstance(stated, list | tuple) else [stated]
    # A sender is `"Name" <address>`: take the name.
    names = [
        next(filter(None, parseaddr(name)), "") if "<" in name else name
        for name in (str(name)[:TITLE_CHARS] for name in authors)
    ]
    # Two names stay two: `Ott, Jan` is one.
    separator = "; " if len(names) > 1 and any("," in name for name in names) else ", "
    return clean_line(separator.join(names))


def category_of(fields: Fields) -> str:
    """Return the category, or the first of several; empty if none is stated."""
    stated = [*values(fields.get("category")), *_split(fields.get("categories"))]
    return next(filter(None, map(clean_line, stated)), "")


def tags_of(fields: Fields) -> list[str]:
    """Return the tags: a list, or text with commas between them."""
    stated = _split(fields.get("tags") or fields.get("tag"))
    return [tag for value in stated if (tag := clean_line(value))]


def values(field: str | list[str] | None) -> list[str]:
    """Return the values of a field, one or several."""
    return [field] if isinstance(field, str) else field or []


def _split(field: str | list[str] | None) -> list[str]:
    """Return the values of a list, or of text that separates them with commas."""
    return field.split(",") if isinstance(field, str) else field or []


def clean_line(text: str) -> str:
    """Return the text repaired and on one line."""
    return " ".join(clean(text).split())


def cut(text: str, max_length: int) -> str:
    """Return at most so many characters of the text."""
    return text[:max_length].strip()
