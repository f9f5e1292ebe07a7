"""Folder sources on real trees: files are made, and listed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resources.sources.folder import FolderConfig, FolderSource


def make(root: Path, *names: str | bytes) -> None:
    for name in names:
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(os.fsencode(name))


def folder(root: Path, **config: Any) -> FolderSource:
    return FolderSource(FolderConfig(path=str(root), **config))


def keys(root: Path, **config: Any) -> list[str]:
    return sorted(entry.key for entry in folder(root, **config).list())


@contextmanager
def unprivileged() -> Iterator[None]:
    """Run as user nobody for a while, since root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
