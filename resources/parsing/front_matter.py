"""YAML front matter of Markdown: its top-level fields as text, and the offset of the body.

The meaning of a field (title, author, tags) is in `document`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

_BLOCK = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_ENTRY = re.compile(r"^(?=[\w-]+[ \t]*:)", re.MULTILINE)
_LINE = re.compile(r"([\w-]+)[ \t]*:[ \t]+(.*\S)\s*")
#: Nesting limit: at 32,000 levels libyaml's loader crashes the process, and it reads 64 KiB of open brackets in 12 s.
_MAX_DEPTH = 10


#: Values by lowercase name.
Fields: TypeAlias = Mapping[str, str | list[str]]


class FrontMatter(NamedTuple):
    """The fields of a text's front matter, and the offset in the text where it ends."""

    fields: Fields
    end: int


def read_front_matter(text: str) -> FrontMatter | None:
    """Return the front matter of a text, or None if it has none.

    A scalar is its text as written (dates and numbers too), a list is its scalars; empty values and mappings are
    skipped. Invalid YAML is read entry by entry, so that `title: Part 2: the return` costs no other field. Front matter
    has no fields if it is not a mapping, too deeply nested, or contains aliases.
    """
    block = _BLOCK.match(text)
    if block is None:
        return None
    fields: dict[str, str | list[str]] = {}
    for name, value in _load(block[1]).items():
        if isinstance(value, list):
            value = [item for item in value if isinstance(item, str)]
        if value and isinstance(value, str | list):
            fields.setdefault(name.lower(), value)
    return FrontMatter(fields, block.end())


def _load(source: str) -> dict[str, Any]:
    # Import cost: 31 ms.
    import yaml

    # The base loaders construct strings, lists and dicts only. Without libyaml, the Python loader is 7 times slower.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    depth = 0
    try:
        # Check the event stream first: it uses no recursion and stops early.
        for event in yaml.parse(source, Loader=loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH or isinstance(event, yaml.AliasEvent):
                return {}
        content = yaml.load(source, Loader=loader)
    except yaml.YAMLError:
        return _load_entries(source)
    return content if isinstance(content, dict) else {}


def _load_entries(source: str) -> dict[str, Any]:
    """Load each entry of an invalid mapping by itself; the value of an invalid line is its text."""
    entries = _ENTRY.split(source)[1:]
    if len(entries) > 1:
        return {name: value for entry in entries for name, value in _load(entry).items()}
    line = _LINE.fullmatch(source)
    return {line[1]: line[2]} if line else {}
