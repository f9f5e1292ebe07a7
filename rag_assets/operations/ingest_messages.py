"""Sentences of `rag ingest` about the sources of its targets."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resources.postgres.registry.sources import SourceRow

#: Maximum names of files in a message.
_MAX_NAMES = 5


def shown_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def reads_only(name: str, files: Sequence[str], folder: str | Path) -> str:
    return (
        f"Source {name} reads only {shown_names(files)} of {folder}. To read the whole folder: "
        f"rag sources change {shlex.quote(name)} --unset include"
    )


def change_arguments(options: Mapping[str, Any]) -> list[str]:
    """Return the arguments of `rag sources change` for options of `rag ingest`."""
    arguments = []
    for name, value in options.items():
        if isinstance(value, list):
            arguments += [f"--{name} {shlex.quote(glob)}" for glob in value]
        else:
            arguments.append(f"--set {name}={shlex.quote(value)}")
    return arguments


def name_is_taken(row: SourceRow, path: str, command: str) -> str:
    reads = row.config.get("path") or row.config.get("url") or f"a source of type {row.source_type}"
    return (
        f"Source {row.name!r} reads {reads}, not {path}. Choose another name: {command} --name NAME; "
        f"or ingest that source: rag ingest --source {shlex.quote(row.name)}"
    )
