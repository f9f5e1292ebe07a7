"""PowerPoint files → slides in the order in which they are shown, with tables, groups, SmartArt, charts and notes.

Kreuzberg reads slides in the order of their file names, loses notes, formulas and alternative content, and fails at
pictures that are stored in other ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element

from resources.parsing.office.drawings import drawing_texts
from resources.parsing.office.package import (
    Package,
    Relationship,
    local_name,
    name_of,
)
from resources.parsing.office.presentation import (
    Presentation,
    Slide,
    line,
    list_block,
    table_block,
)
from resources.parsing.xml_entities import with_office_characters

_MAIN = "ppt/presentation.xml"
_ID = name_of("r", "id")
_PARAGRAPH, _TEXT = name_of("a", "p"), name_of("a", "t")
_PROPERTIES = name_of("a", "pPr")
_SLIDE_NUMBER = re.compile(r"(\d+)\.xml$")
#: Placeholders with the same text on many slides: it is read once. Those of the page number are not read.
_REPEATED, _NUMBER = ("ftr", "hdr", "dt"), ("sldNum", "sldImg")
_TITLES = ("title", "ctrTitle")


def read_slides(data: bytes) -> Presentation:
    """Return the visible slides. Raises `UnreadableOffice` if the file is damaged or too large."""
    package = Package(data)
    main = next(
        (r.target for r in package.relationships("").values() if r.kind == "officeDocument"), _MAIN
    )
    presentation = Presentation(properties=package.properties())
    reader = _SlideReader(package)
    hidden: list[str] = []
    for number, name in enumerate(_slide_names(package, main), 1):
        root = package.tree(name)
        is_hidden = root.get("show") in ("0", "false")
        if is_hidden:
            hidden.append(str(number))
        # A hidden slide keeps its place: the others keep their numbers.
        slide = Slide() if is_hidden else reader.read(root, package.relationships(name))
        presentation.slides.append(slide)
    presentation.properties["slide_count"] = len(presentation.slides)
    if hidden:
        presentation.left_out.append(f"hidden slides: {', '.join(hidden)}")
    if reader.comments:
        presentation.left_out.append(f"{reader.comments} comment{'s' * (reader.comments > 1)}")
    if reader.hidden_shapes:
        presentation.left_out.append(
            f"{reader.hidden_shapes} hidden shape{'s' * (reader.hidden_shapes > 1)}"
        )
    return presentation


def _slide_names(package: Package, main: str) -> list[str]:
    """Return the parts of the slides in the order that the presentation states, else in that of their names."""
    relationships = package.relationships(main) if main in package else {}
    names: list[str] = []
    if main in package:
        for slide in package.tree(main).iter(name_of("p", "sldId")):
            relationship = relationships.get(slide.get(_ID) or "")
            if relationship and relationship.target in package:
                names.append(relationship.target)
    if names:
        return names
    found = [name for name in package.names if re.fullmatch(r"ppt/slides/[^/]*\d+\.xml", name)]
    return sorted(found, key=lambda name: int((_SLIDE_NUMBER.search(name) or ["", "0"])[1]))


class _SlideReader:
    def __init__(self, package: Package) -> None:
        self._package = package
        # Texts of footers and dates so far.
        self._repeated: set[str] = set()
        self.comments = self.hidden_shapes = 0

    def read(self, root: Element, relationships: Mapping[str, Relationship]) -> Slide:
        slide = Slide()
        for shape in self._shapes(root):
            self._read_shape(shape, slide, relationships)
        for kind, target in relationships.values():
            if kind == "notesSlide" and target in self._package:
                notes = Slide()
                part = self._package.tree(target)
                for shape in self._shapes(part):
                    self._read_shape(shape, notes, self._package.relationships(target))
                slide.notes += filter(None, (notes.title, *notes.blocks))
            elif kind == "comments" and target in self._package:
                part = self._package.tree(target)
                self.comments += sum(local_name(comment) == "cm" for comment in part)
        return slide

    def _shapes(self, root: Element) -> Iterator[Element]:
        """Yield the shapes of a slide in their order: of groups those inside, of alternatives the one with text."""
        stack = list(root.iter(name_of("p", "spTree")))[:1]
        while stack:
            element = stack.pop()
            match local_name(element):
                case "spTree" | "Choice" | "Fallback":
                    stack.extend(reversed(element))
                case "grpSp":
                    if not self._is_hidden(element):
                        stack.extend(reversed(element))
                case "AlternateContent":
                    branches = [e for e in element if local_name(e) in ("Choice", "Fallback")]
                    stack.extend([b for b in branches if _has_text(b)][:1] or branches[:1])
                case "sp" | "cxnSp" | "graphicFrame" | "pic":
                    if not self._is_hidden(element):
                        yield element

    def _is_hidden(self, shape: Element) -> bool:
        hidden = _non_visual(shape).get("hidden") in ("1", "true")
        self.hidden_shapes += hidden
        return hidden

    def _read_shape(
        self, shape: Element, slide: Slide, relationships: Mapping[str, Relationship]
    ) -> None:
        name = local_name(shape)
        if name in ("pic", "graphicFrame") and (alternative := _non_visual(shape).get("descr")):
            slide.blocks.append(line(alternative))
        if name == "graphicFrame":
            for element in shape.iter():
                if element.tag == name_of("a", "tbl"):
                    slide.blocks += filter(None, [_table(element)])
                else:
                    lines = drawing_texts(element, self._package, relationships)
                    slide.blocks += filter(None, [list_block((0, line(text)) for text in lines)])
            return
        placeholder = next(shape.iter(name_of("p", "ph")), None)
        kind = placeholder.get("type", "obj") if placeholder is not None else ""
        if kind in _NUMBER:
            return
        items = list(_paragraphs(shape, kind in ("obj", "body")))
        if kind in _TITLES:
            title = " ".join(text for _, text in items)
            slide.title = f"{slide.title} {title}".strip()
        elif text := list_block(items):
            if kind in _REPEATED:
                if text in self._repeated:
                    return
                self._repeated.add(text)
            slide.blocks.append(text)


def _non_visual(shape: Element) -> Element:
    for properties in shape:
        if local_name(properties).startswith("nv"):
            for element in properties:
                if local_name(element) == "cNvPr":
                    return element
    return shape


def _has_text(element: Element) -> bool:
    return any((node.text or "").strip() for node in element.iter(_TEXT)) or any(
        local_name(node) in ("relIds", "chart", "oMath") for node in element.iter()
    )


def _paragraphs(shape: Element, is_body: bool) -> Iterator[tuple[int | None, str]]:
    """Yield the paragraphs with the level of list items. In the body of a slide, several paragraphs are a list."""
    paragraphs = [(p, text) for p in shape.iter(_PARAGRAPH) if (text := _text(p))]
    for paragraph, text in paragraphs:
        properties = paragraph.find(_PROPERTIES)
        level = properties.get("lvl", "0") if properties is not None else "0"
        names = {local_name(child) for child in properties} if properties is not None else set()
        listed = bool(names & {"buChar", "buAutoNum", "buBlip"}) or level != "0"
        listed = listed or (is_body and len(paragraphs) > 1)
        if "buNone" in names or not listed:
            yield None, text
        else:
            yield min(int(level), 8) if level.isdecimal() else 0, text


def _text(paragraph: Element) -> str:
    """Return the characters of a paragraph: runs, fields, breaks and formulas, without numbers of slides."""
    pieces: list[str] = []
    stack = [paragraph]
    while stack:
        element = stack.pop()
        name = local_name(element)
        if name == "t":
            pieces.append(element.text or "")
        elif name in ("br", "tab"):
            pieces.append(" ")
        elif name == "AlternateContent":
            branches = [e for e in element if local_name(e) in ("Choice", "Fallback")]
            stack.extend([b for b in branches if _has_text(b)][:1])
        elif not (name == "fld" and element.get("type") == "slidenum"):
            stack.extend(reversed(element))
    return line(with_office_characters("".join(pieces)))


def _table(table: Element) -> str:
    rows: list[list[str]] = []
    for row in table.iter(name_of("a", "tr")):
        cells = row.findall(name_of("a", "tc"))
        rows.append([" ".join(filter(None, map(_text, cell.iter(_PARAGRAPH)))) for cell in cells])
    return table_block(rows)
