"""Office files, PDF, mail, e-books and HTML → Markdown, by kreuzberg. No OCR, no network, no cache on disk.

Kreuzberg holds the GIL for most of a call (two threads parse no faster than one), and its timeout does not stop a
synchronous call: parallel parsing and time limits need processes (`workers`). `formats` detects the format before;
`decoding` repairs the text after.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from resources.errors import ParseError
from resources.parsing import epub
from resources.parsing.articles import article_page
from resources.parsing.formats import DOCBOOK, EPUB, HTML, JATS, PDF, RTF, XLS, XLSB, Format
from resources.parsing.header_rows import join_header_rows
from resources.parsing.inline_marks import join_words, readings_left_out
from resources.parsing.office.reading import read_office, rewrite
from resources.parsing.office.word import word_in_markdown
from resources.parsing.page_formulas import with_formulas
from resources.parsing.pdf import in_reading_order
from resources.parsing.rtf import prepare_rtf
from resources.parsing.spreadsheets import from_grids, read_spreadsheet
from resources.parsing.streamed_parts import with_streamed_parts
from resources.parsing.web_page import content_of
from resources.parsing.web_tags import readable_page, regular_tags, with_end_tags

_FRONT_MATTER = re.compile(r"\A---\n(?=[\w:.-]+:)(?:.*\n)*?---\n+")
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
#: The source of a formula, in front of its text; and text that is struck out, in Djot.
_FORMULA_SOURCE = re.compile(r"<!-- MathML: (?:[^<-]|<(?!!--)|-(?!->))*+-->[ \t]?")
_STRUCK = re.compile(r"\{-(?=\S)((?:[^\n{-]|-(?!\})|\{(?!-))*+)-\}")
_EMPTY_ROW = re.compile(r"^\|(?:[ \t]*\|)+\n(?!\|[ \t]*-)", re.MULTILINE)
#: Reads an inserted file by its bytes and name; returns its text and what was left out.
ReadInserted = Callable[[bytes, str], tuple[str, Sequence[str]]]
#: PDFium, which kreuzberg and `pdf` share, allows one thread at a time.
_PDFIUM = threading.Lock()


class Extracted(NamedTuple):
    """Markdown, the file's metadata as kreuzberg names it, the text of each page or slide, and what was left out."""

    markdown: str
    metadata: dict[str, Any]
    pages: Sequence[str] = ()
    left_out: Sequence[str] = ()


def extract(
    data: bytes, file_format: Format, read_inserted: ReadInserted | None = None
) -> Extracted:
    """Return the content of a file. Raises ParseError if it is encrypted, damaged or not supported by the reader.

    `read_inserted` reads the files that are inserted as a whole; without it, they are left out.
    """
    if content := read_office(data, file_format):
        return Extracted(
            _tidy(content.markdown), content.properties, content.pages, content.left_out
        )
    if sheets := read_spreadsheet(data, file_format):
        return Extracted(sheets.markdown, sheets.properties, left_out=sheets.left_out)
    if file_format is PDF:
        return _extract_pdf(data)
    if file_format in (JATS, DOCBOOK) and (article := article_page(data.decode())):
        page = extract_html(article.page, HTML)
        return page._replace(metadata=article.properties)
    if file_format is RTF:
        data = prepare_rtf(data)
    inserted: Sequence[tuple[str, bytes]] = ()
    if file_format is EPUB:
        data, left_out = epub.prepare(data)
    else:
        data, left_out, inserted = rewrite(data, file_format)
    result = _kreuzberg(data, file_format, "markdown")
    if file_format in (XLS, XLSB):
        sheets = from_grids(result, data)
        return Extracted(sheets.markdown, sheets.properties, left_out=sheets.left_out)
    texts = [_text_of_inserted(file, name, read_inserted, left_out) for name, file in inserted]
    markdown = word_in_markdown(_tidy(result.content), texts)
    return Extracted(markdown, dict(result.metadata), (), left_out)


def _text_of_inserted(
    data: bytes, name: str, read: ReadInserted | None, left_out: list[str]
) -> str:
    """Return the text of an inserted file, empty if it is not read; add its unread parts to `left_out`."""
    text = ""
    try:
        if read is None:
            raise ParseError("it stands in an inserted file itself")
        text, omissions = read(data, name)
    except ParseError as error:
        omissions = [str(error)]
    file = f"the inserted file {name}" if name else "an inserted file"
    left_out += [f"{file}: {omission}" for omission in omissions]
    return text


def _extract_pdf(data: bytes) -> Extracted:
    with _PDFIUM:
        result = _kreuzberg(data, PDF, "markdown")
        pages = [page["content"] for page in result.pages or ()]
        markdown, pages = in_reading_order(data, _tidy(result.content), pages)
    return Extracted(markdown, dict(result.metadata), pages)


def extract_html(html: str, file_format: Format) -> Extracted:
    """Return the content of a decoded web page: its `<main>` or `<article>` if present, without menus and footers."""
    page = with_formulas(with_streamed_parts(with_end_tags(html)))
    page = regular_tags(content_of(readable_page(page)))
    page, readings = join_words(join_header_rows(page))
    # Djot, not Markdown: the Markdown writer turns the page's metadata into a heading and duplicates lines of code.
    result = _kreuzberg(page.encode(), file_format, "djot")
    content = _tidy(_FRONT_MATTER.sub("", result.content, count=1))
    content = _STRUCK.sub(r"~~\1~~", content)
    markdown = _remove_menus(content)
    return Extracted(markdown, dict(result.metadata), left_out=readings_left_out(readings))


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


def _tidy(markdown: str) -> str:
    """Remove image addresses, empty links, empty table rows, one-cell tables and needless escapes outside code."""
    # The split yields prose, code, its fence, prose, …
    parts = _FENCES.split(markdown)
    for i in range(0, len(parts), 3):
        prose = _EMPTY_LINK.sub("", _IMAGE.sub(r"\1", _FORMULA_SOURCE.sub("", parts[i])))
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
