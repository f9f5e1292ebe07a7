"""Titles: the stated one, else the first heading, else the key.

Titles of programs ("Untitled", "Document1") do not count.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from rag_assets.pipeline.field_limits import TITLE_CHARS
from rag_assets.pipeline.front_matter import FrontMatter
from resources.parsing.formats import MAIL, MSG, TNEF, Format
from resources.parsing.stated_fields import clean_line, cut, values

_FENCED = re.compile(r"^(```|~~~).*?(?:^\1|\Z)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(
    r"^ {0,3}\#{1,6}[ \t]++(?P<atx>\S[^\n]*)$"
    r"|^(?![>|]|[-*+][ \t]|\d{1,9}[.)][ \t])(?P<setext>\S.*)\n(?:={2,}|-{2,})[ \t]*$"
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


def title_of(
    text: str,
    key: str,
    file_format: Format,
    properties: Mapping[str, Any],
    *,
    markdown: bool,
    front_matter: FrontMatter | None,
) -> str:
    """Return the title of a document: 1 to 1000 characters."""
    title_in_file = _stated(properties, file_format, front_matter) or _heading(
        text, file_format, markdown=markdown, start=front_matter.end if front_matter else 0
    )
    for candidate in (title_in_file, _title_from_key(key), key):
        if title := clean_line(candidate):
            return cut(title, TITLE_CHARS)
    return "untitled"


def _stated(
    properties: Mapping[str, Any], file_format: Format, front_matter: FrontMatter | None
) -> str:
    is_mail = file_format in (MAIL, MSG, TNEF)
    for name in ("title", "subject") if is_mail else ("title",):
        stated = html.unescape(str(properties.get(name) or "")[:TITLE_CHARS]).strip()
        if stated and not _USELESS_TITLE.fullmatch(stated):
            return stated
    titles = values(front_matter.fields.get("title")) if front_matter else []
    return next(iter(titles), "")


def _heading(text: str, file_format: Format, *, markdown: bool, start: int) -> str:
    head = text[:20_000]
    if markdown:
        for heading in _HEADING.finditer(_FENCED.sub("", head[start:])):
            stated = next(filter(None, heading.groups()))[: 4 * TITLE_CHARS].rstrip()
            # The marks that open a heading may also close it.
            if heading["atx"] and (unclosed := stated.rstrip("#"))[-1:].isspace():
                stated = unclosed
            title = html.unescape(_INLINE.sub(r"\1", stated)).strip()
            # Two rules below each other are no heading.
            if not any(map(str.isalnum, title)):
                continue
            if file_format.reader == "markdown" or not _USELESS_TITLE.fullmatch(title):
                return title
    elif (pattern := _OTHER_HEADINGS.get(file_format.kind)) and (heading := pattern.search(head)):
        return heading["title"]
    return ""


def _title_from_key(key: str) -> str:
    """Return the file name without suffix and with spaces, or for an index page the name of its folder."""
    path = PurePosixPath(unquote(key).rstrip("/"))
    stem = path.stem
    if stem.lower() in ("index", "readme", "_index") and path.parent.name:
        stem = path.parent.name
    return re.sub(r"[_\s]+|(?<=\w)-+(?=\w)", " ", stem)
