"""File formats, detected by the first bytes, then by the suffix. Unsupported kinds raise ParseError with the reason.

Nothing is decoded, extracted or unpacked here: of a ZIP file, only the list of members and two small entries are read.
"""

from __future__ import annotations

import io
import mimetypes
import re
import zipfile
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from resources.errors import ParseError

Reader = Literal[
    "text",
    "markdown",
    "table",
    "json",
    "subtitles",
    "calendar",
    "xml",
    "html",
    "notebook",
    "extract",
]


class Format(NamedTuple):
    """A file format: its name in messages, its MIME type, and the reader for it."""

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
ODP = Format("OpenDocument presentation", _ODF + "presentation", "extract")
EPUB = Format("EPUB", "application/epub+zip", "extract")
DOC = Format("Word 97–2003", "application/msword", "extract")
PPT = Format("PowerPoint 97–2003", "application/vnd.ms-powerpoint", "extract")
XLS = Format("Excel 97–2003", "application/vnd.ms-excel", "extract")
MSG = Format("Outlook message", "application/vnd.ms-outlook", "extract")
TNEF = Format("Outlook winmail.dat", "application/vnd.ms-tnef", "extract")
RTF = Format("RTF", "application/rtf", "extract")
MAIL = Format("mail", "message/rfc822", "extract")
NOTEBOOK = Format("Jupyter notebook", "application/x-ipynb+json", "notebook")
JATS = Format("JATS article", "application/x-jats+xml", "extract")
DOCBOOK = Format("DocBook", "application/docbook+xml", "extract")
HTML = Format("HTML", "text/html", "html")
XML = Format("XML", "application/xml", "xml")
TEXT = Format("text", "text/plain", "text")
MARKDOWN = Format("Markdown", "text/markdown", "markdown")

_BY_SUFFIX: dict[str, Format] = {
    **dict.fromkeys((".md", ".markdown", ".mdx", ".mdown", ".mkd", ".rmd", ".qmd"), MARKDOWN),
    **dict.fromkeys((".html", ".htm", ".xhtml", ".xht"), HTML),
    **dict.fromkeys((".eml", ".mht", ".mhtml", ".mbox", ".mbx"), MAIL),
    **dict.fromkeys((".xml", ".rss", ".atom", ".opml", ".rdf", ".owl", ".kml", ".gpx"), XML),
    **dict.fromkeys((".xlf", ".xliff", ".tmx", ".resx", ".plist", ".wsdl", ".xsd"), XML),
    **dict.fromkeys((".dita", ".ditamap", ".tei", ".fb2", ".ttml", ".dfxp"), XML),
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
    **dict.fromkeys((".ics", ".ical"), Format("calendar", "text/calendar", "calendar")),
    **dict.fromkeys((".vcf", ".vcard"), Format("contacts", "text/vcard", "calendar")),
    ".rst": Format("reStructuredText", "text/x-rst", "text"),
    **dict.fromkeys((".adoc", ".asciidoc"), Format("AsciiDoc", "text/asciidoc", "text")),
    ".tex": Format("LaTeX", "application/x-tex", "text"),
}
#: Suffixes of XML, whatever it contains.
XML_SUFFIXES = {suffix for suffix, kind in _BY_SUFFIX.items() if kind in (XML, JATS, DOCBOOK)}
_OLE_CONTAINER = "an OLE container"
#: Suffix -> the container of such files. Without its signature only content that identifies itself is read: web pages,
#: XML, saved mails. The suffixes of OLE containers are also those of text files: .msg of ROS messages and Tcl catalogs,
#: .doc of plain documentation, .xls of the tables that programs export.
_CONTAINERS: dict[str, str] = {
    ".pdf": "a PDF header",
    **dict.fromkeys(
        (
            *(".docx", ".docm", ".dotx", ".dotm", ".pptx", ".pptm", ".ppsx", ".ppsm", ".potx"),
            *(".xlsx", ".xlsm", ".xltx", ".xltm", ".xlsb", ".vsdx", ".hwpx", ".epub"),
            *(".odt", ".ott", ".ods", ".ots", ".odp", ".otp", ".odg", ".pages", ".numbers"),
        ),
        "a ZIP container",
    ),
    # Not .dot and .pot, which are text files of Graphviz and gettext too.
    **dict.fromkeys((".doc", ".ppt", ".pps", ".xls", ".xlt", ".msg", ".hwp"), _OLE_CONTAINER),
}

#: Reason -> the signatures of unsupported formats. No signature begins with another one.
_UNSUPPORTED: dict[str, tuple[bytes, ...]] = {
    "images are not read: {}": (
        *(b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a"),
        *(b"II*\0", b"MM\0*", b"\0\0\1\0", b"8BPS", b"\0\0\0\x0cjP  "),
    ),
    "archives are not read: {}": (
        *(b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"7z\xbc\xaf\x27\x1c"),
        *(b"Rar!\x1a\x07", b"\x28\xb5\x2f\xfd", b"\x1f\x9d", b"MSCF\0"),
    ),
    "archives in parts are not read: {}": (b"PK\x07\x08", b"PK00"),
    "audio and video are not read: {}": (
        *(b"ID3", b"OggS", b"fLaC", b"\x1aE\xdf\xa3", b"FLV\1"),
        *(b"\xff\xfb", b"\xff\xf3", b"\0\0\1\xba"),
    ),
    "executables are not read: {}": (
        *(b"\x7fELF", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe"),
        *(b"\0asm", b"MZ\x90\0", b"dex\n035"),
    ),
    "data files are not read: {}": (b"SQLite format 3\0", b"PAR1", b"\x89HDF", b"GRIB"),
    "fonts are not read: {}": (b"wOFF", b"wOF2", b"\0\1\0\0\0", b"OTTO\0"),
    "compiled help is not read: {}": (b"ITSF",),
    "OneNote is not read: {}": (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d",),
}
#: Reasons by suffix, for unsupported formats that their first bytes do not identify.
_UNSUPPORTED_SUFFIXES = {
    ".svg": "images are not read: {}",
    ".one": "OneNote is not read: {}",
    **dict.fromkeys((".tar", ".zip", ".rar", ".7z"), "archives are not read: {}"),
    ".exe": "executables are not read: {}",
    ".dll": "executables are not read: {}",
}
#: Streams of OLE containers and their formats. The first match decides: a message may contain a Word file.
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


#: MIME type -> format, for the types that `detect_format` returns; any other text/… is plain text.
_BY_MIME = {
    file_format.mime_type: file_format
    for file_format in (
        *(PDF, DOCX, PPTX, XLSX, XLSB, ODT, ODS, ODP, EPUB, DOC, PPT, XLS, MSG, TNEF, RTF),
        *_BY_SUFFIX.values(),
    )
}


def format_of(mime_type: str) -> Format:
    """Return the format of documents with this MIME type."""
    return _BY_MIME.get(mime_type, TEXT._replace(mime_type=mime_type))


def detect_format(data: bytes, key: str) -> Format:
    """Return the format of `data`. Raises ParseError if it is empty, encrypted, damaged or unsupported."""
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
    if data.startswith(b"\x78\x9f\x3e\x22"):
        return TNEF
    if reason := _unsupported_reason(data, suffix):
        raise ParseError(reason.format(suffix or "no suffix"))
    if suffix == ".nxml" or b"//NLM//DTD J" in data[:1024]:
        return JATS
    if _DOCBOOK_ROOT.search(data[:4096]) and suffix in (".xml", ".dbk"):
        return DOCBOOK
    by_suffix = _BY_SUFFIX.get(suffix)
    # The suffixes of text formats (md, csv, json …) are trusted; .xml, .txt and unknown suffixes may be a web page.
    if (by_suffix is None or by_suffix is XML) and _HTML_START.match(data[:4096]):
        return HTML
    if by_suffix is None and data[:100].lstrip(b"\xef\xbb\xbf \r\n").startswith(b"<?xml"):
        return XML
    if container := _CONTAINERS.get(suffix):
        return _format_without_container(data, suffix, container)
    return by_suffix or TEXT._replace(mime_type=_text_mime(key))


def _format_without_container(data: bytes, suffix: str, container: str) -> Format:
    """Return the format of a file that lacks the container of its suffix. Raises ParseError if it must have it."""
    if data[:100].lower().startswith(b"mime-version:"):
        return MAIL
    is_binary = b"\0" in data[:4096]
    if container == _OLE_CONTAINER and not is_binary:
        # Below a title the first line does not name the columns: such a table is text.
        is_table = suffix == ".xls" and b"\t" in data[:4096].split(b"\n", 1)[0]
        return _BY_SUFFIX[".tsv"] if is_table else TEXT
    reason = f"the file is named {suffix} but lacks the signature of this format ({container}): "
    if not is_binary:
        raise ParseError(reason + "damaged, or plain text, which is read if it is named .txt")
    raise ParseError(
        reason + ("damaged, or older than 1997" if container == _OLE_CONTAINER else "damaged")
    )


def _text_mime(key: str) -> str:
    mime = mimetypes.guess_type(key.lower())[0] or ""
    return mime if mime.startswith("text/") else TEXT.mime_type


def _unsupported_reason(data: bytes, suffix: str) -> str | None:
    for reason, signatures in _UNSUPPORTED.items():
        if data.startswith(signatures):
            return reason
    if data[4:8] == b"ftyp" or (data[:4] == b"RIFF" and data[8:12] in (b"WAVE", b"AVI ")):
        return "audio and video are not read: {}"
    if (data[:4] == b"RIFF" and data[8:12] == b"WEBP") or (
        data[:2] == b"BM" and data[6:10] == b"\0\0\0\0"
    ):
        return "images are not read: {}"
    if data[257:262] == b"ustar":
        return "archives are not read: {}"
    return _UNSUPPORTED_SUFFIXES.get(suffix)


def _zip_format(data: bytes, suffix: str) -> Format:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
            mime_type = _member(archive, "mimetype").strip().decode("ascii", "replace")
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
    for file_format in (ODT, ODS, ODP, EPUB):
        if mime_type.startswith(file_format.mime_type):
            return file_format
    for folder, file_format in (("word/", DOCX), ("ppt/", PPTX), ("xl/", XLSX)):
        if "[Content_Types].xml" in names and any(name.startswith(folder) for name in names):
            return XLSB if "xl/workbook.bin" in names else file_format
    if mime_type.startswith(_ODF):
        raise ParseError(f"OpenDocument {mime_type.removeprefix(_ODF)}s are not read: {suffix}")
    raise ParseError(f"archives are not read: {suffix or 'no suffix'}")


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the first 64 KiB of a member, empty if it is absent. The limit stops ZIP bombs."""
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
    # The Word stream is usually the first sector: check its magic number and the flag fEncrypted.
    if data[512:514] == b"\xec\xa5" and data[512 + 11] & 1:
        raise ParseError(_ENCRYPTED)
    for name, file_format in _OLE:
        if name.encode("utf-16-le") in data or (
            name == "Workbook" and "WORKBOOK".encode("utf-16-le") in data
        ):
            return file_format
    raise ParseError(f"OLE containers of this kind are not read: {suffix or 'no suffix'}")
