"""Office files, PDF, mail, e-books and HTML → Markdown, by kreuzberg. No OCR, no network, no cache on disk.

Kreuzberg holds the GIL for most of a call (two threads parse no faster than one), and its timeout does not stop a
synchronous call: parallel parsing and time limits need processes (`workers`). `formats` detects the format before;
`decoding` repairs the text after.
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
#: Parts of a page that are not content. `<form>` is not one: some servers wrap the whole page in a form.
_FURNITURE = re.compile(
    r"<(/?)(nav|footer|aside|script|style|noscript|template)\b[^<>]*>", re.IGNORECASE
)
_IMAGE = re.compile(r"!\[([^\[\]\n]*)\]\([^)\n\[]*\)")
_LINK = re.compile(r"\[([^\[\]\n]*)\]\([^)\n]*\)")
#: A block is a menu if at most this share of its letters is outside links. Menus are removed if at least this number of
#: characters remains outside links.
_MENU_SHARE, _MIN_PROSE = 0.15, 500
_EMPTY_LINK = re.compile(r"(?<!\\)\[[ \t]*\]\([^)\n\[]*\)")
_FENCES = re.compile(r"(^(`{3,}|~{3,}).*?(?:^\2|\Z))", re.MULTILINE | re.DOTALL)
#: Needless escapes inside a line, which split words for a lexical index ("3\-4", "snake\_case").
_ESCAPED = re.compile(r"(?<=[^\n\\])\\([-~<>=.!+#&_:@])")
#: A table of one cell is a page's layout, not data.
_ONE_CELL = re.compile(
    r"^\|((?:[^|\n\\]|\\.)+)\|\n\|[ \t]*:?-+:?[ \t]*\|(?:\n(?!\|)|\Z)", re.MULTILINE
)
_EMPTY_ROW = re.compile(r"^\|(?:[ \t]*\|)+\n(?!\|[ \t]*-)", re.MULTILINE)
_FONT_CHARSET = re.compile(rb"\\fcharset(\d{1,3})")
#: Windows code pages by the character set numbers of fonts.
_CODE_PAGES = {
    **{128: 932, 129: 949, 134: 936, 136: 950, 161: 1253, 162: 1254, 163: 1258, 177: 1255},
    **{178: 1256, 186: 1257, 204: 1251, 222: 874, 238: 1250},
}
#: A `<main>` or a single `<article>` below this share of the page is a teaser, not the content.
_MAIN_SHARE = 0.2


class Extracted(NamedTuple):
    """Markdown, the file's own metadata as kreuzberg returns it, and for a PDF the plain text of each page."""

    markdown: str
    metadata: dict[str, Any]
    pages: Sequence[str] = ()


def extract(data: bytes, file_format: Format) -> Extracted:
    """Return the content of a file. Raises ParseError if it is encrypted, damaged or not supported by the reader."""
    if file_format is RTF:
        data = _declare_code_page(data)
    result = _kreuzberg(data, file_format, "markdown")
    pages = [page["content"] for page in result.pages or ()]
    if is_visual(pages):
        # The Markdown has lost the lines that must be reversed, and renders such pages as tables.
        pages = [logical(page) for page in pages]
        return Extracted("\n\n".join(pages), dict(result.metadata), pages)
    return Extracted(_tidy(result.content), dict(result.metadata), pages)


def _declare_code_page(data: bytes) -> bytes:
    """Declare the code page of RTF that names it by its fonts only, as Asian word processors do.

    Kreuzberg does not read the fonts.
    """
    head = data[:20_000]
    if b"\\ansicpg" in head:
        return data
    charsets = Counter(int(number) for number in _FONT_CHARSET.findall(head))
    code_pages = [
        _CODE_PAGES[charset] for charset, _ in charsets.most_common() if charset in _CODE_PAGES
    ]
    if not code_pages:
        return data
    return data.replace(b"\\ansi", b"\\ansi\\ansicpg%d" % code_pages[0], 1)


def extract_html(html: str, file_format: Format) -> Extracted:
    """Return the content of a decoded web page: its `<main>` or `<article>` if present, without menus and footers."""
    page = _remove_furniture(html)
    main, body = _main_content(page), _BODY.search(page)
    if len(main) > _MAIN_SHARE * len(body[0] if body else page):
        page = page[: body.start()] + f"<body>{main}</body>" if body else main
    # Djot, not Markdown: the Markdown writer turns the page's metadata into a heading and duplicates lines of code.
    result = _kreuzberg(page.encode(), file_format, "djot")
    content = _tidy(_FRONT_MATTER.sub("", result.content, count=1))
    return Extracted(_remove_menus(content), dict(result.metadata))


def _remove_furniture(html: str) -> str:
    """Remove furniture in one pass: a regular expression for whole elements is quadratic if they are not closed."""
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


def _remove_menus(markdown: str) -> str:
    """Remove the blocks of links with almost no other text, if the page has enough other text."""
    blocks = re.split(r"\n{2,}", markdown)
    kept = [block for block in blocks if not _is_menu(block)]
    prose_length = sum(len(_LINK.sub("", block)) for block in kept)
    return "\n\n".join(kept) if prose_length >= _MIN_PROSE else markdown


def _is_menu(block: str) -> bool:
    links = _LINK.findall(block)
    inside = sum(map(len, links))
    outside = len(re.sub(r"[\W_]+", "", _LINK.sub("", block)))
    return bool(links) and outside <= _MENU_SHARE * (inside + outside) and "```" not in block


def _main_content(html: str) -> str:
    for name in ("main", "article"):
        tags = re.findall(rf"<{name}\b[^<>]*>", html, re.IGNORECASE)
        if len(tags) == 1:
            return re.split(rf"</{name}\s*>", html.split(tags[0], 1)[1], flags=re.IGNORECASE)[0]
    return ""


def _tidy(markdown: str) -> str:
    """Remove image addresses, empty links, empty table rows, one-cell tables and needless escapes outside code."""
    # The split yields prose, code, its fence, prose, …
    parts = _FENCES.split(markdown)
    for i in range(0, len(parts), 3):
        prose = _EMPTY_LINK.sub("", _IMAGE.sub(r"\1", parts[i]))
        parts[i] = (
            _ONE_CELL.sub(_cell_text, _EMPTY_ROW.sub("", _ESCAPED.sub(r"\1", prose)))
            .replace("&#9;", " ")
            .replace("&#32;", " ")
        )
    return "".join(part for i, part in enumerate(parts) if i % 3 != 2)


def _cell_text(table: re.Match[str]) -> str:
    return table[1].strip().replace("\\|", "|") + "\n"


def _kreuzberg(data: bytes, file_format: Format, output: str) -> Any:
    # Import cost: 73–160 ms.
    from kreuzberg import ExtractionConfig, PageConfig, PdfConfig, extract_bytes_sync

    # The library's type stubs lack `disable_ocr`.
    options: dict[str, Any] = {"disable_ocr": True}
    if file_format is PDF:
        options["pages"] = PageConfig(extract_pages=True)
    config = ExtractionConfig(
        use_cache=False,
        enable_quality_processing=False,
        output_format=output,
        pdf_options=PdfConfig(extract_images=False),
        **options,
    )
    # Archives attached to mails are not unpacked.
    config.max_archive_depth = 0
    try:
        return extract_bytes_sync(data, file_format.mime_type, config)
    # Kreuzberg's errors share no base class.
    except Exception as error:
        raise ParseError(_reason(str(error), file_format)) from error


def _reason(message: str, file_format: Format) -> str:
    lowered = message.lower()
    if "password" in lowered or "encrypt" in lowered:
        return "the file is encrypted: a password is needed to read it"
    detail = re.sub(r"\b\w*Error\b:?\s*", "", message.split("\n")[0])[:160].strip(" :")
    return f"the {file_format.kind} file is damaged or uses a feature that the reader does not support ({detail})"
