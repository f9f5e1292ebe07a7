"""The bytes and the key of one document → `ParsedDocument`, or ParseError with a readable reason.

Selects the reader by the format. The neighbouring modules detect formats, decode, extract, and find title, author,
category, tags and language; chunks and vectors are created elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, NamedTuple, TypeAlias

from rag_assets.pipeline.field_limits import (
    AUTHOR_CHARS,
    CATEGORY_CHARS,
    TAG_CHARS,
    TITLE_CHARS,
    cut_fields,
)
from rag_assets.pipeline.front_matter import FrontMatter, read_front_matter
from resources.errors import ParseError
from resources.parsing.calendar_text import calendar_text
from resources.parsing.decoding import clean, decode, xml_in_utf_8
from resources.parsing.delimited import table_text
from resources.parsing.formats import (
    DOCBOOK,
    DOCX,
    EPUB,
    JATS,
    MAIL,
    MSG,
    ODP,
    ODT,
    PPTX,
    TNEF,
    Format,
    detect_format,
)
from resources.parsing.inline_marks import join_words_of_markdown, readings_left_out
from resources.parsing.json_text import json_text
from resources.parsing.language import detect_language
from resources.parsing.opaque_runs import cut_opaque_runs
from resources.parsing.pages import page_starts
from resources.parsing.stated_fields import author_of, category_of, cut, tags_of
from resources.parsing.subtitles import subtitles_text
from resources.parsing.titles import title_of
from resources.parsing.xml_text import xml_text

JSON: TypeAlias = "str | int | float | bool | list[JSON] | dict[str, JSON] | None"

#: Increase this when a change here changes a document's output. The libraries' versions are added: they change it too.
_REVISION = 7
PARSER_VERSION: str = ";".join(
    [
        f"parsing={_REVISION}",
        *(
            f"{name}={version(name)}"
            for name in ("kreuzberg", "ftfy", "charset-normalizer", "lingua-language-detector")
        ),
    ]
)


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


class Untitled(NamedTuple):
    """A document without its title, which depends on its key too, and what else the title depends on."""

    document: ParsedDocument
    properties: Mapping[str, Any]
    front_matter: FrontMatter | None


class _Content(NamedTuple):
    text: str
    markdown: bool
    encoding: str | None
    properties: Mapping[str, Any]
    pages: Sequence[str] = ()
    encoding_ignored: str | None = None
    left_out: Sequence[str] = ()
    is_clean: bool = False


def parse_document(
    data: bytes,
    key: str,
    *,
    language: str | None = None,
    charset: str | None = None,
    file_format: Format | None = None,
    read: Callable[[bytes, Format, str | None, str | None], Untitled] | None = None,
) -> ParsedDocument:
    """Parse one document; `key` is its name in its source.

    `language` (ISO 639-1) replaces language detection, `file_format` replaces format detection. `charset` is the
    encoding that the source states. `read`: see `read_document`, which it calls. Thread-safe. Raises
    ParseError if the file is empty, encrypted, damaged, without text, or of an unsupported kind (images, archives,
    media, executables).
    """
    file_format = file_format or detect_format(data, key)
    read = read or read_document
    document, properties, front_matter = read(data, file_format, language, charset)
    title = title_of(
        document.text,
        key,
        file_format,
        properties,
        markdown=document.markdown,
        front_matter=front_matter,
    )
    return replace(document, title=title)


def read_document(
    data: bytes, file_format: Format, language: str | None, charset: str | None
) -> Untitled:
    """Return everything of a document that does not depend on its key. Raises ParseError."""
    content = _read_content(data, file_format, charset)
    # A second pass finds nothing in clean text.
    whole_text = (content.text if content.is_clean else clean(content.text)).strip("\n")
    if not whole_text.strip():
        raise ParseError(_no_text_reason(file_format, content.left_out))
    text, runs, characters = cut_opaque_runs(whole_text)
    if runs:
        count = "1 run" if runs == 1 else f"{runs:,} runs"
        note = f"{count} of encoded bytes ({characters:,} characters)"
        content = content._replace(left_out=[*content.left_out, note])
    front_matter = read_front_matter(text) if content.markdown else None
    fields = front_matter.fields if front_matter else {}
    author, category, tags = (
        author_of(content.properties, fields),
        category_of(fields),
        tags_of(fields),
    )
    # The ingestion records what filters do not compare of the tags: a source may state others.
    content = content._replace(left_out=[*content.left_out, *cut_fields(author, category, None)])
    document = ParsedDocument(
        title="",
        text=text,
        markdown=content.markdown,
        language=language or detect_language(text),
        author=cut(author, AUTHOR_CHARS) or None,
        category=cut(category, CATEGORY_CHARS) if front_matter else None,
        tags=[cut(tag, TAG_CHARS) for tag in tags] if front_matter else None,
        mime_type=file_format.mime_type,
        encoding=content.encoding,
        metadata=_metadata(content, text) | _lost_text(data, file_format, whole_text),
    )
    return Untitled(document, content.properties, front_matter)


def _read_content(data: bytes, file_format: Format, charset: str | None) -> _Content:
    if file_format in (MAIL, MSG, TNEF):
        return _read_mail(data, file_format)
    if file_format.reader == "extract":
        # Import cost of the readers of office files, PDF and web pages: 60 ms.
        from resources.parsing.extraction import extract

        if file_format in (JATS, DOCBOOK):
            data = xml_in_utf_8(data, charset)
        markdown, properties, pages, left_out = extract(data, file_format, _read_inserted)
        return _Content(markdown, True, None, properties, pages, left_out=left_out)
    text, encoding, ignored = decode(data, charset)
    content = _read_text(text, encoding, file_format)
    return content._replace(encoding_ignored=ignored)


def _read_inserted(data: bytes, name: str) -> tuple[str, Sequence[str]]:
    file_format = detect_format(data, name)
    if file_format is DOCX:
        from resources.parsing.extraction import extract

        # Files inserted into that one are not followed: they could be nested without end.
        markdown, *_, left_out = extract(data, file_format)
        return clean(markdown).strip(), left_out
    content = _read_content(data, file_format, None)
    return clean(content.text).strip(), content.left_out


def _read_mail(data: bytes, file_format: Format) -> _Content:
    # Import cost: 10 ms.
    from resources.parsing.mail import read_mail

    def read_attached(
        data: bytes, name: str, file_format: Format | None, charset: str | None
    ) -> str:
        content = _read_content(data, file_format or detect_format(data, name), charset)
        return clean(content.text)

    markdown, properties, left_out = read_mail(data, file_format, read_attached)
    return _Content(markdown, True, None, properties, left_out=left_out)


def _read_text(text: str, encoding: str, file_format: Format) -> _Content:
    match file_format.reader:
        case "html":
            from resources.parsing.extraction import extract_html

            markdown, properties, _, left_out = extract_html(clean(text), file_format)
            return _Content(markdown, True, encoding, properties, left_out=left_out)
        case "markdown":
            text = clean(text)
            markdown, readings = join_words_of_markdown(text)
            left_out = readings_left_out(readings)
            is_clean = markdown == text
            return _Content(markdown, True, encoding, {}, left_out=left_out, is_clean=is_clean)
        case "notebook":
            from resources.parsing.notebook import notebook_markdown

            return _Content(notebook_markdown(text), True, encoding, {})
        case "table":
            delimiter = "\t" if file_format.kind == "TSV" else None
            return _Content(table_text(text, delimiter=delimiter), False, encoding, {})
        case "json":
            return _Content(json_text(text), False, encoding, {})
        case "xml":
            return _Content(xml_text(text), False, encoding, {})
        case "calendar":
            return _Content(calendar_text(clean(text)), False, encoding, {})
        case "subtitles":
            return _Content(subtitles_text(clean(text)), False, encoding, {})
        case _:
            return _Content(text, False, encoding, {})


def _no_text_reason(file_format: Format, left_out: Sequence[str]) -> str:
    if file_format.kind == "PDF":
        return "the PDF has no text layer (a scan?): its pages are images, which are not read"
    reason = f"the {file_format.kind} file contains no text"
    if left_out:
        reason += f", except in parts that are not read: {'; '.join(left_out)}"
    return reason


#: Formats whose text is compared with that of a second reader.
_MEASURED = (DOCX, PPTX, ODT, ODP, EPUB)


def _lost_text(data: bytes, file_format: Format, text: str) -> dict[str, JSON]:
    """Return `text_lost`, the share of the file's text that was not read, if it is large enough to be reported.

    Only formats whose rules of what is left out are those of the reference: not sheets (hidden cells), mails
    (repeated and quoted forms of a text) and web pages (menus).
    """
    if file_format not in _MEASURED:
        return {}
    from resources.parsing.completeness import LOSS_THRESHOLD, measure_loss
    from resources.parsing.source_text import source_text

    if not (source := source_text(data, file_format)):
        return {}
    share = measure_loss(source, text).share
    return {"text_lost": round(share, 3)} if share > LOSS_THRESHOLD else {}


def _metadata(content: _Content, text: str) -> dict[str, JSON]:
    metadata: dict[str, JSON] = {}
    properties = content.properties
    counts = {"page_count": "pages", "sheet_count": "sheets", "slide_count": "slides"}
    for name, key in counts.items():
        if isinstance(properties.get(name), int):
            metadata[key] = properties[name]
    for name in ("created_at", "modified_at", "date", "from_email", "canonical_url"):
        if isinstance(value := properties.get(name), str) and value.strip():
            metadata[name] = clean(value)[:TITLE_CHARS]
    if content.left_out:
        metadata["left_out"] = [*content.left_out]
    if content.encoding_ignored:
        # Stated by the server or the document, but the bytes are in another encoding.
        metadata["encoding_ignored"] = content.encoding_ignored[:TAG_CHARS]
    if content.pages:
        pages = [cut_opaque_runs(clean(page)).text for page in content.pages]
        metadata["page_starts"] = [*page_starts(text, pages)]
    return metadata
