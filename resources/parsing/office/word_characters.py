"""The characters & < > of Word files, which the extractor drops: `R&D` would become `RD`.

Characters of no script and no font stand for them until it has written its Markdown.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from resources.parsing.office.package import name_of
from resources.parsing.office.word_text import T

_DROPPED, _INSTEAD = "&<>", "\ufdd3\ufdd4\ufdd5"
_ENCODED = str.maketrans(_DROPPED, _INSTEAD)
_DECODED = str.maketrans(_INSTEAD, _DROPPED)


def protect_characters(root: Element) -> None:
    """Replace the characters in the texts and formulas of a part."""
    for tag in (T, name_of("m", "t")):
        for element in root.iter(tag):
            if element.text:
                element.text = element.text.translate(_ENCODED)


def characters_in_markdown(markdown: str) -> str:
    """Return the extractor's Markdown with the characters in their places."""
    return markdown.translate(_DECODED) if any(map(markdown.__contains__, _INSTEAD)) else markdown
