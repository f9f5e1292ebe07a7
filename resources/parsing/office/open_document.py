"""OpenDocument content → Markdown blocks: paragraphs, headings, lists, tables, boxes, notes. Of texts and slides alike.

Kreuzberg loses line breaks, bases of readings, boxes in headings and lists, indexes, nested sections, lists in cells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element

from resources.parsing.office.package import Package, UnreadableOffice, local_name, name_of
from resources.parsing.office.presentation import line, table_block

#: Repetitions of a cell or row that count: a program writes thousands for the empty rest of a table.
_MAX_REPEATED = 64
_PAGES_PROPERTIES = name_of("style", "drawing-page-properties")
#: Elements without text, or with text that is no part of the document.
_SKIPPED = frozenset(
    (
        *(
            "tracked-changes",
            "forms",
            "variable-decls",
            "sequence-decls",
            "user-field-decls",
            "event-listeners",
        ),
        *(
            "index-title-template",
            "table-of-content-source",
            "alphabetical-index-source",
            "glue-point",
            "plugin",
        ),
        *(
            "user-index-source",
            "illustration-index-source",
            "table-index-source",
            "object-index-source",
        ),
        *("bibliography-source", "ruby-text", "soft-page-break", "settings", "binary-data"),
    )
)
_SHAPES = frozenset(
    (
        *(
            "frame",
            "custom-shape",
            "rect",
            "ellipse",
            "circle",
            "line",
            "polyline",
            "polygon",
            "path",
            "connector",
        ),
        *(
            "caption",
            "measure",
            "regular-polygon",
            "g",
            "text-box",
            "object",
            "control",
            "page-thumbnail",
        ),
    )
)
_LINK = re.compile(r"(?:https?|mailto):\S+", re.IGNORECASE)


class ContentReader:
    """Turns elements of a file's content into blocks; collects notes, comments and hidden text on the way."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._hidden_styles: set[str] = set()
        self.hidden_pages: set[str] = set()
        self._open_cells = 0
        self.notes: list[str] = []
        self.comments = self.hidden_characters = self.readings = 0

    def learn_styles(self, root: Element) -> None:
        """Take up the styles of a part: which of them hide text or slides."""
        for style in root.iter(name_of("style", "style")):
            name = style.get(name_of("style", "name")) or ""
            for properties in style:
                if properties.get(name_of("text", "display")) == "none":
                    self._hidden_styles.add(name)
                if (
                    properties.tag == _PAGES_PROPERTIES
                    and properties.get(name_of("presentation", "visibility")) == "hidden"
                ):
                    self.hidden_pages.add(name)

    def blocks(self, parent: Element, level: int = 0) -> Iterator[str]:
        """Yield the Markdown blocks of the children; `level`: the depth of lists around them."""
        for child in parent:
            name = local_name(child)
            if name in _SKIPPED:
                continue
            if name in ("p", "h"):
                yield from self._paragraph(child)
            elif name == "list":
                if text := "\n".join(self._items(child, level)):
                    yield text
            elif name == "table":
                rows = list(self._rows(child))
                # A table inside a cell has no form in Markdown: its words stay.
                text = (
                    " ".join(" ".join(row) for row in rows)
                    if self._open_cells
                    else table_block(rows)
                )
                if text := text.strip():
                    yield text
            elif name == "annotation":
                self.comments += 1
            elif name in ("title", "desc"):
                if text := line(child.text or ""):
                    yield text
            elif name == "object":
                yield from self._object(child)
            elif child.get(name_of("text", "display")) == "none":
                self._hide(child)
            else:
                yield from self.blocks(child, level)

    def _paragraph(self, paragraph: Element) -> Iterator[str]:
        if self._is_hidden(paragraph):
            self._hide(paragraph)
            return
        pieces: list[str] = []
        boxes: list[str] = []
        self._inline(paragraph, pieces, boxes)
        if text := line("".join(pieces)):
            if local_name(paragraph) == "h":
                level = paragraph.get(name_of("text", "outline-level")) or "1"
                yield "#" * min(int(level) if level.isdecimal() else 1, 6) + " " + text
            else:
                yield text
        yield from boxes

    def _is_hidden(self, element: Element) -> bool:
        if element.get(name_of("text", "style-name")) in self._hidden_styles:
            return True
        marks = element.iter(name_of("text", "hidden-paragraph"))
        return any(mark.get(name_of("text", "is-hidden")) == "true" for mark in marks)

    def _hide(self, element: Element) -> None:
        self.hidden_characters += sum(map(len, element.itertext()))

    def _inline(self, element: Element, pieces: list[str], boxes: list[str]) -> None:
        """Append the characters of an element to `pieces`, and the blocks of what it anchors to `boxes`."""
        pieces.append(element.text or "")
        for child in element:
            name = local_name(child)
            if name in ("tab", "line-break", "s"):
                pieces.append(" ")
            elif name == "note":
                pieces.append(f"[^{self._note(child)}]")
            elif name == "annotation":
                self.comments += 1
            elif name == "ruby-text":
                self.readings += 1
            elif name in _SHAPES:
                boxes.extend(self.blocks(_wrapped(child)))
            elif (
                name == "hidden-text"
                or child.get(name_of("text", "style-name")) in self._hidden_styles
            ):
                self._hide(child)
            elif name == "a":
                self._link(child, pieces, boxes)
            elif name not in _SKIPPED:
                self._inline(child, pieces, boxes)
            pieces.append(child.tail or "")

    def _link(self, link: Element, pieces: list[str], boxes: list[str]) -> None:
        words: list[str] = []
        self._inline(link, words, boxes)
        text, address = "".join(words), link.get(name_of("xlink", "href")) or ""
        is_address = _LINK.fullmatch(address) and text.strip() and "]" not in text
        pieces.append(f"[{text}]({address})" if is_address else text)

    def _note(self, note: Element) -> int:
        number = len(self.notes) + 1
        # A place for it first: a note may contain another one.
        self.notes.append("")
        bodies = [child for child in note if local_name(child) == "note-body"]
        text = "\n\n".join(block for body in bodies for block in self.blocks(body))
        self.notes[number - 1] = f"[^{number}]: {text}"
        return number

    def _items(self, listing: Element, level: int) -> Iterator[str]:
        indent = "  " * level
        for item in listing:
            first = True
            for child in item:
                if local_name(child) == "list":
                    yield from self._items(child, level + 1)
                else:
                    for block in self.blocks(_wrapped(child)):
                        for row in block.split("\n"):
                            yield f"{indent}- {row}" if first else f"{indent}  {row}"
                            first = False

    def _rows(self, table: Element) -> Iterator[list[str]]:
        for child in table:
            name = local_name(child)
            if name == "table-row":
                cells = list(self._cells(child))
                repeated = (
                    child.get(name_of("table", "number-rows-repeated")) if any(cells) else "1"
                )
                for _ in range(_count(repeated)):
                    yield cells
            elif name.startswith(("table-header-rows", "table-rows", "table-row-group")):
                yield from self._rows(child)

    def _cells(self, row: Element) -> Iterator[str]:
        for cell in row:
            if local_name(cell) in ("table-cell", "covered-table-cell"):
                self._open_cells += 1
                text = " ".join(self.blocks(cell)).replace("\n", " ")
                self._open_cells -= 1
                for _ in range(_count(cell.get(name_of("table", "number-columns-repeated")))):
                    yield text

    def _object(self, reference: Element) -> Iterator[str]:
        """Yield the text of an embedded formula, or of the titles of an embedded chart."""
        part = (reference.get(name_of("xlink", "href")) or "").removeprefix("./").rstrip("/")
        roots = [child for child in reference if local_name(child) in ("math", "document")]
        if part and f"{part}/content.xml" in self._package:
            try:
                roots.append(self._package.tree(f"{part}/content.xml"))
            except UnreadableOffice:
                return
        for root in roots:
            annotation = [e for e in root.iter() if local_name(e) == "annotation"]
            texts = (annotation or [root])[0].itertext()
            if text := line(" ".join(texts)):
                yield text


def _wrapped(element: Element) -> Element:
    """Return a parent of the element alone."""
    parent = Element("parent")
    parent.append(element)
    return parent


def _count(repeated: str | None) -> int:
    return min(int(repeated), _MAX_REPEATED) if repeated and repeated.isdecimal() else 1


def once(blocks: Iterable[str]) -> list[str]:
    """Return the blocks without repetitions and without those of digits only, which are page numbers."""
    return [block for block in dict.fromkeys(blocks) if any(map(str.isalpha, block))]
