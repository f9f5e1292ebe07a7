"""Parts of a web page that React sends behind the page, moved to their places (Next.js and others).

The server sends a placeholder first, `<template id="B:0">`, and the content later, in a hidden element with a script
that moves it: `$RC("B:0","S:0")`.
"""

from __future__ import annotations

import re

_MOVE = re.compile(r'\$R(?P<kind>[CS])\("(?P<first>[BPS]:\w{1,8})","(?P<second>[BPS]:\w{1,8})"')
_PART = re.compile(r'<div\b(?=[^<>]*\bhidden\b)[^<>]*\bid="(S:\w{1,8})"[^<>]*>')
_DIV = re.compile(r"<(/?)div\b[^<>]*>")
_PLACE = re.compile(r'<template id="([BP]:\w{1,8})"></template>')
#: What the browser shows until the content arrives ends here.
_END = "<!--/$-->"
_MAX_DEPTH = 50


def with_streamed_parts(html: str) -> str:
    """Return the page with each part in its place; those without a place come last."""
    if "$RC(" not in html:
        return html
    parts: dict[str, str] = {}
    kept: list[str] = []
    cursor = 0
    for start in _PART.finditer(html):
        if start.start() >= cursor:
            inner_end, end = _end_of_div(html, start.end())
            parts[start[1]] = html[start.end() : inner_end]
            kept.append(html[cursor : start.start()])
            cursor = end
    page = "".join([*kept, html[cursor:]])
    moves = {}
    for move in _MOVE.finditer(html):
        # The place is the first argument of one function, the second of the other.
        place, part = (move["first"], move["second"])[:: 1 if move["kind"] == "C" else -1]
        moves[place] = part
    return "".join(
        [_filled(page, moves, parts), *(f"<div>{part}</div>" for part in parts.values())]
    )


def _end_of_div(html: str, start: int) -> tuple[int, int]:
    depth = 1
    for tag in _DIV.finditer(html, start):
        depth += -1 if tag[1] else 1
        if depth == 0:
            return tag.span()
    return len(html), len(html)


def _filled(html: str, moves: dict[str, str], parts: dict[str, str], depth: int = 0) -> str:
    """Return the HTML with its placeholders replaced. Each part is used once."""
    pieces: list[str] = []
    cursor = 0
    for place in _PLACE.finditer(html):
        part = parts.pop(moves.get(place[1], ""), None)
        if part is None or place.start() < cursor or depth > _MAX_DEPTH:
            continue
        pieces += html[cursor : place.start()], _filled(part, moves, parts, depth + 1)
        end = html.find(_END, place.end()) if place[1].startswith("B") else -1
        cursor = max(end, place.end())
    return "".join([*pieces, html[cursor:]])
