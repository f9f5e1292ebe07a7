"""Office files, PDF, mail, e-books and HTML → Markdown, by kreuzberg. No OCR, no network, no cache on disk.

Kreuzberg holds the GIL for most of a call (two threads parse no faster than one) and its timeout does not stop a
synchronous call: whoever needs either must use processes. What a file is was decided before; text is repaired after.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from resources.errors import ParseError
from resources.parsing.formats import PDF, RTF, Format
from resources.parsing.right_to_left import is_visual, logical

_FRONT_MATTER = re.compile(r"\A---\n(?=[\w:.-]+:)(?:.*\n)*?---\n+")
_BODY = re.compile(r"<body\b[^<>]*>.*?(?:</body\s*>|\Z)", re.IGNORECASE | re.DOTALL)
#: Not `<form>`: some servers wrap the whole page in one.
_FURNITURE = re.compile(
    r"<(/?)(nav|footer|aside|script|style|noscript|template)\b[^<>]*>", re.IGNORECASE
)
_IMAGE = re.compile(r"!\[([^\[\]\n]*)\]\([^)\n\[]*\)")
_LINK = re.compile(r"\[([^\[\]\n]*)\]\([^)\n]*\)")
#: A block is a menu where less than this share of its letters is outside of links; menus are dropped where at least so
#: many characters of text remain.
_MENU_SHARE, _LEAST_PROSE = 0.15, 500
_EMPTY_LINK = re.compile(r"(?<!\\)\[[ \t]*\]\([^)\n\[]*\)")
_FENCES = re.compile(r"(^(`{3,}|~{3,}).*?(?:^\2|\Z))", re.MULTILINE | re.DOTALL)
#: Escapes that protect nothing inside a line but split words for a lexical index ("3\-4", "snake\_case").
_ESCAPED = re.compile(r"(?<=[^\n\\])\\([-~<>=.!+#&_:@])")
#: A table of one cell is a page's layout, not data.
_ONE_CELL = re.compile(
    r"^\|((?:[^|\n\\]|\\.)+)\|\n\|[ \t]*:?-+:?[ \t]*\|(?:\n(?!\|)|\Z)", re.MULTILINE
)
_EMPTY_ROW = re.compile(r"^\|(?:[ \t]*\|)+\n(?!\|[ \t]*-)", re.MULTILINE)
_FONT_CHARSET = re.compile(rb"\\fcharset(\d{1,3})")
#: Windows' numbers of character sets, as fonts have them, and their code pages.
_CODE_PAGES = {
    **{128: 932, 129: 949, 134: 936, 136: 950, 161: 1253, 162: 1254, 163: 1258, 177: 1255},
    **{178: 1256, 186: 1257, 204: 1251, 222: 874, 238: 1250},
}
#: `<main>` or a single `<article>` below this share of the page is a teaser, not its content.
_MAIN_SHARE = 0.2


class Extracted(NamedTuple):
    """Markdown, what the file says about itself (kreuzberg's metadata), and of a PDF the plain text of each page."""

    markdown: str
    metadata: dict[str, Any]
    pages: Sequence[str] = ()


def extract(data: bytes, found: Format) -> Extracted:
    """The content of `data`, a file of the kind `found`. ParseError: encrypted, damaged, or not understood."""
    if found is RTF:
        data = _with_code_page(data)
    result = _kreuzberg(data, found, "markdown")
    pages = [page["content"] for page in result.pages or ()]
    if is_visual(pages):
        # The Markdown has lost the lines that must be turned around, and takes such pages for tables.
        pages = [logical(page) for page in pages]
        return Extracted("\n\n".join(pages), dict(result.metadata), pages)
    return Extracted(_tidy(result.content), dict(result.metadata), pages)


def _with_code_page(data: bytes) -> bytes:
    """RTF of Asian word processors may name its code page by its fonts only, where the reader does not look."""
    head = data[:20_000]
    if b"\\ansicpg" in head:
        return data
    charsets = Counter(int(number) for number in _FONT_CHARSET.findall(head))
    known = [charset for charset, _ in charsets.most_common() if charset in _CODE_PAGES]
    if not known:
        return data
    return data.replace(b"\\ansi", b"\\ansi\\ansicpg%d" % _CODE_PAGES[known[0]], 1)


def extract_html(html: str, found: Format) -> Extracted:
    """The content of a decoded web page: its `<main>` or `<article>` where it has one, without menus and footers."""
    page = _without_furniture(html)
    main, body = _main(page), _BODY.search(page)
    if len(main) > _MAIN_SHARE * len(body[0] if body else page):
        page = page[: body.start()] + f"<body>{main}</body>" if body else main
    # Djot, not Markdown: the Markdown writer turns the page's metadata into a heading and doubles the lines of code.
    result = _kreuzberg(page.encode(), found, "djot")
    content = _tidy(_FRONT_MATTER.sub("", result.content, count=1))
    return Extracted(_without_menus(content), dict(result.metadata))


def _without_furniture(html: str) -> str:
    """In one pass: a regular expression for the whole element is quadratic where elements are not closed."""
    kept: list[str] = []
    end, inside, start, depth = 0, "", 0, 0
    for tag in _FURNITURE.finditer(html):
        closing, name = tag[1], tag[2].lower()
        if not inside and not closing:
            kept.append(html[end : tag.start()])
            inside, start, depth = name, tag.start(), 1
        elif name == inside:
            depth += -1 if closing else 1
            if depth == 0:
                inside, end = "", tag.end()
    return "".join([*kept, html[start if inside else end :]])


def _without_menus(markdown: str) -> str:
    """Without the blocks that are links and hardly anything else, where the page has a text besides."""
    blocks = re.split(r"\n{2,}", markdown)
    kept = [block for block in blocks if not _is_menu(block)]
    said = sum(len(_LINK.sub("", block)) for block in kept)
    return "\n\n".join(kept) if said >= _LEAST_PROSE else markdown


def _is_menu(block: str) -> bool:
    links = _LINK.findall(block)
    linked = sum(map(len, links))
    around = len(re.sub(r"[\W_]+", "", _LINK.sub("", block)))
    return bool(links) and around <= _MENU_SHARE * (linked + around) and "```" not in block


def _main(html: str) -> str:
    for name in ("main", "article"):
        opened = re.findall(rf"<{name}\b[^<>]*>", html, re.IGNORECASE)
        if len(opened) == 1:
            return re.split(rf"</{name}\s*>", html.split(opened[0], 1)[1], flags=re.IGNORECASE)[0]
    return ""


def _tidy(markdown: str) -> str:
    """Without images' addresses, empty links, empty table rows, tables of one cell and needless escapes; code is left
    alone.
    """
    parts = _FENCES.split(markdown)
    for i in range(0, len(parts), 3):  # prose, then (code, its fence), then prose …
        prose = _EMPTY_LINK.sub("", _IMAGE.sub(r"\1", parts[i]))
        parts[i] = (
            _ONE_CELL.sub(_cell, _EMPTY_ROW.sub("", _ESCAPED.sub(r"\1", prose)))
            .replace("&#9;", " ")
            .replace("&#32;", " ")
        )
    return "".join(part for i, part in enumerate(parts) if i % 3 != 2)


def _cell(table: re.Match[str]) -> str:
    return table[1].strip().replace("\\|", "|") + "\n"


def _kreuzberg(data: bytes, found: Format, output: str) -> Any:
    from kreuzberg import (  # 73–160 ms
        ExtractionConfig,
        PageConfig,
        PdfConfig,
        extract_bytes_sync,
    )

    options: dict[str, Any] = {
        "disable_ocr": True
    }  # known to the library, missing in its type stubs
    if found is PDF:
        options["pages"] = PageConfig(extract_pages=True)
    config = ExtractionConfig(
        use_cache=False,
        enable_quality_processing=False,
        output_format=output,
        pdf_options=PdfConfig(extract_images=False),
        **options,
    )
    config.max_archive_depth = 0  # archives attached to mails are not unpacked
    try:
        return extract_bytes_sync(data, found.mime_type, config)
    except Exception as error:  # its errors share no base class
        raise ParseError(_reason(str(error), found)) from error


def _reason(message: str, found: Format) -> str:
    lowered = message.lower()
    if "password" in lowered or "encrypt" in lowered:
        return "the file is encrypted: a password is needed to read it"
    detail = re.sub(r"\b\w*Error\b:?\s*", "", message.split("\n")[0])[:160].strip(" :")
    return f"the {found.kind} file is damaged or uses something that the reader does not know ({detail})"
