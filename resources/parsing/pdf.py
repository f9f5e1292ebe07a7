"""What kreuzberg returns of a PDF → text in reading order with whole words.

`pdf_layout` finds pages that are drawn across their columns, `hyphenation` repairs words broken at the ends of lines,
`right_to_left` reverses lines in visual order.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

from resources.parsing.hyphenation import Hyphenation
from resources.parsing.pages import page_starts
from resources.parsing.pdf_characters import characters
from resources.parsing.pdf_layout import by_columns
from resources.parsing.right_to_left import is_visual, logical

_UNSPACED = "[\u3040-\u30ff\u3400-\u9fff\uff00-\uffef\u3000-\u303f]"
_LINE_END = re.compile(r"(?<!\n)\n(?!\n)")
_UNSPACED_LINE_END = re.compile(rf"(?<={_UNSPACED})\n(?={_UNSPACED})")


def in_reading_order(data: bytes, markdown: str, pages: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return the Markdown and the plain pages of a PDF, repaired. Whoever calls holds the lock of PDFium."""
    if is_visual(pages):
        # The Markdown has lost the lines that must be reversed, and renders such pages as tables.
        whole = [logical(Hyphenation(pages).in_page(page)) for page in pages]
        return "\n\n".join(whole), whole
    reordered = {
        number: text
        for number, page in enumerate(characters(data, len(pages)))
        if (text := by_columns(page)) is not None
    }
    hyphenation = Hyphenation([reordered.get(number, page) for number, page in enumerate(pages)])
    texts = {number: _unwrapped(hyphenation.in_page(text)) for number, text in reordered.items()}
    whole = [texts.get(number) or hyphenation.in_page(page) for number, page in enumerate(pages)]
    if texts:
        return _with_pages(hyphenation.in_markdown(markdown), pages, texts, whole), whole
    return hyphenation.in_markdown(markdown), whole


def _unwrapped(text: str) -> str:
    return _LINE_END.sub(" ", _UNSPACED_LINE_END.sub("", text))


def _with_pages(
    markdown: str, pages: Sequence[str], texts: Mapping[int, str], whole: Sequence[str]
) -> str:
    """Return the Markdown with these pages replaced; all pages as plain text if a page is not found in it."""
    starts = [*page_starts(markdown, pages), len(markdown)]
    parts = [markdown[start:end] for start, end in itertools.pairwise(starts)]
    if any(page.strip() and not part.strip() for page, part in zip(pages, parts, strict=True)):
        return "\n\n".join(whole)
    return "\n\n".join(texts.get(number, part).strip() for number, part in enumerate(parts))
