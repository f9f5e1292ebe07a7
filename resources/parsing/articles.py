"""Articles and books in JATS and DocBook → a web page, whose reader has none of the faults of theirs.

Kreuzberg drops the characters & < > of these formats, figures, code and the terms of definition lists, and puts blanks
around the marks inside a word.
"""

from __future__ import annotations

import re
from html import escape
from typing import Any, NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from resources.parsing.xml_entities import with_characters

#: Element -> element of HTML. Others become `span` in a line of text, else `div`.
_ELEMENTS = {
    **dict.fromkeys(("p", "para", "simpara", "subtitle", "attribution"), "p"),
    **dict.fromkeys(("mixed-citation", "element-citation", "bibliomixed", "biblioentry"), "p"),
    **dict.fromkeys(("itemizedlist", "simplelist", "list"), "ul"),
    **dict.fromkeys(("orderedlist", "procedure", "substeps", "ref-list"), "ol"),
    **dict.fromkeys(("listitem", "member", "step", "list-item", "ref"), "li"),
    **dict.fromkeys(("variablelist", "glosslist", "def-list"), "dl"),
    **dict.fromkeys(("term", "glossterm"), "dt"),
    **dict.fromkeys(("def", "glossdef"), "dd"),
    **dict.fromkeys(("programlisting", "screen", "literallayout", "synopsis", "preformat"), "pre"),
    **dict.fromkeys(("blockquote", "disp-quote", "epigraph"), "blockquote"),
    **dict.fromkeys(("emphasis", "italic"), "em"),
    **dict.fromkeys(("subscript", "sub"), "sub"),
    **dict.fromkeys(("superscript", "sup"), "sup"),
    **dict.fromkeys(("literal", "command", "filename", "option", "userinput", "monospace"), "code"),
    **{tag: tag for tag in ("table", "thead", "tbody", "tfoot", "tr", "th", "td")},
    **{"informaltable": "table", "row": "tr", "entry": "td", "bold": "strong", "break": "br"},
    **{"quote": "q", "math": "math"},
}
_BLOCKS = frozenset(("p", "ul", "ol", "dl", "pre", "blockquote", "table"))
_OTHER_BLOCKS = frozenset(
    ("fig", "figure", "table-wrap", "example", "disp-formula", "equation", "mediaobject", "note")
)
#: Elements with a level of headings of their own.
_SECTIONS = frozenset(
    (
        *("part", "chapter", "appendix", "preface", "section", "simplesect", "sec", "app", "ack"),
        *("sect1", "sect2", "sect3", "sect4", "sect5", "refsection", "refsect1", "refsect2"),
        *("abstract", "ref-list", "glossary", "bibliography", "refentry"),
    )
)
_HEADED = _SECTIONS | {"article", "book", "title-group", "info", "articleinfo", "bookinfo"}
#: Elements without text of the document: data about it, entries of an index, the layout of tables.
_SKIPPED = frozenset(
    (
        *("journal-meta", "article-id", "article-categories", "author-notes", "pub-date", "aff"),
        *("volume", "issue", "fpage", "lpage", "history", "permissions", "counts", "contrib-group"),
        *("indexterm", "colspec", "spanspec", "custom-meta-group", "self-uri", "elocation-id"),
        *("funding-group", "graphic", "alt-title", "titleabbrev"),
    )
)
#: Of the data about a DocBook document, these are text.
_TEXT_OF_INFO = frozenset(("title", "subtitle", "abstract"))
_ADMONITIONS = frozenset(("note", "tip", "warning", "caution", "important"))
_NOTES = frozenset(("footnote", "fn"))
_NUMBER = re.compile(r"\d{1,3}")
_MAX_AUTHORS = 100


class Article(NamedTuple):
    """A web page with the text, and the properties: title, authors, date."""

    page: str
    properties: dict[str, Any]


def article_page(xml: str) -> Article | None:
    """Return the article as a page, None if the XML is not valid."""
    try:
        root = ElementTree.fromstring(with_characters(xml))
    except ElementTree.ParseError:
        return None
    writer = _Writer()
    writer.write(root)
    notes = "".join(f"<p>[{n}] {escape(text)}</p>" for n, text in enumerate(writer.notes, 1))
    page = f"<html><body><main>{''.join(writer.pieces)}{notes}</main></body></html>"
    return Article(page, _properties(root))


class _Place(NamedTuple):
    """Where an element stands: in which one, at which level of headings, in a line of text, in a table's head."""

    parent: str
    level: int
    is_inline: bool
    is_head: bool


class _Writer:
    """Collects the pieces of the page, and the texts of notes."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.notes: list[str] = []

    def write(self, root: Element) -> None:
        # No recursion: the document determines the depth.
        stack: list[str | tuple[Element, _Place]] = [(root, _Place("", 1, False, False))]
        while stack:
            item = stack.pop()
            if isinstance(item, str):
                self.pieces.append(item)
            else:
                stack.extend(reversed(self._parts(*item)))

    def _parts(self, element: Element, place: _Place) -> list[str | tuple[Element, _Place]]:
        """Return the start tag, the text and children, and the end tag of an element."""
        name = _name(element)
        if name in _SKIPPED or (name == "label" and place.parent == "ref"):
            return []
        if name in _NOTES and place.is_inline:
            self.notes.append(_text(element))
            return [f" [{len(self.notes)}]"]
        if name == "tex-math":
            return [escape(f"${_text(element).strip('$ ')}$")]
        children = list(element)
        if name == "alternatives":
            children = [c for c in children if _name(c) == "tex-math"][:1] or children[:1]
        if name.endswith("info") and place.parent in _HEADED:
            children = [child for child in children if _name(child) in _TEXT_OF_INFO]
        if name in _SECTIONS and place.parent:
            place = place._replace(level=place.level + 1)
            children = _with_numbered_title(children)
        is_mixed = bool((element.text or "").strip())
        is_mixed |= any((child.tail or "").strip() for child in children)
        tag = _tag(element, name, place, is_mixed)
        start, end = f"<{tag}{_spans(element)}>", f"</{tag}>"
        if name == "abstract" and not any(_name(child) == "title" for child in children):
            heading = f"h{min(place.level, 6)}"
            start += f"<{heading}>Abstract</{heading}>"
        elif name in _ADMONITIONS and not any(_name(child) == "title" for child in children):
            start += f"<p><strong>{name.capitalize()}</strong></p>"
        elif name == "title" and tag == "p":
            start, end = "<p><strong>", "</strong></p>"
        inside = _Place(
            name,
            place.level,
            is_mixed or tag in ("p", "dt", "em", "strong", "code", "span") or tag.startswith("h"),
            place.is_head or name == "thead",
        )
        # Children of data without text between them: surname, given name, year.
        gap = " " if inside.is_inline and not is_mixed else ""
        text = escape(element.text or "") if is_mixed or tag == "pre" or not children else ""
        parts: list[str | tuple[Element, _Place]] = [start, text]
        for child in children:
            parts += (child, inside), escape(child.tail or "") or gap
        return [*parts, end]


def _with_numbered_title(children: list[Element]) -> list[Element]:
    """Return the children of a section with its number in its title."""
    label = next((child for child in children[:3] if _name(child) == "label"), None)
    title = next((child for child in children[:4] if _name(child) == "title"), None)
    if label is None or title is None:
        return children
    title.text = f"{_text(label)} {title.text or ''}"
    return [child for child in children if child is not label]


def _tag(element: Element, name: str, place: _Place, is_mixed: bool) -> str:
    if name == "title" or (name == "article-title" and place.parent == "title-group"):
        return f"h{min(place.level, 6)}" if place.parent in _HEADED else "p"
    if name == "label":
        return "span" if place.is_inline or place.parent == "fn" else "p"
    if name == "list" and element.get("list-type") in ("order", "alpha-lower", "roman-lower"):
        return "ol"
    if name == "code":
        return "code" if place.is_inline else "pre"
    if name == "entry" and place.is_head:
        return "th"
    if name == "listitem" and place.parent == "varlistentry":
        return "dd"
    if name == "emphasis" and element.get("role") in ("bold", "strong"):
        return "strong"
    if name in _ADMONITIONS:
        return "blockquote"
    tag = _ELEMENTS.get(name, "")
    if tag == "p" and any(_is_block(_name(child)) for child in element):
        return "div"
    if tag == "pre" and place.is_inline and "\n" not in (element.text or ""):
        return "code"
    return tag or ("span" if place.is_inline else "div")


def _is_block(name: str) -> bool:
    return name in _OTHER_BLOCKS or _ELEMENTS.get(name) in _BLOCKS


def _spans(element: Element) -> str:
    """Return the attributes of a cell over several columns or rows."""
    columns, rows = element.get("colspan") or "", element.get("rowspan") or ""
    first = _NUMBER.search(element.get("namest") or "")
    last = _NUMBER.search(element.get("nameend") or "")
    if first and last:
        columns = str(int(last[0]) - int(first[0]) + 1)
    if (more := element.get("morerows") or "").isdecimal():
        rows = str(int(more) + 1)
    return "".join(
        f' {name}="{value}"'
        for name, value in (("colspan", columns), ("rowspan", rows))
        if value.isdecimal()
    )


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2].lower()


def _text(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def _properties(root: Element) -> dict[str, Any]:
    properties: dict[str, Any] = {"authors": []}
    people = 0
    for element in root.iter():
        name = _name(element)
        if name in ("title", "article-title") and "title" not in properties:
            properties["title"] = _text(element)
        elif name in ("contrib", "author") and people < _MAX_AUTHORS:
            people += 1
            properties["authors"] += filter(None, [_person(element)])
        elif name in ("pub-date", "pubdate", "date") and "created_at" not in properties:
            parts = {_name(child): _text(child) for child in element}
            stated = [parts[part] for part in ("year", "month", "day") if parts.get(part)]
            is_number = all(map(str.isdecimal, stated))
            date = (
                "-".join(part.zfill(2) for part in stated) if is_number else " ".join(stated[::-1])
            )
            properties["created_at"] = date or _text(element)
        elif name in ("body", "sec", "section", "chapter", "para"):
            # What follows names people and dates of other texts.
            break
    return properties


def _person(element: Element) -> str:
    parts = {_name(part): _text(part) for part in element.iter()}
    given = parts.get("given-names") or parts.get("firstname") or parts.get("givenname") or ""
    return f"{given} {parts.get('surname', '')}".strip() or parts.get("collab", "")
