"""JSON and JSON lines → lines that name the path of each value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from resources.errors import ParseError

_BLANKS = re.compile(r"[ \t\r\n\x1e]*+")
#: Texts, and what JSON with comments has besides: comments, and commas in front of a closing bracket.
_COMMENT = re.compile(
    r'"(?:[^"\\\n]|\\.)*+"|(?P<comment>//[^\n]*+|/\*.*?(?:\*/|\Z))|(?P<comma>,)(?=\s*+[}\]])',
    re.DOTALL,
)


class _Pairs(list[tuple[str, object]]):
    """The names and values of an object, with repeated names."""


#: Numbers keep their digits.
_DECODER = json.JSONDecoder(object_pairs_hook=_Pairs, parse_float=str, parse_int=str)


def json_text(text: str) -> str:
    """Return `path: value` lines, with a paragraph for each record of a list.

    JSON with comments, and single lines of JSON lines that are not valid, are returned as they are. Raises ParseError
    if the text is no JSON.
    """
    try:
        values = list(_values(text))
    except (ValueError, RecursionError) as error:
        if _is_json_with_comments(text):
            return text
        values = _lines(text)
        if values is None:
            raise ParseError(f"the JSON is not valid: {error}") from None
    if len(values) == 1 and isinstance(values[0], list) and not isinstance(values[0], _Pairs):
        values = values[0]
    return "\n\n".join(filter(None, ("\n".join(_json_lines(value, "")) for value in values)))


def _values(text: str) -> Iterator[object]:
    """Yield the values of a text: one, or several behind each other, in lines or not."""
    start = _BLANKS.match(text).end()  # pyright: ignore[reportOptionalMemberAccess]
    if start == len(text):
        raise ValueError("there is no value")
    while start < len(text):
        value, end = _DECODER.raw_decode(text, start)
        yield value
        start = _BLANKS.match(text, end).end()  # pyright: ignore[reportOptionalMemberAccess]


def _lines(text: str) -> list[object] | None:
    """Return the values of JSON lines, of lines that are not valid the text; None if half of them are not."""
    values: list[object] = []
    valid = 0
    for line in text.split("\n"):
        if line := line.strip():
            try:
                value: object = _DECODER.decode(line)
                valid += isinstance(value, list)
            except (ValueError, RecursionError):
                value = line
            values.append(value)
    return values if valid * 2 > len(values) else None


def _is_json_with_comments(text: str) -> bool:
    bare = _COMMENT.sub(lambda match: "" if match["comment"] or match["comma"] else match[0], text)
    # A comma behind which only a comment stood.
    bare = _COMMENT.sub(lambda match: "" if match["comma"] else match[0], bare)
    try:
        return bare != text and bool(list(_values(bare)))
    except (ValueError, RecursionError):
        return False


def _json_lines(root: object, path: str) -> Iterator[str]:
    # No recursion: the document determines the depth.
    stack = [(root, path)]
    while stack:
        value, path = stack.pop()
        if isinstance(value, _Pairs):
            stack.extend((v, f"{path}.{k}" if path else k) for k, v in reversed(value))
        elif isinstance(value, list) and any(isinstance(v, list) for v in value):
            stack.extend((v, path) for v in reversed(value))
        elif isinstance(value, list):
            yield from _json_lines(", ".join(map(_scalar, value)), path)
        elif (scalar := _scalar(value)).strip():
            yield f"{path}: {scalar}" if path else scalar


def _scalar(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
