"""Front matter of Markdown: its extent, and its top-level fields as text. Parser and chunker share this definition.

YAML between lines of `---` (the last one may be `...`), or TOML between lines of `+++`. The meaning of a field (title,
author, tags) is in `resources/parsing/document.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, time
from typing import Any, NamedTuple, TypeAlias

#: A longer block is text. It bounds the time: an invalid block is read entry by entry, and tomllib is slow.
_MAX_CHARS = 64 * 1024
_BLOCK = re.compile(
    r"\A(?:---[ \t]*\n(?P<yaml>.+?)\n(?:---|\.\.\.)|\+\+\+[ \t]*\n(?P<toml>.+?)\n\+\+\+)[ \t]*(?:\n|\Z)",
    re.DOTALL,
)
#: Jekyll asks for one in each page.
_EMPTY_BLOCK = re.compile(r"(---|\+\+\+)[ \t]*\n\1[ \t]*(?:\n|\Z)")
#: The lines of a block that is meant as a mapping, though it is invalid YAML: comments, then entries with their
#: continuations. Prose between two rules has other lines.
_ENTRIES = re.compile(
    r"""(?:\#[^\n]*\n)*
    [\w"'][^\n:]*+:(?:[ \t][^\n]*+)?(?:\n|\Z)
    (?:[\w"'][^\n:]*+:(?:[ \t][^\n]*+)?(?:\n|\Z)|[ \t\#\-\]}][^\n]*+(?:\n|\Z)|\n)*+\Z""",
    re.VERBOSE,
)
_ENTRY = re.compile(r"""^(?=[\w"'][^\n:]*:(?:[ \t]|$))""", re.MULTILINE)
_LINE = re.compile(r"([\w-]+)[ \t]*:[ \t]+(.*\S)\s*")
#: YAML's null, unless it is quoted.
_NULL = ("", "~", "null", "Null", "NULL")
#: Nesting limit: at 32,000 levels libyaml's loader crashes the process, and it reads 64 KiB of open brackets in 12 s.
_MAX_DEPTH = 10
#: A table of the static site generator Zola: its entries count as fields.
_TAXONOMIES = "taxonomies"

#: Values by lowercase name.
Fields: TypeAlias = Mapping[str, str | list[str]]


class FrontMatter(NamedTuple):
    """The fields of a text's front matter, and the offset in the text where it ends."""

    fields: Fields
    end: int


def read_front_matter(text: str) -> FrontMatter | None:
    """Return the front matter of a text, or None if it has none: a block that is no mapping is a part of the text.

    A scalar is its text as written (dates, numbers and booleans too), a list is its scalars. Null, empty values and
    mappings are skipped, and so is everything that is nested more than ten levels deep. Invalid YAML is read entry by
    entry, so that `title: Part 2: the return` costs no other field. Invalid TOML is text.
    """
    if not text.startswith(("---", "+++")):
        return None
    if empty := _EMPTY_BLOCK.match(text):
        return FrontMatter({}, empty.end())
    block = _BLOCK.match(text, 0, _MAX_CHARS)
    if block is None:
        return None
    entries = _yaml(block["yaml"]) if block["yaml"] is not None else _toml(block["toml"])
    if entries is None:
        return None
    fields: dict[str, str | list[str]] = {}
    taxonomies = entries.get(_TAXONOMIES)
    inner = taxonomies if isinstance(taxonomies, dict) else {}
    for name, value in (*entries.items(), *inner.items()):
        if isinstance(value, list):
            value = [item for item in value if isinstance(item, str)]
        if value and isinstance(value, str | list):
            fields.setdefault(name.lower(), value)
    return FrontMatter(fields, block.end())


class _TooDeep(Exception):
    """The YAML is nested too deeply to be read safely."""


def _yaml(source: str) -> dict[str, Any] | None:
    # Import cost: 31 ms.
    import yaml

    try:
        return _mapping(source)
    except (yaml.YAMLError, _TooDeep):
        if not _ENTRIES.match(source):
            return None
    fields: dict[str, Any] = {}
    for entry in _ENTRY.split(source):
        try:
            fields |= _mapping(entry) or {}
        except _TooDeep:
            continue
        except yaml.YAMLError:
            # The value of an invalid line is its text.
            if line := _LINE.fullmatch(entry):
                fields[line[1]] = line[2]
    return fields


def _mapping(source: str) -> dict[str, Any] | None:
    """Return the entries of a YAML mapping; None if the YAML is valid, but not a mapping.

    The nodes are read, not Python objects: no tag is applied, an alias is not expanded, and a plain null differs from
    a quoted one.
    """
    import yaml

    # Without libyaml, the Python loader is 7 times slower.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    depth = 0
    # Check the event stream first: it uses no recursion and stops early.
    for event in yaml.parse(source, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise _TooDeep
    root = yaml.compose(source, Loader=loader)
    return dict(_entries(root)) if isinstance(root, yaml.MappingNode) and root.value else None


def _entries(mapping: Any) -> Iterator[tuple[str, Any]]:
    import yaml

    for key, node in mapping.value:
        if isinstance(key, yaml.ScalarNode):
            # Only one level of mappings is needed.
            if isinstance(node, yaml.MappingNode):
                inner = ((k, _value(v)) for k, v in node.value if isinstance(k, yaml.ScalarNode))
                yield key.value, {k.value: value for k, value in inner}
            else:
                yield key.value, _value(node)


def _value(node: Any) -> str | list[str] | None:
    import yaml

    if isinstance(node, yaml.ScalarNode):
        is_null = node.style in (None, "") and node.value in _NULL
        return None if is_null else node.value
    if isinstance(node, yaml.SequenceNode):
        items = (_value(item) for item in node.value if isinstance(item, yaml.ScalarNode))
        return [item for item in items if isinstance(item, str) and item]
    return None


def _toml(source: str) -> dict[str, Any] | None:
    import tomllib

    try:
        table = tomllib.loads(source, parse_float=str)
        return {name: _toml_value(value) for name, value in table.items()} or None
    # A number with thousands of digits is a ValueError too.
    except (ValueError, RecursionError):
        return None


def _toml_value(value: Any) -> Any:
    match value:
        case str():
            return value
        case bool():
            return str(value).lower()
        case date() | time():
            return value.isoformat()
        case list():
            return [_toml_value(item) for item in value if not isinstance(item, list | dict)]
        case dict():
            return {
                name: _toml_value(item)
                for name, item in value.items()
                if not isinstance(item, dict)
            }
        case _:
            return str(value)
