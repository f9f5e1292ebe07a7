"""What a file is: by its first bytes, then by its suffix. What cannot be read is refused here, with the reason.

Nothing is decoded, extracted or unpacked here: of a ZIP only its list of members and two small entries are read.
"""

from __future__ import annotations

import io
import mimetypes
import re
import zipfile
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from resources.errors import ParseError

Reader = Literal["text", "markdown", "table", "json", "subtitles", "xml", "html", "extract"]


class Format(NamedTuple):
    """A kind of file, for messages; its MIME type; and who reads it."""

    kind: str
    mime_type: str
    reader: Reader


_OOXML = "application/vnd.openxmlformats-officedocument."
_ODF = "application/vnd.oasis.opendocument."
PDF = Format("PDF", "application/pdf", "extract")
DOCX = Format("Word", _OOXML + "wordprocessingml.document", "extract")
PPTX = Format("PowerPoint", _OOXML + "presentationml.presentation", "extract")
XLSX = Format("Excel", _OOXML + "spreadsheetml.sheet", "extract")
XLSB = Format("Excel", "application/vnd.ms-excel.sheet.binary.macroEnabled.12", "extract")
ODT = Format("OpenDocument text", _ODF + "text", "extract")
ODS = Format("OpenDocument spreadsheet", _ODF + "spreadsheet", "extract")
EPUB = Format("EPUB", "application/epub+zip", "extract")
DOC = Format("Word 97–2003", "application/msword", "extract")
PPT = Format("PowerPoint 97–2003", "application/vnd.ms-powerpoint", "extract")
XLS = Format("Excel 97–2003", "application/vnd.ms-excel", "extract")
MSG = Format("Outlook message", "application/vnd.ms-outlook", "extract")
RTF = Format("RTF", "application/rtf", "extract")
MAIL = Format("mail", "message/rfc822", "extract")
NOTEBOOK = Format("Jupyter notebook", "application/x-ipynb+json", "extract")
JATS = Format("JATS article", "application/x-jats+xml", "extract")
DOCBOOK = Format("DocBook", "application/docbook+xml", "extract")
HTML = Format("HTML", "text/html", "html")
XML = Format("XML", "application/xml", "xml")
TEXT = Format("text", "text/plain", "text")
MARKDOWN = Format("Markdown", "text/markdown", "markdown")

_BY_SUFFIX: dict[str, Format] = {
    **dict.fromkeys((".md", ".markdown", ".mdx", ".mdown", ".mkd", ".rmd", ".qmd"), MARKDOWN),
    **dict.fromkeys((".html", ".htm", ".xhtml", ".xht"), HTML),
    **dict.fromkeys((".eml", ".mht", ".mhtml"), MAIL),
    **dict.fromkeys((".xml", ".rss", ".atom"), XML),
    ".nxml": JATS,
    ".dbk": DOCBOOK,
    ".ipynb": NOTEBOOK,
    ".csv": Format("CSV", "text/csv", "table"),
    ".tsv": Format("TSV", "text/tab-separated-values", "table"),
    ".json": Format("JSON", "application/json", "json"),
    ".geojson": Format("JSON", "application/geo+json", "json"),
    ".ndjson": Format("JSON lines", "application/x-ndjson", "json"),
    ".jsonl": Format("JSON lines", "application/x-ndjson", "json"),
    ".vtt": Format("subtitles", "text/vtt", "subtitles"),
    ".srt": Format("subtitles", "application/x-subrip", "subtitles"),
    ".rst": Format("reStructuredText", "text/x-rst", "text"),
    **dict.fromkeys((".adoc", ".asciidoc"), Format("AsciiDoc", "text/asciidoc", "text")),
    ".tex": Format("LaTeX", "application/x-tex", "text"),
}
#: Suffixes whose content must begin with a signature: with plain text inside, the name is wrong, and text wins.
_SIGNED = (
    ".pdf",
    ".docx",
    ".pptx",
    ".xlsx",
    ".odt",
    ".ods",
    ".epub",
    ".doc",
    ".ppt",
    ".xls",
    ".msg",
)

_REFUSED: tuple[tuple[bytes, str], ...] = (
    *(
        (magic, "images are not read: {}")
        for magic in (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
    ),
    *(
        (magic, "images are not read: {}")
        for magic in (b"II*\0", b"MM\0*", b"\0\0\1\0", b"8BPS", b"\0\0\0\x0cjP  ")
    ),
    *(
        (magic, "archives are not read: {}")
        for magic in (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"7z\xbc\xaf\x27\x1c")
    ),
    *(
        (magic, "archives are not read: {}")
        for magic in (b"Rar!\x1a\x07", b"\x28\xb5\x2f\xfd", b"\x1f\x9d", b"MSCF\0")
    ),
    *((magic, "archives in parts are not read: {}") for magic in (b"PK\x07\x08", b"PK00")),
    *(
        (magic, "audio and video are not read: {}")
        for magic in (b"ID3", b"OggS", b"fLaC", b"\x1aE\xdf\xa3", b"FLV\1")
    ),
    *(
        (magic, "audio and video are not read: {}")
        for magic in (b"\xff\xfb", b"\xff\xf3", b"\0\0\1\xba")
    ),
    *(
        (magic, "executables are not read: {}")
        for magic in (b"\x7fELF", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe")
    ),
    *((magic, "executables are not read: {}") for magic in (b"\0asm", b"MZ\x90\0", b"dex\n035")),
    *(
        (magic, "data files are not read: {}")
        for magic in (b"SQLite format 3\0", b"PAR1", b"\x89HDF", b"GRIB")
    ),
    *((magic, "fonts are not read: {}") for magic in (b"wOFF", b"wOF2", b"\0\1\0\0\0", b"OTTO\0")),
    (b"ITSF", "compiled help is not read: {}"),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", "OneNote is not read: {}"),
)
#: The same for suffixes without a signature that could be told from text.
_REFUSED_SUFFIX = {
    ".svg": "images are not read: {}",
    ".one": "OneNote is not read: {}",
    **dict.fromkeys((".tar", ".zip", ".rar", ".7z"), "archives are not read: {}"),
    ".exe": "executables are not read: {}",
    ".dll": "executables are not read: {}",
}
#: Streams of an OLE container, in the order in which they decide (a message may hold a Word file).
_OLE: tuple[tuple[str, Format], ...] = (
    ("__properties_version1.0", MSG),
    ("PowerPoint Document", PPT),
    ("WordDocument", DOC),
    ("Workbook", XLS),
    ("Book", XLS),
)
_ENCRYPTED = "the file is encrypted: a password is needed to read it"
_HTML_START = re.compile(
    rb"\s*(?:<!--.*?-->\s*|<\?xml[^>]*\?>\s*)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_DOCBOOK_ROOT = re.compile(rb"<(?:book|article)\b[^>]*docbook\.org", re.IGNORECASE)


#: MIME type -> format, as `detect_format` names them; any other text/… is plain text.
_BY_MIME = {
    found.mime_type: found
    for found in (
        *(PDF, DOCX, PPTX, XLSX, XLSB, ODT, ODS, EPUB, DOC, PPT, XLS, MSG, RTF),
        *_BY_SUFFIX.values(),
    )
}


def format_of(mime_type: str) -> Format:
    """The format whose documents have this MIME type."""
    return _BY_MIME.get(mime_type, TEXT._replace(mime_type=mime_type))


def detect_format(data: bytes, key: str) -> Format:
    """The format of `data`. ParseError: empty, encrypted, damaged, or of a kind that is not read."""
    suffix = PurePosixPath(key.lower()).suffix
    if not data.strip(b"\0 \t\r\n"):
        raise ParseError("the file is empty")
    if b"%PDF-" in data[:1024]:
        return PDF
    if data.startswith(b"PK\x03\x04"):
        return _zip_format(data, suffix)
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return _ole_format(data, suffix)
    if data.startswith(b"{\\rtf"):
        return RTF
    if reason := _refusal(data, suffix):
        raise ParseError(reason.format(suffix or "no suffix"))
    if suffix == ".nxml" or b"//NLM//DTD J" in data[:1024]:
        return JATS
    if _DOCBOOK_ROOT.search(data[:4096]) and suffix in (".xml", ".dbk"):
        return DOCBOOK
    known = _BY_SUFFIX.get(suffix)
    # A name that says text (md, csv, json …) is believed; xml, txt and unknown ones may hold a web page.
    if (known is None or known is XML) and _HTML_START.match(data[:4096]):
        return HTML
    if known is None and data[:100].lstrip(b"\xef\xbb\xbf \r\n").startswith(b"<?xml"):
        return XML
    if suffix in _SIGNED and b"\0" in data[:4096]:
        raise ParseError(
            f"the file is named {suffix} but does not begin like one: damaged, or older than 1997"
        )
    return known or TEXT._replace(mime_type=_text_mime(key))


def _text_mime(key: str) -> str:
    mime = mimetypes.guess_type(key.lower())[0] or ""
    return mime if mime.startswith("text/") else TEXT.mime_type


def _refusal(data: bytes, suffix: str) -> str | None:
    for magic, reason in _REFUSED:
        if data.startswith(magic):
            return reason
    if data[4:8] == b"ftyp" or (data[:4] == b"RIFF" and data[8:12] in (b"WAVE", b"AVI ")):
        return "audio and video are not read: {}"
    if (data[:4] == b"RIFF" and data[8:12] == b"WEBP") or (
        data[:2] == b"BM" and data[6:10] == b"\0\0\0\0"
    ):
        return "images are not read: {}"
    if data[257:262] == b"ustar":
        return "archives are not read: {}"
    return _REFUSED_SUFFIX.get(suffix)


def _zip_format(data: bytes, suffix: str) -> Format:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
            kind = _member(archive, "mimetype").strip().decode("ascii", "replace")
            manifest = _member(archive, "META-INF/manifest.xml")
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        NotImplementedError,
        RuntimeError,
        EOFError,
    ) as error:
        raise ParseError("the file is damaged: its ZIP container cannot be opened") from error
    if b"encryption-data" in manifest:
        raise ParseError(_ENCRYPTED)
    for found in (ODT, ODS, EPUB):
        if kind.startswith(found.mime_type):
            return found
    for folder, found in (("word/", DOCX), ("ppt/", PPTX), ("xl/", XLSX)):
        if "[Content_Types].xml" in names and any(name.startswith(folder) for name in names):
            return XLSB if "xl/workbook.bin" in names else found
    if kind.startswith(_ODF):
        raise ParseError(f"OpenDocument {kind.removeprefix(_ODF)}s are not read: {suffix}")
    raise ParseError(f"archives are not read: {suffix or 'no suffix'}")


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The first 64 KiB of a member (a bomb never unfolds), empty where there is none."""
    if name not in archive.namelist():
        return b""
    with archive.open(name) as member:
        return member.read(64 * 1024)


def _ole_format(data: bytes, suffix: str) -> Format:
    if (
        "EncryptedPackage".encode("utf-16-le") in data
        or "EncryptedSummary".encode("utf-16-le") in data
    ):
        raise ParseError(_ENCRYPTED)
    # The Word stream, most often the first sector: its magic number, and the flag fEncrypted.
    if data[512:514] == b"\xec\xa5" and data[512 + 11] & 1:
        raise ParseError(_ENCRYPTED)
    for name, found in _OLE:
        if name.encode("utf-16-le") in data or (
            name == "Workbook" and "WORKBOOK".encode("utf-16-le") in data
        ):
            return found
    raise ParseError(f"OLE containers of this kind are not read: {suffix or 'no suffix'}")
