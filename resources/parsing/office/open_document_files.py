"""OpenDocument texts and presentations → Markdown; `open_document` reads their elements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element

from resources.parsing.inline_marks import readings_left_out
from resources.parsing.office.open_document import ContentReader, once
from resources.parsing.office.package import (
    Package,
    UnreadableOffice,
    local_name,
    name_of,
)
from resources.parsing.office.presentation import Presentation, Slide

_CONTENT, _STYLES, _META = "content.xml", "styles.xml", "meta.xml"
_CLASS = name_of("presentation", "class")
_STATED = {
    "title": "title",
    "initial-creator": "author",
    "creation-date": "created_at",
    "date": "modified_at",
}


class TextFile(NamedTuple):
    """Markdown and properties of a text, and what was left out."""

    markdown: str
    properties: dict[str, Any]
    left_out: list[str]


def read_open_text(data: bytes) -> TextFile:
    """Return headers, text, footers and notes of an OpenDocument text. Raises `UnreadableOffice`."""
    package, reader, body = _open(data, "text")
    blocks = list(reader.blocks(body))
    headers, footers = _margins(package, reader)
    markdown = "\n\n".join((*headers, *blocks, *footers, *reader.notes))
    return TextFile(markdown, _properties(package), _left_out(reader))


def read_open_presentation(data: bytes) -> Presentation:
    """Return the slides of an OpenDocument presentation. Raises `UnreadableOffice`."""
    package, reader, body = _open(data, "presentation")
    presentation = Presentation(properties=_properties(package))
    hidden: list[str] = []
    pages = [child for child in body if child.tag == name_of("draw", "page")]
    for number, page in enumerate(pages, 1):
        is_hidden = page.get(name_of("draw", "style-name")) in reader.hidden_pages
        if is_hidden:
            hidden.append(str(number))
        # A hidden slide keeps its place: the others keep their numbers.
        presentation.slides.append(Slide() if is_hidden else _slide(page, reader))
    presentation.properties["slide_count"] = len(pages)
    presentation.left_out = _left_out(reader)
    if hidden:
        presentation.left_out.append(f"hidden slides: {', '.join(hidden)}")
    return presentation


def _open(data: bytes, kind: str) -> tuple[Package, ContentReader, Element]:
    package = Package(data)
    root = package.tree(_CONTENT)
    body = root.find(f"{name_of('office', 'body')}/{name_of('office', kind)}")
    if body is None:
        raise UnreadableOffice(f"{_CONTENT} contains no {kind}")
    reader = ContentReader(package)
    if _STYLES in package:
        reader.learn_styles(package.tree(_STYLES))
    reader.learn_styles(root)
    return package, reader, body


def _slide(page: Element, reader: ContentReader) -> Slide:
    slide = Slide()
    for shape in page:
        if shape.tag == name_of("presentation", "notes"):
            slide.notes += [block for part in shape for block in _shape_blocks(part, reader)]
        elif shape.get(_CLASS) == "title":
            slide.title = " ".join((slide.title, *_shape_blocks(shape, reader))).strip()
        else:
            slide.blocks += _shape_blocks(shape, reader)
    return slide


def _shape_blocks(shape: Element, reader: ContentReader) -> Iterator[str]:
    if shape.get(_CLASS) not in ("page-number", "page"):
        parent = Element("parent")
        parent.append(shape)
        yield from reader.blocks(parent)


def _margins(package: Package, reader: ContentReader) -> tuple[list[str], list[str]]:
    """Return the blocks of the headers and footers of all page styles, each once."""
    headers: list[str] = []
    footers: list[str] = []
    if _STYLES in package:
        for page in package.tree(_STYLES).iter(name_of("style", "master-page")):
            for part in page:
                name = local_name(part)
                if name.startswith("header"):
                    headers += reader.blocks(part)
                elif name.startswith("footer"):
                    footers += reader.blocks(part)
    return once(headers), once(footers)


def _left_out(reader: ContentReader) -> list[str]:
    left_out: list[str] = []
    if reader.comments:
        left_out.append(f"{reader.comments} comment{'s' * (reader.comments > 1)}")
    if reader.hidden_characters:
        left_out.append(f"hidden text ({reader.hidden_characters} characters)")
    left_out += readings_left_out(reader.readings)
    return left_out


def _properties(package: Package) -> dict[str, Any]:
    stated: dict[str, Any] = {}
    if _META not in package:
        return stated
    for element in package.tree(_META).iter():
        key, text = _STATED.get(local_name(element)), (element.text or "").strip()
        if key and text:
            stated[key] = text
        pages = element.get(name_of("meta", "page-count"))
        if pages and pages.isdecimal():
            stated["page_count"] = int(pages)
    return stated
