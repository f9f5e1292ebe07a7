"""The sources by the folders that they read: the registered ones, and those that the same call registers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rag_assets.operations.folder_rows import is_below
from rag_assets.pipeline.plain_text import nfc
from resources.postgres.registry.sources import SourceRow


@dataclass
class KnownSources:
    """`registered`, `new`: name -> source."""

    registered: Mapping[str, SourceRow]
    new: dict[str, SourceRow] = field(default_factory=dict)

    def all(self) -> list[SourceRow]:
        return [*self.registered.values(), *self.new.values()]

    def named(self, name: str) -> SourceRow | None:
        """Return the registered source of this name, in any normal form of Unicode."""
        by_name = {nfc(registered): row for registered, row in self.registered.items()}
        return self.registered.get(name) or by_name.get(nfc(name))

    def folders(self) -> list[SourceRow]:
        return [row for row in self.all() if row.source_type == "folder"]

    def reading(self, folder: Path) -> dict[str, SourceRow]:
        """Return name -> source of the sources that read exactly this folder."""
        real = os.path.realpath(folder)
        rows = (row for row in self.folders() if os.path.realpath(row.config["path"]) == real)
        return {row.name: row for row in rows}

    def of_gone(self, path: Path) -> SourceRow | None:
        """Return the source of a path that does not exist: it reads the path itself, or a folder above it."""
        rows = [row for row in self.all() if row.config.get("path") == str(path)]
        return next(iter([*rows, *self.reading(path).values(), *self.above(path)]), None)

    def below(self, folder: Path) -> list[SourceRow]:
        """Return the sources of the folders inside the folder."""
        return [row for row in self.folders() if is_below(row.config["path"], folder)]

    def above(self, path: Path) -> list[SourceRow]:
        """Return the sources of the folders that contain the path, the nearest first."""
        rows = [row for row in self.folders() if is_below(path, row.config["path"])]
        return sorted(rows, key=lambda row: -len(os.path.realpath(row.config["path"])))
