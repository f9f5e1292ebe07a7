"""Footnotes, endnotes, headers and footers of Word as paragraphs of the document.

The extractor marks a note twice and reads no header or footer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from xml.etree.ElementTree import Element

from resources.parsing.office.package import Relationship, name_of
from resources.parsing.office.word_text import PPR, P, R, text_element, text_of

#: Characters of no script and no font: they stand for the marks of notes until the extractor has written its Markdown,
#: since it escapes brackets.
_OPEN, _CLOSE, _CLOSE_DEFINITION = "\ufdd0", "\ufdd1", "\ufdd2"
_REFERENCES = {
    name_of("w", "footnoteReference"): "footnotes",
    name_of("w", "endnoteReference"): "endnotes",
}
_NOTES = (name_of("w", "footnote"), name_of("w", "endnote"))
_ID, _KIND = name_of("w", "id"), name_of("w", "type")
_MARGINS = {name_of("w", "headerReference"): "header", name_of("w", "footerReference"): "footer"}
_RELATION = name_of("r", "id")
_REFERENCE_ATTRIBUTES = name_of("r", "")
_FIELD_CODES = (name_of("w", "instrText"), name_of("w", "fldSimple"))


class Margins(NamedTuple):
    """The blocks of a document's headers and of its footers, each text once."""

    headers: list[Element]
    footers: list[Element]


def place_notes(root: Element, parts: Mapping[str, Element]) -> list[Element]:
    """Replace each reference to a note by a mark; return the notes as blocks, numbered in the order of the marks.

    `parts`: the root elements of the parts named "footnotes" and "endnotes".
    """
    notes = {
        (kind, note.get(_ID)): note
        for kind, part in parts.items()
        for note in part
        # The others are the lines that separate notes from text.
        if note.tag in _NOTES and note.get(_KIND) in (None, "normal")
    }
    numbers: dict[tuple[str, str | None], int] = {}
    for run in root.iter(R) if notes else ():
        for index, child in enumerate(run):
            if kind := _REFERENCES.get(child.tag):
                note = (kind, child.get(_ID))
                if note in notes:
                    number = numbers.setdefault(note, len(numbers) + 1)
                    run[index] = text_element(f"{_OPEN}{number}{_CLOSE}")
    # A note without a reference is text, too.
    for note in notes:
        numbers.setdefault(note, len(numbers) + 1)
    return [block for note, number in numbers.items() for block in _note(notes[note], number)]


def _note(note: Element, number: int) -> Iterator[Element]:
    if not text_of(note).strip():
        return
    blocks = list(note)
    mark = Element(R)
    mark.append(text_element(f"{_OPEN}{number}{_CLOSE_DEFINITION} "))
    if blocks[0].tag == P:
        first = blocks[0]
        for properties in first.findall(PPR):
            first.remove(properties)
        first.insert(0, mark)
    else:
        paragraph = Element(P)
        paragraph.append(mark)
        blocks.insert(0, paragraph)
    yield from _without_references(blocks)


def notes_in_markdown(markdown: str) -> str:
    """Return the extractor's Markdown with the marks of notes as Markdown writes them."""
    if _OPEN not in markdown:
        return markdown
    return (
        markdown.replace(f"{_CLOSE_DEFINITION} ", "]: ")
        .replace(_CLOSE_DEFINITION, "]:")
        .replace(_OPEN, "[^")
        .replace(_CLOSE, "]")
    )


def margins(
    root: Element, relationships: Mapping[str, Relationship], parts: dict[str, Element]
) -> Margins:
    """Return the blocks of the headers and footers that the document's sections refer to.

    Equal texts of several sections, or of first, odd and even pages, count once; a line that is only a page number is
    left out. `parts`: the root elements of the parts by name; those that are used leave it.
    """
    seen: set[str] = set()
    blocks: dict[str, list[Element]] = {"header": [], "footer": []}
    for tag, kind in _MARGINS.items():
        for reference in root.iter(tag):
            relationship = relationships.get(reference.get(_RELATION) or "")
            part = parts.pop(relationship.target, None) if relationship else None
            for block in part if part is not None else ():
                text = " ".join(text_of(block).split())
                if text and text not in seen and not _is_page_number(block, text):
                    seen.add(text)
                    blocks[kind] += _without_references([block])
    return Margins(blocks["header"], blocks["footer"])


def _is_page_number(block: Element, text: str) -> bool:
    return not any(character.isalpha() for character in text) and any(
        "PAGE" in f"{code.text or ''}{code.get(name_of('w', 'instr')) or ''}".upper()
        for code in block.iter()
        if code.tag in _FIELD_CODES
    )


def _without_references(blocks: Iterable[Element]) -> list[Element]:
    """Return blocks of another part without styles (a header is no heading) and ids of its relationships."""
    blocks = list(blocks)
    for block in blocks:
        for element in block.iter():
            if element.tag == P:
                for properties in element.findall(PPR):
                    element.remove(properties)
            for name in [name for name in element.attrib if name.startswith(_REFERENCE_ATTRIBUTES)]:
                del element.attrib[name]
    return blocks
