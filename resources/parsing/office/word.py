"""A Word file in the form that the extractor reads without loss, by the modules `word_…` beside this one.

Headers come first and footers last, each once, then the notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from resources.parsing.inline_marks import readings_left_out
from resources.parsing.office.package import (
    Package,
    Relationship,
    UnreadableOffice,
    local_name,
    name_of,
)
from resources.parsing.office.word_boxes import move_boxes, place_alternative_texts
from resources.parsing.office.word_characters import characters_in_markdown, protect_characters
from resources.parsing.office.word_formulas import formulas_in_markdown, place_formulas
from resources.parsing.office.word_notes import margins, notes_in_markdown, place_notes
from resources.parsing.office.word_text import hidden_styles, paragraph_of, simplify, text_of

_MAIN = "word/document.xml"
_BODY, _SECTION = name_of("w", "body"), name_of("w", "sectPr")
_CHUNK = name_of("w", "altChunk")


#: Stands for a file that is inserted as a whole; characters of no script and no font.
_INSERTED = "\ufdd9{}\ufdda"


class Prepared(NamedTuple):
    """A file for the extractor, what was left out of it on purpose, and the names and bytes of inserted files."""

    data: bytes
    left_out: list[str]
    inserted: Sequence[tuple[str, bytes]] = ()


def prepare_word(data: bytes) -> Prepared:
    """Return the rewritten file. Raises `UnreadableOffice` if it is damaged or too large."""
    package = Package(data)
    main = _main_part(package)
    root = package.tree(main)
    body = root.find(_BODY)
    if body is None:
        raise UnreadableOffice(f"{main} has no body")
    relationships = package.relationships(main)
    hidden = _hidden_styles(package, relationships)
    inserted = _mark_inserted(root, package, relationships)
    simplified = [simplify(root, hidden)]
    notes: dict[str, Element] = {}
    parts: dict[str, Element] = {}
    for relationship in relationships.values():
        kind, target = relationship
        if kind in ("footnotes", "endnotes", "header", "footer") and target in package:
            part = package.tree(target)
            simplified.append(simplify(part, hidden))
            move_boxes(part, package, package.relationships(target))
            if kind in ("footnotes", "endnotes"):
                notes[kind] = part
            else:
                parts[target] = part
    move_boxes(root, package, relationships)
    place_alternative_texts(root)
    note_blocks = place_notes(root, notes)
    headers, footers = margins(root, relationships, parts)
    section = [child for child in body if child.tag == _SECTION]
    blocks = [child for child in body if child.tag != _SECTION]
    body[:] = [*headers, *blocks, *footers, *note_blocks]
    body[:] = [*body, *place_formulas(body), *section]
    protect_characters(body)
    package.replace(_MAIN, root)
    if main != _MAIN:
        _rename_main(package, main)
    without = [
        target for kind, target in relationships.values() if kind in ("footnotes", "endnotes")
    ]
    left_out = _comments(package, relationships)
    if hidden_characters := sum(part.hidden for part in simplified):
        left_out.append(f"hidden text ({hidden_characters} characters)")
    left_out += readings_left_out(sum(part.readings for part in simplified))
    return Prepared(package.written(without), left_out, inserted)


def word_in_markdown(markdown: str, inserted: Sequence[str] = ()) -> str:
    """Return the extractor's Markdown of a prepared file with all in its place: notes, formulas, characters, files.

    `inserted`: the texts of the inserted files.
    """
    markdown = characters_in_markdown(formulas_in_markdown(notes_in_markdown(markdown)))
    for number, text in enumerate(inserted):
        markdown = markdown.replace(_INSERTED.format(number), text)
    return markdown


def _mark_inserted(
    root: Element, package: Package, relationships: Mapping[str, Relationship]
) -> list[tuple[str, bytes]]:
    """Replace each element that inserts a file (`altChunk`) by a mark; return the files, empty if they are missing."""
    inserted: list[tuple[str, bytes]] = []
    if next(root.iter(_CHUNK), None) is None:
        return inserted
    for parent in list(root.iter()):
        for index, child in enumerate(parent):
            if child.tag == _CHUNK:
                parent[index] = paragraph_of(_INSERTED.format(len(inserted)))
                target = relationships.get(
                    child.get(name_of("r", "id")) or "", Relationship("", "")
                )
                content = package.read(target.target) if target.target in package else b""
                inserted.append((target.target, content))
    return inserted


def _main_part(package: Package) -> str:
    """Return the name of the document's part: not every program names it `word/document.xml`."""
    for kind, target in package.relationships("").values():
        if kind == "officeDocument" and target in package:
            return target
    return _MAIN


def _rename_main(package: Package, main: str) -> None:
    folder, _, name = main.rpartition("/")
    relationships = f"{folder}/_rels/{name}.rels"
    if relationships in package:
        package.replace_bytes("word/_rels/document.xml.rels", package.read(relationships))
    package.replace_bytes(
        "_rels/.rels", package.read("_rels/.rels").replace(main.encode(), _MAIN.encode())
    )


def _hidden_styles(package: Package, relationships: Mapping[str, Relationship]) -> frozenset[str]:
    for kind, target in relationships.values():
        if kind == "styles" and target in package:
            return hidden_styles(package.tree(target))
    return frozenset()


def _comments(package: Package, relationships: Mapping[str, Relationship]) -> list[str]:
    for kind, target in relationships.values():
        if kind == "comments" and target in package:
            comments = [
                c for c in package.tree(target) if local_name(c) == "comment" and text_of(c)
            ]
            if comments:
                return [f"{len(comments)} comment{'s' if len(comments) > 1 else ''}"]
    return []
