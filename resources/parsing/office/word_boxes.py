"""Text boxes of Word, moved behind the paragraph that anchors them; texts of pictures, put into their places.

The extractor loses the paragraph around a box of the old form (VML), and a box of the new form (DrawingML) itself. It
writes the text of a picture in front of the paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree.ElementTree import Element

from resources.parsing.office.drawings import CHART, DIAGRAM, drawing_texts
from resources.parsing.office.package import Package, Relationship, name_of
from resources.parsing.office.word_text import P, R, T, paragraph_of, text_element, text_of

_DRAWING = name_of("w", "drawing")
#: What Word writes if the author gives no text: the path or name of the file.
_FILE = re.compile(
    r"^\s*[A-Za-z]:\\|^\S+\.(?:jpe?g|png|gif|bmp|tiff?|emf|wmf|svg)\s*$", re.IGNORECASE
)
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


def place_alternative_texts(root: Element) -> None:
    """Replace each drawing by the text that its author gave for it."""
    if next(root.iter(_DRAWING), None) is None:
        return
    for paragraph in root.iter(P):
        before, after = "", text_of(paragraph)
        for run in paragraph.iter(R):
            for index, child in enumerate(run):
                if child.tag == _DRAWING:
                    texts = dict.fromkeys(part.get("descr") or "" for part in child.iter())
                    texts = (" ".join(text.split()) for text in texts if not _FILE.search(text))
                    if text := " ".join(filter(None, texts)):
                        gaps = " " if before else "", " " if len(before) < len(after) else ""
                        run[index] = text_element(text.join(gaps))
                    else:
                        # The extractor would write the name of the file.
                        run[index] = text_element("")
                elif child.tag == T:
                    before += child.text or ""
