"""Elements of a name in HTML that contain no other one of that name, found in linear time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple


class Extent(NamedTuple):
    """The offsets of an element and of its content."""

    start: int
    inner: int
    inner_end: int
    end: int


def innermost(html: str, name: str) -> Iterator[Extent]:
    """Yield the elements whose tags are written in this case."""
    cursor = 0
    for end in re.finditer(rf"</{name}\s*+>", html):
        start = html.rfind(f"<{name}", cursor, end.start())
        inner = html.find(">", start, end.start()) + 1 if start >= 0 else 0
        if inner:
            yield Extent(start, inner, *end.span())
        cursor = end.end()


def replace_innermost(html: str, name: str, replacement: Callable[[str], str | None]) -> str:
    """Replace each element by what the function returns for its content; None keeps the element."""
    if f"</{name}" not in html:
        return html
    pieces: list[str] = []
    cursor = 0
    for element in innermost(html, name):
        text = replacement(html[element.inner : element.inner_end])
        if text is not None:
            pieces += html[cursor : element.start], text
            cursor = element.end
    return "".join([*pieces, html[cursor:]])
