"""The text nodes of a file, without structure: the reference that `completeness` compares a parsed text with.

It shares neither code nor library with `extraction`. The only knowledge that both have are the rules of what is left
out on purpose (docs/explanation/what-is-read.md). PDF and the formats before 2007 have no text nodes: they have no
reference.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from html.parser import HTMLParser
from typing import Any
from xml.parsers import expat

from resources.errors import ParseError
from resources.parsing.formats import DOCX, EPUB, HTML, MAIL, ODP, ODS, ODT, PPTX, XLSX, Format

#: Bytes of XML that are read for a comparison; a larger file has no reference.
_MAX_BYTES = 32 * 1024 * 1024

#: Elements that separate words.
_BREAKS = {
    **dict.fromkeys(("tab", "ptab", "br", "cr", "s", "line-break"), " "),
    **dict.fromkeys(("p", "h", "si", "is", "tc"), "\n"),
    "noBreakHyphen": "-",
}
#: Elements whose text a reader of the file does not see: text moved away or deleted, the second form of alternative
#: content, readings above words, comments, marks of notes. Formulas come out in another notation.
_UNSEEN = {
    *("moveFrom", "del", "Fallback", "rt", "rPh", "oMath"),
    *("tracked-changes", "annotation", "ruby-text", "note-citation", "hidden-text"),
}


def source_text(data: bytes, file_format: Format) -> str:
    """Return the text nodes of a file, empty if its format has no reference or the file cannot be read."""
    read = _READERS.get(file_format)
    try:
        return read(data) if read else ""
    # Damage is the extractor's to report. Python's readers of ZIP and mail raise many kinds of errors.
    except Exception:
        return ""


def _zipped_xml(pattern: str, *text_elements: str) -> Callable[[bytes], str]:
    """Return a reader of the characters inside elements of these names, in the parts whose names match."""

    def read(data: bytes) -> str:
        return "\n".join(_xml_text(part, text_elements) for part in _parts(data, pattern))

    return read


def _parts(data: bytes, pattern: str) -> Iterator[bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [info for info in archive.infolist() if re.fullmatch(pattern, info.filename)]
        if sum(info.file_size for info in members) > _MAX_BYTES:
            raise ValueError("too large for a comparison")
        for info in members:
            # Never more than the stated size, which may be a lie.
            with archive.open(info) as part:
                yield part.read(info.file_size)


def _xml_text(content: bytes, text_elements: tuple[str, ...]) -> str:
    pieces: list[str] = []
    # For each open run, the number of pieces before it.
    runs: list[int] = []
    unseen = inside = properties = 0
    hidden = False

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal unseen, inside, properties, hidden
        name = name.rpartition(":")[2]
        unseen += name in _UNSEEN
        inside += name in text_elements
        properties += name == "pPr"
        if name == "r":
            runs.append(len(pieces))
            hidden = False
        elif name == "vanish" and not properties:
            hidden = attributes.get("w:val") not in ("0", "false", "off")
        elif name in _BREAKS and not unseen and not properties:
            pieces.append(_BREAKS[name])

    def end(name: str) -> None:
        nonlocal unseen, inside, properties, hidden
        name = name.rpartition(":")[2]
        unseen -= name in _UNSEEN
        inside -= name in text_elements
        properties -= name == "pPr"
        if name == "r" and runs:
            before = runs.pop()
            if hidden:
                del pieces[before:]
            hidden = False
        elif name in _BREAKS and _BREAKS[name] == "\n":
            pieces.append("\n")

    def characters(text: str) -> None:
        if inside and not unseen:
            pieces.append(text)

    def doctype(*_: object) -> None:
        raise ValueError("a document type declaration")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = characters, doctype
    parser.Parse(content, True)
    return "".join(pieces)


class _PageText(HTMLParser):
    """Collects the text of a page's body."""

    _UNREAD = ("head", "script", "style", "template", "rt", "rp", "rtc", "title")

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._unread: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in self._UNREAD:
            self._unread.append(tag)
        if tag not in _INLINE:
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._unread:
            # The end tags of elements inside may be missing.
            del self._unread[self._unread.index(tag) :]
        if tag not in _INLINE:
            self.pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._unread:
            self.pieces.append(data)


#: Elements that do not separate words.
_INLINE = frozenset(
    (
        *(
            "a",
            "abbr",
            "b",
            "bdi",
            "bdo",
            "cite",
            "code",
            "data",
            "del",
            "dfn",
            "em",
            "font",
            "i",
            "ins",
            "kbd",
        ),
        *(
            "mark",
            "q",
            "rb",
            "rp",
            "rt",
            "rtc",
            "ruby",
            "s",
            "samp",
            "small",
            "span",
            "strike",
            "strong",
            "sub",
        ),
        *("sup", "time", "tt", "u", "var", "wbr"),
    )
)


def html_text(html: str) -> str:
    """Return the text nodes of a page's body."""
    page = _PageText()
    page.feed(html)
    page.close()
    return "".join(page.pieces)


def _html_file_text(data: bytes) -> str:
    from resources.parsing.decoding import decode

    return html_text(decode(data)[0])


def _epub_text(data: bytes) -> str:
    from resources.parsing.decoding import decode

    pages = _parts(data, r"(?i).*\.x?html?")
    try:
        return "\n".join(html_text(decode(page).text) for page in pages)
    except ParseError:
        # The reader gives the reason.
        return ""


def _mail_text(data: bytes) -> str:
    """Return the subject and the text of a mail's parts; of alternative forms the first, of attachments none."""
    message = message_from_bytes(data, policy=policy.default)
    texts = [str(message["subject"] or "")]
    pending: list[Any] = [message]
    while pending:
        part = pending.pop(0)
        if part.get_content_type() == "multipart/alternative":
            pending[:0] = [*part.iter_parts()][:1]
        elif part.is_multipart():
            pending[:0] = part.iter_parts()
        elif part.get_content_maintype() == "text" and not part.get_filename():
            text = str(part.get_content())
            texts.append(html_text(text) if part.get_content_subtype() == "html" else text)
    return "\n".join(texts)


_READERS: dict[Format, Callable[[bytes], str]] = {
    DOCX: _zipped_xml(r"word/(?:document|footnotes|endnotes|header\d*|footer\d*)\.xml", "t"),
    PPTX: _zipped_xml(r"ppt/(?:slides/slide|notesSlides/notesSlide)\d+\.xml", "t"),
    XLSX: _zipped_xml(r"xl/(?:sharedStrings|worksheets/sheet\d+)\.xml", "t"),
    **dict.fromkeys((ODT, ODS, ODP), _zipped_xml(r"content\.xml", "p", "h")),
    EPUB: _epub_text,
    HTML: _html_file_text,
    MAIL: _mail_text,
}
