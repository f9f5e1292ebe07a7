"""The bytes and the key of one document → `ParsedDocument`, or ParseError with a readable reason.

Selects the reader by the format, then finds title, author, category, tags and language. The neighbouring modules detect
formats, decode and extract; chunks and vectors are created elsewhere.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parseaddr
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote

from resources.errors import ParseError
from resources.parsing.decoding import clean, decode
from resources.parsing.extraction import extract, extract_html
from resources.parsing.formats import Format, detect_format
from resources.parsing.front_matter import Fields, FrontMatter, read_front_matter
from resources.parsing.language import detect_language
from resources.parsing.pages import page_starts
from resources.parsing.structured import json_text, subtitles_text, table_text, xml_text

JSON: TypeAlias = "str | int | float | bool | list[JSON] | dict[str, JSON] | None"

#: Increase this when a change here changes a document's output. The libraries' versions are added: they change it too.
_REVISION = 4
PARSER_VERSION: str = ";".join(
    [
        f"parsing={_REVISION}",
        *(
            f"{name}={version(name)}"
            for name in ("kreuzberg", "ftfy", "charset-normalizer", "lingua-language-detector")
        ),
    ]
)

MAX_TITLE, MAX_AUTHOR, MAX_CATEGORY, MAX_TAG = 1000, 255, 100, 255


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """The text of a document and its properties.

    `title` has 1 to 1000 characters. `text` is NFC, not blank, without control characters besides newline and tab;
    `markdown` is true if it is Markdown. `language` is ISO 639-1, None if there is too little prose. `category` and
    `tags` come from front matter: empty if it does not state them, None without front matter. `encoding` is the codec
    of a text file. `metadata` is small: counts of pages and sheets, dates, and for a PDF `page_starts`, the offset in
    the text of each page.
    """

    title: str
    text: str
    markdown: bool
    language: str | None
    author: str | None
    category: str | None
    tags: list[str] | None
    mime_type: str
    encoding: str | None
    metadata: dict[str, JSON]


class _Content(NamedTuple):
    text: str
    markdown: bool
    encoding: str | None
    properties: Mapping[str, Any]
    pages: Sequence[str] = ()


def parse_document(
    data: bytes, key: str, *, language: str | None = None, file_format: Format | None = None
) -> ParsedDocument:
    """Parse one document; `key` is its name in its source.

    `language` (ISO 639-1) replaces language detection, `file_format` replaces format detection. Thread-safe. Raises
    ParseError if the file is empty, encrypted, damaged, without text, or of an unsupported kind (images, archives,
    media, executables).
    """
    file_format = file_format or detect_format(data, key)
    content = _read_content(data, file_format)
    text = clean(content.text).strip("\n")
    if not text.strip():
        raise ParseError(_no_text_reason(file_format))
    front_matter = read_front_matter(text) if content.markdown else None
    fields = front_matter.fields if front_matter else {}
    return ParsedDocument(
        title=_title(content, file_format, text, front_matter, key),
        text=text,
        markdown=content.markdown,
        language=language or detect_language(text),
        author=_author(content.properties, fields),
        category=_category(fields) if front_matter else None,
        tags=_tags(fields) if front_matter else None,
        mime_type=file_format.mime_type,
        encoding=content.encoding,
        metadata=_metadata(content, text),
    )


def _read_content(data: bytes, file_format: Format) -> _Content:
    if file_format.reader == "extract":
        markdown, properties, pages = extract(data, file_format)
        return _Content(markdown, True, None, properties, pages)
    text, encoding = decode(data)
    match file_format.reader:
        case "html":
            markdown, properties, _ = extract_html(clean(text), file_format)
            return _Content(markdown, True, encoding, properties)
        case "table":
            delimiter = "\t" if file_format.kind == "TSV" else None
            return _Content(table_text(text, delimiter=delimiter), False, encoding, {})
        case "json":
            return _Content(json_text(text), False, encoding, {})
        case "xml":
            return _Content(xml_text(text), False, encoding, {})
        case "subtitles":
            return _Content(subtitles_text(clean(text)), False, encoding, {})
        case _:
            return _Content(text, file_format.reader == "markdown", encoding, {})


def _no_text_reason(file_format: Format) -> str:
    if file_format.kind == "PDF":
        return "the PDF has no text layer (a scan?): its pages are images, which are not read"
    return f"the {file_format.kind} file contains no text"


_FENCED = re.compile(r"^(```|~~~).*?(?:^\1|\Z)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(
    r"^ {0,3}\#{1,6}[ \t]++(?P<atx>\S[^\n]*)$"
    r"|^(?P<setext>\S.*)\n(?:={2,}|-{2,})[ \t]*$"
    r"|^[ \t]*<h1\b[^<>]*>(?P<html>.*?)</h1>",
    re.MULTILINE,
)
_OTHER_HEADINGS = {
    "reStructuredText": re.compile(
        r"^(?:([=\-~^\"#*+])\1{2,}\n)?[ \t]*(?P<title>\S.*)\n([=\-~^\"#*+])\3{2,}[ \t]*$",
        re.MULTILINE,
    ),
    "AsciiDoc": re.compile(r"^={1,2}[ \t]+(?P<title>\S.*)$", re.MULTILINE),
    "LaTeX": re.compile(r"\\title(?:\[[^\]]*\])?\{(?P<title>[^{}]+)\}"),
    "XML": re.compile(r"^(?:[\w-]*title|dc:title): (?P<title>.+)$", re.MULTILINE | re.IGNORECASE),
}
_INLINE = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|\{[#:.][^}]*\}|<[^<>]*>|[`*]+|\\(?=[^\w\s])")
#: Default titles of programs, and meaningless ones (a number, broken RTF escapes).
_USELESS_TITLE = re.compile(
    r"(?:untitled.*|unbenannt.*|sans titre.*|无标题.*|無題.*|title|document\d*|book\d*|slide \d+|presentation\d*|"
    r"sheet ?\d+|feuil\d+|tabelle\d+|click to edit master .*|\W*\w?\W*|[\W\d]*|.*\\'.*|"
    r"powerpoint presentation|powerpoint-präsentation|microsoft (?:word|powerpoint|excel) - .*|.*\.(?:docx?|xlsx?|pptx?"
    r"|od[tsp]|pdf|indd|tex|dvi|qxd|rtf|html?|jpe?g|png|tiff?))",
    re.IGNORECASE,
)


def _title(
    content: _Content, file_format: Format, text: str, front_matter: FrontMatter | None, key: str
) -> str:
    title_in_file = _title_in_file(content, file_format, text, front_matter)
    for candidate in (title_in_file, _title_from_key(key), key):
        if title := _clean_line(candidate, MAX_TITLE):
            return title
    return "untitled"


def _title_in_file(
    content: _Content, file_format: Format, text: str, front_matter: FrontMatter | None
) -> str:
    is_mail = file_format.kind in ("mail", "Outlook message")
    for name in ("title", "subject") if is_mail else ("title",):
        stated = html.unescape(str(content.properties.get(name) or "")[:MAX_TITLE]).strip()
        if stated and not _USELESS_TITLE.fullmatch(stated):
            return stated
    head = text[:20_000]
    if content.markdown:
        if front_matter:
            if stated := next(iter(_values(front_matter.fields.get("title"))), ""):
                return stated
            head = head[front_matter.end :]
        for heading in _HEADING.finditer(_FENCED.sub("", head)):
            stated = next(filter(None, heading.groups()))[: 4 * MAX_TITLE].rstrip()
            # The marks that open a heading may also close it.
            if heading["atx"] and (unclosed := stated.rstrip("#"))[-1:].isspace():
                stated = unclosed
            title = html.unescape(_INLINE.sub(r"\1", stated)).strip()
            if title and (file_format.reader == "markdown" or not _USELESS_TITLE.fullmatch(title)):
                return title
    elif (pattern := _OTHER_HEADINGS.get(file_format.kind)) and (heading := pattern.search(head)):
        return heading["title"]
    return ""


def _category(fields: Fields) -> str:
    """Return the category, or the first of several; empty if none is stated."""
    stated = [*_values(fields.get("category")), *_split(fields.get("categories"))]
    return next(filter(None, (_clean_line(value, MAX_CATEGORY) for value in stated)), "")


def _tags(fields: Fields) -> list[str]:
    stated = _split(fields.get("tags") or fields.get("tag"))
    return [tag for value in stated if (tag := _clean_line(value, MAX_TAG))]


def _values(field: str | list[str] | None) -> list[str]:
    return [field] if isinstance(field, str) else field or []


def _split(field: str | list[str] | None) -> list[str]:
    """Return the values of a list, or of text that separates them with commas."""
    return field.split(",") if isinstance(field, str) else field or []


def _clean_line(text: str, max_length: int) -> str:
    return " ".join(clean(text).split())[:max_length].strip()


def _title_from_key(key: str) -> str:
    """Return the file name without suffix and with spaces, or for an index page the name of its folder."""
    path = PurePosixPath(unquote(key).rstrip("/"))
    stem = path.stem
    if stem.lower() in ("index", "readme", "_index") and path.parent.name:
        stem = path.parent.name
    return re.sub(r"[_\s]+|(?<=\w)-+(?=\w)", " ", stem)


def _author(properties: Mapping[str, Any], fields: Fields) -> str | None:
    names = ("authors", "author", "from_name", "from_email")
    stated = next(filter(None, map(properties.get, names)), None)
    stated = stated or fields.get("author") or fields.get("authors") or ""
    authors = stated if isinstance(stated, list | tuple) else [stated]
    # A sender is `"Name" <address>`: take the name.
    author = ", ".join(
        next(filter(None, parseaddr(name)), "") if "<" in name else name
        for name in (str(name)[:MAX_AUTHOR] for name in authors)
    )
    return _clean_line(author, MAX_AUTHOR) or None


def _metadata(content: _Content, text: str) -> dict[str, JSON]:
    metadata: dict[str, JSON] = {}
    properties = content.properties
    counts = {"page_count": "pages", "sheet_count": "sheets", "slide_count": "slides"}
    for name, key in counts.items():
        if isinstance(properties.get(name), int):
            metadata[key] = properties[name]
    for name in ("created_at", "modified_at", "date", "from_email", "canonical_url"):
        if isinstance(value := properties.get(name), str) and value.strip():
            metadata[name] = clean(value)[:MAX_TITLE]
    if content.pages:
        metadata["page_starts"] = [*page_starts(text, [clean(page) for page in content.pages])]
    return metadata
