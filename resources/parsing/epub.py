"""E-books (EPUB) in a form that kreuzberg reads well: words without marks inside, one row of names in each table."""

from __future__ import annotations

import io
import re
import zipfile
from html import unescape
from typing import NamedTuple
from urllib.parse import unquote
from xml.sax.saxutils import escape

from resources.parsing.decoding import decode
from resources.parsing.header_rows import join_header_rows
from resources.parsing.inline_marks import join_words, readings_left_out

#: Bytes of all chapters; a larger book is read as it is.
_MAX_BYTES = 64 * 1024 * 1024
_CHAPTERS = (".xhtml", ".html", ".htm", ".xht")
#: The extractor reads none of these.
_MEDIA = (
    *(".jpg", ".jpeg", ".png", ".gif", ".webp"),
    *(".ttf", ".otf", ".woff", ".woff2", ".mp3", ".mp4", ".m4a"),
)
#: Kreuzberg glues the mark of a note to its word.
_RAISED = re.compile(r"<sup\b[^<>]*>([^<>]*)</sup\s*>", re.IGNORECASE)
#: Of a chapter that is no valid XML, the extractor writes the title as a line of text.
_TITLE = re.compile(r"<title\b[^<>]*>[^<>]*</title\s*>", re.IGNORECASE)
#: The extractor looks for files by the encoded names of the package.
_REFERENCE = re.compile(r"""(?<=\bhref=)("[^"<>]*%[^"<>]*"|'[^'<>]*%[^'<>]*')""")
_DECLARATION = re.compile(r"\A\s*<\?xml[^<>]*\?>")


class Book(NamedTuple):
    """The bytes of an e-book, and what was left out."""

    data: bytes
    left_out: list[str]


def prepare(data: bytes) -> Book:
    """Return the book with its chapters prepared; unchanged if no chapter needs it, or if it is too large."""
    changed: dict[str, bytes] = {}
    readings = 0
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            chapters = [i for i in archive.infolist() if i.filename.lower().endswith(_CHAPTERS)]
            if sum(chapter.file_size for chapter in chapters) > _MAX_BYTES:
                return Book(data, [])
            for chapter in chapters:
                raw = archive.read(chapter)
                after, count = join_words(join_header_rows(decode(raw).text))
                readings += count
                after = _TITLE.sub("", _RAISED.sub(r"^\1^", after))
                # It reads UTF-8 only.
                if after.encode() != raw:
                    after = _DECLARATION.sub('<?xml version="1.0" encoding="utf-8"?>', after)
                    changed[chapter.filename] = after.encode()
            for package in archive.infolist():
                if package.filename.lower().endswith(".opf"):
                    changed |= _with_plain_names(package.filename, archive.read(package))
            return Book(
                _written(archive, changed) if changed else data, readings_left_out(readings)
            )
    # zipfile raises many kinds of errors for damaged members; the extractor then gives the reason.
    except Exception:
        return Book(data, [])


def _with_plain_names(name: str, package: bytes) -> dict[str, bytes]:
    """Return the package, by its name, with `Kapitel 1.xhtml` for `Kapitel%201.xhtml`; nothing if no name changes."""
    before = decode(package).text
    after = _REFERENCE.sub(lambda name: escape(unquote(unescape(name[0]))), before)
    if after == before:
        return {}
    after = _DECLARATION.sub('<?xml version="1.0" encoding="utf-8"?>', after)
    return {name: after.encode()}


def _written(archive: zipfile.ZipFile, changed: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    size = 0
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as book:
        for member in archive.infolist():
            if member.filename.lower().endswith(_MEDIA):
                continue
            content = changed.get(member.filename)
            if content is None:
                content = archive.read(member)
            size += len(content)
            if size > 2 * _MAX_BYTES:
                raise ValueError("the book is too large")
            book.writestr(member.filename, content)
    return buffer.getvalue()
