"""The files that a registered folder source reads, told from its row: `rag ingest PATH` finds the source of a path."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resources.errors import SourceError
from resources.postgres.registry.sources import SourceRow
from resources.sources.folder import entry_key
from resources.sources.globs import KeyFilter, exact_glob, exact_key
from resources.sources.registry import open_source


def is_below(path: str | Path, folder: str | Path) -> bool:
    return os.path.realpath(path).startswith(os.path.realpath(folder).rstrip(os.sep) + os.sep)


def key_in(path: Path, folder: str | Path) -> str:
    """Return the key that a source of the folder gives the path."""
    return entry_key(os.path.relpath(os.path.realpath(path), os.path.realpath(folder)))


def exact_files(row: SourceRow) -> list[str] | None:
    """Return the names of the files if the source includes single files only, else None."""
    keys = [exact_key(glob) for glob in row.config.get("include") or ()]
    names = [key for key in keys if key is not None]
    return names if names and len(names) == len(keys) else None


def reads_file(row: SourceRow, path: Path) -> bool:
    key = key_in(path, row.config["path"])
    if not row.config.get("hidden") and any(part.startswith(".") for part in key.split("/")):
        return False
    return KeyFilter(row.config.get("include") or (), row.config.get("exclude") or ())(key)


def lists_below(row: SourceRow, folder: Path) -> bool:
    """Return whether the source lists a file below the folder. True if it cannot be listed: its sync tells why."""
    prefix = key_in(folder, row.config["path"]) + "/"
    try:
        return any(
            entry.key.startswith(prefix)
            for entry in open_source(row.source_type, row.config).list()
        )
    except SourceError:
        return True


def with_files(config: Mapping[str, Any], paths: Sequence[Path]) -> dict[str, Any]:
    """Return the configuration of a folder source that reads these single files too."""
    globs = [exact_glob(key_in(path, config["path"])) for path in paths]
    include = list(dict.fromkeys([*(config.get("include") or ()), *globs]))
    hidden = {"hidden": True} if any(path.name.startswith(".") for path in paths) else {}
    return {**config, "include": include, **hidden}
