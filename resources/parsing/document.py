"""One document: its bytes and its key → `ParsedDocument`, or ParseError with a reason that a person understands.

Chooses the reader by the format, then finds title, author and language. How formats are told apart, decoded and
extracted is next door; what happens to the text afterwards (chunks, vectors) is elsewhere.
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
from resources.parsing.language import detect_language
from resources.parsing.pages import page_starts
from resources.parsing.structured import json_text, subtitles_text, table_text, xml_text

JSON: TypeAlias = "str | int | float | bool | list[JSON] | dict[str, JSON] | None"

#: Raised when our own reading changes; the libraries' versions follow because their output is the text.
_REVISION = 3
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
    """A document as text.

    `title` is never empty, at most 1000 characters. `text` is NFC, not blank, without control characters besides
    newline and tab; `markdown` says that its headings mean something. `language` is ISO 639-1, None where there is
    too little prose. `category` and `tags` are what the front matter says, empty where it does not, None where there is
    none. `encoding` is the codec a text file was decoded with. `metadata` is small: pages, sheets, dates,
    and of a PDF `page_starts`, the offset in the text of each of its pages.
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


class _Read(NamedTuple):
    text: str
    markdown: bool
    encoding: str | None
    about: Mapping[str, Any]
    pages: Sequence[str] = ()


def parse_document(
    data: bytes, key: str, *, language: str | None = None, found: Format | None = None
) -> ParsedDocument:
    """Parses one document; `key` is its name in its source, `language` (ISO 639-1) forces the language, `found` is
    its format where that is known already.

    Safe to call from several threads. ParseError: empty, encrypted, damaged, without text, or of a kind that is not
    read (images, archives, media, executables).
    """
    found = found or detect_format(data, key)
    read = _read(data, found)
    text = clean(read.text).strip("\n")
    if not text.strip():
        raise ParseError(_without_text(found))
    found_front = _FRONT_MATTER.match(text) if read.markdown else None
    front = found_front and found_front[1]
    return ParsedDocument(
        title=_title(read, found, text, key),
        text=text,
        markdown=read.markdown,
        language=language or detect_language(text),
        author=_author(read, front),
        category=None if front is None else _category(front),
        tags=None if front is None else _listed(front, "tags?", MAX_TAG),
        mime_type=found.mime_type,
        encoding=read.encoding,
        metadata=_metadata(read, text),
    )


def _read(data: bytes, found: Format) -> _Read:
    if found.reader == "extract":
        content, about, pages = extract(data, found)
        return _Read(content, True, None, about, pages)
    text, encoding = decode(data)
    match found.reader:
        case "html":
            content, about, _ = extract_html(clean(text), found)
            return _Read(content, True, encoding, about)
        case "table":
            return _Read(
                table_text(text, delimiter="\t" if found.kind == "TSV" else None),
                False,
                encoding,
                {},
            )
        case "json":
            return _Read(json_text(text), False, encoding, {})
        case "xml":
            return _Read(xml_text(text), False, encoding, {})
        case "subtitles":
            return _Read(subtitles_text(clean(text)), False, encoding, {})
        case _:
            return _Read(text, found.reader == "markdown", encoding, {})


def _without_text(found: Format) -> str:
    if found.kind == "PDF":
        return "the PDF has no text layer (a scan?): its pages are images, which are not read"
    return f"the {found.kind} file holds no text"


_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FIELD = r"^%s[ \t]*+:[ \t]*+(\S[^\n]*)$"
_LIST = r"^%s[ \t]*+:[ \t]*+\n((?:[ \t]*+-(?:[ \t][^\n]*+)?(?:\n|\Z))++)"
_FENCED = re.compile(r"^(```|~~~).*?(?:^\1|\Z)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(
    r"^ {0,3}\#{1,6}[ \t]++(?P<atx>\S[^\n]*)$"
    r"|^(?P<setext>\S.*)\n(?:={2,}|-{2,})[ \t]*$"
    r"|^[ \t]*<h1\b[^<>]*>(?P<html>.*?)</h1>",
    re.MULTILINE,
)
_HEADINGS_ELSEWHERE = {
    "reStructuredText": re.compile(
        r"^(?:([=\-~^\"#*+])\1{2,}\n)?[ \t]*(?P<title>\S.*)\n([=\-~^\"#*+])\3{2,}[ \t]*$",
        re.MULTILINE,
    ),
    "AsciiDoc": re.compile(r"^={1,2}[ \t]+(?P<title>\S.*)$", re.MULTILINE),
    "LaTeX": re.compile(r"\\title(?:\[[^\]]*\])?\{(?P<title>[^{}]+)\}"),
    "XML": re.compile(r"^(?:[\w-]*title|dc:title): (?P<title>.+)$", re.MULTILINE | re.IGNORECASE),
}
_INLINE = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|\{[#:.][^}]*\}|<[^<>]*>|[`*]+|\\(?=[^\w\s])")
#: What programs write as a title when their user gave none; and what says nothing (a number, broken RTF escapes).
_NO_TITLE = re.compile(
    r"(?:untitled.*|unbenannt.*|sans titre.*|无标题.*|無題.*|title|document\d*|book\d*|slide \d+|presentation\d*|"
    r"sheet ?\d+|feuil\d+|tabelle\d+|click to edit master .*|\W*\w?\W*|[\W\d]*|.*\\'.*|"
    r"powerpoint presentation|powerpoint-präsentation|microsoft (?:word|powerpoint|excel) - .*|.*\.(?:docx?|xlsx?|pptx?"
    r"|od[tsp]|pdf|indd|tex|dvi|qxd|rtf|html?|jpe?g|png|tiff?))",
    re.IGNORECASE,
)


def _title(read: _Read, found: Format, text: str, key: str) -> str:
    for title in (_own_title(read, found, text), _file_title(key), key):
        if title := " ".join(clean(title).split())[:MAX_TITLE].strip():
            return title
    return "untitled"


def _own_title(read: _Read, found: Format, text: str) -> str:
    for name in ("title", "subject") if found.kind in ("mail", "Outlook message") else ("title",):
        stated = html.unescape(str(read.about.get(name) or "")[:MAX_TITLE]).strip()
        if stated and not _NO_TITLE.fullmatch(stated):
            return stated
    if read.markdown:
        body, front = text[:20_000], _FRONT_MATTER.match(text)
        if front:
            if stated := _field(front[1], "title"):
                return stated
            body = body[front.end() :]
        for heading in _HEADING.finditer(_FENCED.sub("", body)):
            stated = next(filter(None, heading.groups()))[: 4 * MAX_TITLE].rstrip()
            if heading["atx"] and (open_ended := stated.rstrip("#"))[-1:].isspace():
                stated = open_ended  # a heading may be closed with the marks that opened it
            named = html.unescape(_INLINE.sub(r"\1", stated)).strip()
            if named and (found.reader == "markdown" or not _NO_TITLE.fullmatch(named)):
                return named
    elif (pattern := _HEADINGS_ELSEWHERE.get(found.kind)) and (
        heading := pattern.search(text[:20_000])
    ):
        return heading["title"]
    return ""


def _field(front_matter: str, name: str) -> str:
    stated = re.search(_FIELD % name, front_matter, re.MULTILINE | re.IGNORECASE)
    value = stated[1].rstrip() if stated else ""
    return "" if value in ("|", ">", "|-", ">-") else value.strip("\"'")


def _category(front_matter: str) -> str:
    """The category, or the first of several; empty where none is stated."""
    stated = " ".join(clean(_field(front_matter, "category")).split())[:MAX_CATEGORY].strip()
    return stated or next(iter(_listed(front_matter, "categories", MAX_CATEGORY)), "")


def _listed(front_matter: str, name: str, longest: int) -> list[str]:
    """The values of `name: [a, b]`, `name: a, b`, or `name:` and lines `- a`."""
    if stated := _field(front_matter, name):
        values = stated.strip("[]").split(",")
    else:
        below = re.search(_LIST % name, front_matter, re.MULTILINE | re.IGNORECASE)
        values = [line.strip().removeprefix("-") for line in below[1].splitlines()] if below else []
    cleaned = (" ".join(clean(value).strip(" \t\"'").split())[:longest] for value in values)
    return [value.strip() for value in cleaned if value]


def _file_title(key: str) -> str:
    """The file name without suffix, with spaces; of an index page, the name of its folder."""
    path = PurePosixPath(unquote(key).rstrip("/"))
    stem = path.stem
    if stem.lower() in ("index", "readme", "_index") and path.parent.name:
        stem = path.parent.name
    return re.sub(r"[_\s]+|(?<=\w)-+(?=\w)", " ", stem)


def _author(read: _Read, front: str | None) -> str | None:
    about = read.about
    stated = (
        about.get("authors")
        or about.get("author")
        or about.get("from_name")
        or about.get("from_email")
    )
    if not stated and front:
        stated = _field(front, "authors?").strip("[]")
    names = stated if isinstance(stated, list | tuple) else [stated or ""]
    # Of a sender, `"Name" <address>`, the name.
    author = ", ".join(
        next(filter(None, parseaddr(name)), "") if "<" in name else name
        for name in (str(name)[:MAX_AUTHOR] for name in names)
    )
    return " ".join(clean(author).split())[:MAX_AUTHOR].strip() or None


def _metadata(read: _Read, text: str) -> dict[str, JSON]:
    kept: dict[str, JSON] = {}
    about = read.about
    for name in ("page_count", "sheet_count", "slide_count"):
        if isinstance(about.get(name), int):
            kept["pages" if name == "page_count" else name.replace("_count", "s")] = about[name]
    for name in ("created_at", "modified_at", "date", "from_email", "canonical_url"):
        if isinstance(stated := about.get(name), str) and stated.strip():
            kept[name] = clean(stated)[:MAX_TITLE]
    if read.pages:
        kept["page_starts"] = [*page_starts(text, [clean(page) for page in read.pages])]
    return kept
