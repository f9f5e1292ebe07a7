"""Office files that are read here or rewritten for the extractor, by format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from resources.errors import ParseError
from resources.parsing.formats import DOCX, ODP, ODT, PPTX, Format
from resources.parsing.office.open_document_files import read_open_presentation, read_open_text
from resources.parsing.office.package import UnreadableOffice
from resources.parsing.office.presentation import Presentation
from resources.parsing.office.slides import read_slides
from resources.parsing.office.word import Prepared, prepare_word

_TOO_DEEP = "the {} file is damaged: its elements are nested deeper than any program writes them"


class Office(NamedTuple):
    """Markdown of a file, its properties, the text of each slide (empty for hidden ones), and what was left out."""

    markdown: str
    properties: dict[str, Any]
    pages: Sequence[str]
    left_out: Sequence[str]


def read_office(data: bytes, file_format: Format) -> Office | None:
    """Return the content of a file, or None if it has another format or the extractor must try."""
    if (read := _READERS.get(file_format)) is None:
        return None
    try:
        return read(data)
    except UnreadableOffice:
        return None
    except RecursionError:
        # The extractor would crash.
        raise ParseError(_TOO_DEEP.format(file_format.kind)) from None


def rewrite(data: bytes, file_format: Format) -> Prepared:
    """Return the file in the form that the extractor reads without loss; as it is if that is not possible."""
    if file_format is DOCX:
        try:
            return prepare_word(data)
        except UnreadableOffice:
            pass
    return Prepared(data, [])


def _slides(read: Callable[[bytes], Presentation]) -> Callable[[bytes], Office]:
    def read_all(data: bytes) -> Office:
        presentation = read(data)
        pages = [slide.markdown() for slide in presentation.slides]
        markdown = "\n\n".join(filter(None, pages))
        return Office(markdown, presentation.properties, pages, presentation.left_out)

    return read_all


def _text(data: bytes) -> Office:
    text = read_open_text(data)
    return Office(text.markdown, text.properties, (), text.left_out)


_READERS: dict[Format, Callable[[bytes], Office]] = {
    PPTX: _slides(read_slides),
    ODP: _slides(read_open_presentation),
    ODT: _text,
}
