"""Text boxes of Word, moved behind the paragraph that anchors them.

The extractor loses the paragraph around a box of the old form (VML), and a box of the new form (DrawingML) itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element

from resources.parsing.office.drawings import CHART, DIAGRAM, drawing_texts
from resources.parsing.office.package import Package, Relationship, name_of
from resources.parsing.office.word_text import P, paragraph_of

_CONTENT, _WORD_ART = name_of("w", "txbxContent"), name_of("v", "textpath")


def move_boxes(root: Element, package: Package, relationships: Mapping[str, Relationship]) -> None:
    """Move the blocks of each text box behind its outermost paragraph; SmartArt and charts become paragraphs there."""
    if all(next(root.iter(tag), None) is None for tag in (_CONTENT, _WORD_ART, DIAGRAM, CHART)):
        return
    # Outermost paragraph -> the blocks that follow it.
    moved: dict[Element, list[Element]] = {}
    holders: set[Element] = set()
    stack: list[tuple[Element, Element | None, Element | None]] = [(root, None, None)]
    while stack:
        element, parent, paragraph = stack.pop()
        if element.tag == P and paragraph is None:
            paragraph = element
            if parent is not None:
                holders.add(parent)
        if paragraph is not None and parent is not None:
            if element.tag == _CONTENT:
                moved.setdefault(paragraph, []).extend(element)
                parent.remove(element)
            elif element.tag == _WORD_ART and (text := element.get("string")):
                moved.setdefault(paragraph, []).append(paragraph_of(text))
            elif element.tag in (DIAGRAM, CHART):
                lines = drawing_texts(element, package, relationships)
                moved.setdefault(paragraph, []).extend(map(paragraph_of, lines))
        stack.extend((child, element, paragraph) for child in reversed(element))
    for holder in holders:
        holder[:] = [block for child in holder for block in (child, *moved.get(child, ()))]
