"""YAML front matter of Markdown: its top-level fields as text, and the offset of the body.

The meaning of a field (title, author, tags) is in `document`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

_BLOCK = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
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
    skipped. Front matter has no fields if it is invalid YAML, not a mapping, too deeply nested, or contains aliases.
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
        return {}
    return content if isinstance(content, dict) else {}
