"""Sentences of `rag ingest` about the sources of its targets."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resources.postgres.registry.sources import SourceRow
from resources.urls import without_secrets

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


def gone(row: SourceRow, target: str) -> str:
    """Return the message about a folder or file that a source reads and that does not exist any more."""
    name = shlex.quote(row.name)
    if str(row.config["path"]) != target and Path(row.config["path"]).exists():
        return (
            f"{target} does not exist. Source {row.name} reads its folder, and deletes the documents of missing files: "
            f"rag ingest {name}"
        )
    return (
        f"{target} is gone, or not mounted; source {row.name} reads {row.config['path']}. If it was moved: rag sources "
        f"change {name} --set path=NEW; to remove the source with its documents: rag sources remove {name}"
    )


def nothing_found(row: SourceRow) -> str:
    """Return the hint for a source without documents: which settings decide what is read."""
    name, config = shlex.quote(row.name), row.config
    address = config.get("path") or config.get("sitemap") or config.get("url") or "its addresses"
    reasons = []
    if row.source_type == "folder":
        reasons.append("it has no files")
        if not config.get("hidden"):
            reasons.append(f"only hidden ones (rag sources change {name} --set hidden=true)")
    if globs := [setting for setting in ("include", "exclude") if config.get(setting)]:
        reasons.append(f"its {' and '.join(globs)} globs leave everything out")
    hint = f": {', or '.join(reasons)}" if reasons else ""
    listed = (
        " Files of every type are listed; --include and --exclude select them."
        if row.source_type in ("folder", "files", "git")
        else ""
    )
    return (
        f"{row.name}: nothing was found in {without_secrets(str(address))}{hint}.{listed} "
        f"Its settings: rag sources show {name}"
    )


def name_is_taken(row: SourceRow, path: str, command: str) -> str:
    reads = row.config.get("path") or row.config.get("url") or f"a source of type {row.source_type}"
    return (
        f"Source {row.name!r} reads {reads}, not {path}. Choose another name: {command} --name NAME; "
        f"or ingest that source: rag ingest --source {shlex.quote(row.name)}"
    )
