"""Tags of a web page in the form that the extractor reads without loss.

It drops forms (some pages are one form), everything behind a cell without an end tag in a table of one row, and what is
nested deeper than 64 elements.
"""

from __future__ import annotations

import re
from html.entities import html5

from resources.parsing.innermost import innermost, replace_innermost

#: A quoted value may contain brackets; every alternative is linear.
_ATTRIBUTES = r"""(?:=\s*+"[^"]*+"|=\s*+'[^']*+'|[^<>])*+"""
_COMMENT = r"<!--.*?(?:-->|\Z)"
_XHTML = re.compile(r"\A\ufeff?\s*<\?xml\b")
#: In HTML, the content of these elements goes on to their end tags; in XHTML they may be empty tags.
_EMPTY_TAG = re.compile(
    rf"<(script|style|title|textarea|iframe|noscript|template|div|span|a|i|b|p)\b({_ATTRIBUTES})(?<=/)>",
    re.IGNORECASE,
)
_FORM = re.compile(rf"<(/?)form\b{_ATTRIBUTES}>", re.IGNORECASE)
#: The extractor writes their marks in the syntax of Djot: `{+new+}`.
_MARKED = re.compile(rf"</?(?:ins|mark)\b{_ATTRIBUTES}>", re.IGNORECASE)
_TABLE_TAG = re.compile(
    rf"{_COMMENT}|<(?P<close>/?)(?P<name>table|thead|tbody|tfoot|tr|td|th)\b{_ATTRIBUTES}>",
    re.IGNORECASE | re.DOTALL,
)
_CONTAINER = re.compile(
    rf"{_COMMENT}|<(?P<close>/?)(?P<name>div|section|article|center|blockquote|span|font)\b{_ATTRIBUTES}>",
    re.IGNORECASE | re.DOTALL,
)
_INLINE = ("span", "font")
#: Of the 64 levels of the extractor, some are for other elements: tables, lists, paragraphs.
_MAX_DEPTH = 30


#: Names of characters that browsers read without the semicolon, too.
_OLD_NAMES = re.compile(
    rf"&({'|'.join(sorted((name for name in html5 if name[-1] != ';'), key=len, reverse=True))})(?![\w;=])"
)
#: The end of an element of a program's own, directly in front of another element: they are blocks.
_OWN_ELEMENT = re.compile(r"(</[a-z][a-z0-9]*-[\w.-]*+\s*+>)(?=<[a-z])")
#: Content that a click or a search in the page shows.
_SHOWN_LATER = re.compile(
    r"<[a-z][\w-]*+\b(?=[^<>]*\b(?:role=[\"']?tabpanel|hidden=[\"']?until-found)\b)[^<>]*>",
    re.IGNORECASE,
)
_HIDING = re.compile(
    r"\s(?:hidden\b(?:=(?:\"[^\"]*\"|'[^']*'|\w+))?|aria-hidden=\S+|style=\"[^\"]*display:\s*none[^\"]*\")",
    re.IGNORECASE,
)
_LINE_NUMBER = re.compile(
    r"<(span|a)\b[^<>]*\bclass=\"[^\"<>]*\b(?:ln|lnt|linenos?|line-?numbers?)\b[^\"<>]*\"[^<>]*>\s*+\d+\s*+</\1\s*+>",
    re.IGNORECASE,
)
_NUMBERS = re.compile(r"(?:[\s\d]|<[^<>]*>)*+")


def with_end_tags(html: str) -> str:
    """Return XHTML with an end tag for each empty tag of an element that HTML has end tags for; HTML unchanged."""
    return _EMPTY_TAG.sub(r"<\1></\1>", html) if _XHTML.match(html) else html


def regular_tags(html: str) -> str:
    """Return the page with forms as `div`, an end tag for each cell, and containers at most 30 levels deep."""
    html = _MARKED.sub("", _FORM.sub(r"<\1div>", html))
    return _shallow(_with_ends_of_cells(html))


def readable_page(html: str) -> str:
    """Return the page without line numbers of code, and with what the extractor takes for hidden or for one word."""
    html = _OWN_ELEMENT.sub(r"\1 ", html)
    html = _SHOWN_LATER.sub(lambda tag: _HIDING.sub("", tag[0]), html)
    html = _OLD_NAMES.sub(r"&\1;", html) if "&" in html else html
    return replace_innermost(_LINE_NUMBER.sub("", html), "table", _code_listing)


def _code_listing(table: str) -> str | None:
    """Return the code of a table that has line numbers in one cell and code in the other; None for other tables."""
    if table.count("<pre") != 2:
        return None
    listings = list(innermost(table, "pre"))
    if len(listings) != 2:
        return None
    numbers, code = listings
    is_listing = _NUMBERS.fullmatch(table, numbers.inner, numbers.inner_end)
    return table[code.start : code.end] if is_listing else None


def _with_ends_of_cells(html: str) -> str:
    parts: list[str] = []
    cursor = 0
    # The name of the open cell in each open table, "" outside of cells.
    cells: list[str] = []
    for tag in _TABLE_TAG.finditer(html):
        name = (tag["name"] or "").lower()
        if name == "table" and not tag["close"]:
            cells.append("")
        elif name and cells:
            if cells[-1] and not (tag["close"] and name == cells[-1]):
                parts += html[cursor : tag.start()], f"</{cells[-1]}>"
                cursor = tag.start()
            is_cell = name in ("td", "th") and not tag["close"]
            cells[-1] = name if is_cell else ""
            if name == "table":
                cells.pop()
    return "".join([*parts, html[cursor:]])


def _shallow(html: str) -> str:
    """Replace the containers below a depth by line breaks, those of words by nothing."""
    parts: list[str] = []
    cursor = depth = 0
    for tag in _CONTAINER.finditer(html):
        if tag["name"] is None:
            continue
        if not tag["close"]:
            depth += 1
        if depth > _MAX_DEPTH:
            parts += (
                html[cursor : tag.start()],
                "" if tag["name"].lower() in _INLINE else "<br>",
            )
            cursor = tag.end()
        if tag["close"]:
            depth = max(0, depth - 1)
    return "".join([*parts, html[cursor:]])
