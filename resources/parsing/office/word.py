"""A Word file in the form that the extractor reads without loss, by `word_text`, `word_boxes` and `word_notes`.

Headers come first and footers last, each once, then the notes.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from resources.parsing.office.word_boxes import move_boxes
from resources.parsing.office.word_notes import margins, place_notes
from resources.parsing.office.word_text import hidden_styles, simplify, text_of

_MAIN = "word/document.xml"
_BODY, _SECTION = name_of("w", "body"), name_of("w", "sectPr")


class Prepared(NamedTuple):
    """A file for the extractor, and what was left out of it on purpose."""

    data: bytes
    left_out: list[str]


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
    note_blocks = place_notes(root, notes)
    headers, footers = margins(root, relationships, parts)
    section = [child for child in body if child.tag == _SECTION]
    blocks = [child for child in body if child.tag != _SECTION]
    body[:] = [*headers, *blocks, *footers, *note_blocks, *section]
    package.replace(_MAIN, root)
    if main != _MAIN:
        _rename_main(package, main)
    without = [
        target for kind, target in relationships.values() if kind in ("footnotes", "endnotes")
    ]
    left_out = _comments(package, relationships)
    if files := sum(1 for _ in root.iter(name_of("w", "altChunk"))):
        left_out.append(f"{files} file{'s' if files > 1 else ''} inserted as a whole (altChunk)")
    if hidden_characters := sum(part.hidden for part in simplified):
        left_out.append(f"hidden text ({hidden_characters} characters)")
    left_out += readings_left_out(sum(part.readings for part in simplified))
    return Prepared(package.written(without), left_out)


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
