"""A workbook as its readers return it, and the ZIP container that they read. Rendering is in `spreadsheets`."""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO
from xml.parsers import expat

from resources.errors import ParseError
from resources.parsing.tables import Row

#: Limit for the unpacked XML of a workbook: a legitimate one of this size takes longer than the time limit.
_MAX_BYTES = 512 * 2**20
_CHUNK_BYTES = 256 * 1024


@dataclass
class Sheet:
    """The filled rows of a sheet that its program shows, the texts around them, and the omissions."""

    name: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hidden_rows: int = 0
    hidden_columns: int = 0
    repeated_rows: int = 0


@dataclass
class Workbook:
    """The visible sheets, the names of the hidden ones, and the properties of the file."""

    sheets: list[Sheet] = field(default_factory=list)
    hidden_sheets: list[str] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)


class Package:
    """The XML members of a ZIP container, with a limit for the bytes unpacked in total."""

    def __init__(self, data: bytes) -> None:
        self._archive = zipfile.ZipFile(io.BytesIO(data))
        self.names = set(self._archive.namelist())
        self._budget = _MAX_BYTES

    def parse(
        self,
        name: str,
        start: Callable[[str, dict[str, str]], object],
        end: Callable[[str], object] | None = None,
        text: Callable[[str], object] | None = None,
    ) -> None:
        """Parse a member as a stream, if it exists. Names of elements and attributes are given without prefix."""
        if name not in self.names:
            return
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = lambda tag, attributes: start(
            tag.rpartition(":")[2], _without_prefixes(attributes) if attributes else attributes
        )
        if end is not None:
            parser.EndElementHandler = lambda tag: end(tag.rpartition(":")[2])
        if text is not None:
            parser.CharacterDataHandler = text
        with self._archive.open(name) as member:
            while chunk := self._read(member):
                parser.Parse(chunk, False)
            parser.Parse(b"", True)

    def _read(self, member: IO[bytes]) -> bytes:
        chunk = member.read(_CHUNK_BYTES)
        self._budget -= len(chunk)
        if self._budget < 0:
            raise ParseError(f"the sheets unpack to more than {_MAX_BYTES // 2**20} MiB")
        return chunk

    def head(self, name: str) -> bytes:
        """Return the first mebibyte of a binary member, empty if it does not exist."""
        if name not in self.names:
            return b""
        with self._archive.open(name) as member:
            return member.read(2**20)

    def relations(self, path: str) -> dict[str, tuple[str, str]]:
        """Return kind and path of each part that the part at `path` names, by the identifier of the relation."""
        folder, name = posixpath.split(path)
        relations: dict[str, tuple[str, str]] = {}

        def start(tag: str, attributes: dict[str, str]) -> None:
            if tag == "Relationship" and attributes.get("TargetMode") != "External":
                target = posixpath.join("/", folder, attributes.get("Target", ""))
                kind = attributes.get("Type", "").rpartition("/")[2]
                relations[attributes.get("Id", "")] = (kind, posixpath.normpath(target).lstrip("/"))

        self.parse(posixpath.join(folder, "_rels", f"{name}.rels"), start)
        return relations

    def targets(self, path: str, kind: str) -> list[str]:
        """Return the paths of the parts of a kind that the part at `path` names."""
        return [target for other, target in self.relations(path).values() if other == kind]

    def texts(self, name: str, paragraph: str, run: str = "t") -> list[str]:
        """Return the text of each `paragraph` element, joined from its `run` elements."""
        found: list[str] = []
        parts: list[str] = []
        inside = False

        def start(tag: str, _: dict[str, str]) -> None:
            nonlocal inside
            inside = tag == run

        def end(tag: str) -> None:
            nonlocal inside
            inside = False
            if tag == paragraph:
                if text := " ".join("".join(parts).split()):
                    found.append(text)
                parts.clear()

        self.parse(name, start, end, lambda text: parts.append(text) if inside else None)
        return found

    def properties(self, name: str) -> dict[str, str]:
        """Return title, author and dates of the member that states them."""
        known = {
            "title": "title",
            "creator": "author",
            "initial-creator": "author",
            "created": "created_at",
            "creation-date": "created_at",
            "modified": "modified_at",
        }
        stated: dict[str, str] = {}
        current = ""

        def start(tag: str, _: dict[str, str]) -> None:
            nonlocal current
            current = known.get(tag, "")

        def text(data: str) -> None:
            if current and data.strip():
                stated[current] = stated.get(current, "") + data

        self.parse(name, start, text=text)
        return stated


def _without_prefixes(attributes: dict[str, str]) -> dict[str, str]:
    if ":" not in "".join(attributes):
        return attributes
    return {
        key.rpartition(":")[2]: value
        for key, value in attributes.items()
        # An extension that repeats the names of the standard's attributes.
        if not key.startswith("calcext:")
    }
