"""The meaning of the arguments of `rag ingest`: folders, files and names of sources, resolved to sources.

A folder or file that a registered folder source already reads belongs to that source. Files of a folder that no source
reads become one source, which includes only them. Nothing is written here: the command registers new sources.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rag_assets.operations.source_specs import check_source, target_config, with_usual_columns
from resources.errors import ConfigError, SourceError
from resources.partition_keys import partition_key, valid_name
from resources.postgres.registry.sources import SourceRow, unknown_source
from resources.sources.globs import KeyFilter, exact_glob, exact_key
from resources.sources.registry import open_source

#: Suffixes of files whose rows are documents.
_ROWS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
#: Maximum names of files in a message.
_MAX_NAMES = 5


@dataclass(frozen=True)
class IngestTarget:
    """A source to ingest. `config`: of a new source, or of a registered one that must read more files, else None."""

    name: str
    kind: str = "folder"
    config: Mapping[str, Any] | None = None
    is_new: bool = False
    remark: str = ""


@dataclass(frozen=True)
class NewSourceOptions:
    """What the command says about sources that it registers."""

    name: str | None = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    language: str | None = None

    def config(self) -> dict[str, Any]:
        values = {"include": [*self.include], "exclude": [*self.exclude], "language": self.language}
        return {name: value for name, value in values.items() if value}


def resolve_targets(
    targets: Sequence[str], rows: Sequence[SourceRow], options: NewSourceOptions
) -> list[IngestTarget]:
    """Return the sources that the arguments name, each once. Raises ConfigError that lists every problem."""
    resolution = _Resolution({row.name: row for row in rows}, options)
    for target in targets:
        resolution.add(target)
    resolution.add_files()
    if resolution.problems:
        raise ConfigError("\n".join(dict.fromkeys(resolution.problems)))
    return list(resolution.resolved.values())


def default_name(path: Path) -> str:
    """Return a source name made from the folder's name: characters that it cannot contain become hyphens."""
    return valid_name(Path(os.path.realpath(path)).name) or "root"


@dataclass
class _Resolution:
    rows: Mapping[str, SourceRow]
    options: NewSourceOptions
    resolved: dict[str, IngestTarget] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    #: Files that no source reads yet, by folder.
    files: dict[Path, list[Path]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = self.options.name
        if name is not None:
            try:
                partition_key(name)
            except ConfigError as error:
                self.problems.append(f"--name: {error}")

    def add(self, target: str) -> None:
        path = Path(os.path.abspath(os.path.expanduser(target)))
        if os.path.isdir(path):
            self._add_folder(target, path)
        elif os.path.isfile(path):
            # A folder source does not follow a link out of its folder.
            self._add_file(target, Path(os.path.realpath(path)))
        elif target in self.rows:
            self._resolve(IngestTarget(target))
        elif "://" in target or re.match(r"[\w.-]+@[\w.-]+:", target):
            self.problems.append(
                f"{target.split('@')[-1]} is a URL. Register it, then ingest it by its name: rag sources add NAME URL"
            )
        else:
            self.problems.append(
                f"{target} is not a folder or a file. {unknown_source(target, list(self.rows))}"
            )

    # Folders --------------------------------------------------------------------------------------------------------

    def _add_folder(self, target: str, path: Path) -> None:
        same = self._reading(path)
        if same and (self.options.name is None or self.options.name in same):
            self._add_registered(target, self.rows[self.options.name or next(iter(same))])
            return
        if self.options.name is None:
            for row in self._above(path):
                if _lists_below(row, path):
                    self._add_part(target, row)
                    return
        overlapping = [row.name for row in self._folders() if _is_below(row.config["path"], path)]
        remark = (
            f"{target} contains the folders of {', '.join(overlapping)}, whose documents are then found twice. "
            "To leave a folder out: --exclude 'FOLDER/**'"
            if overlapping
            else ""
        )
        self._add_new(target, "folder", {"path": str(path)}, default_name(path), remark)

    def _add_registered(self, target: str, row: SourceRow) -> None:
        changed = [
            name for name, value in self.options.config().items() if row.config.get(name) != value
        ]
        if changed:
            self.problems.append(
                f"{target} is registered as source {row.name} with other settings. Change its {', '.join(changed)} "
                f"with: rag sources change {shlex.quote(row.name)}"
            )
            return
        names = _exact_files(row)
        remark = (
            f"Source {row.name} reads only {_shown(names)} of {target}. To read the whole folder: "
            f"rag sources change {shlex.quote(row.name)} --unset include"
            if names
            else ""
        )
        self._resolve(IngestTarget(row.name, remark=remark))

    def _add_part(self, target: str, row: SourceRow) -> None:
        """Add the registered source that the target is a part of."""
        own = f"rag ingest {shlex.quote(target)} --name NAME"
        if self.options.config():
            self.problems.append(
                f"{target} is read by source {row.name} already. To register it by itself too: {own}"
            )
            return
        remark = (
            f"{target} is a part of source {row.name} ({row.config['path']}), which is ingested. "
            f"To register it by itself too: {own}"
        )
        self._resolve(IngestTarget(row.name, remark=remark))

    # Files ----------------------------------------------------------------------------------------------------------

    def _add_file(self, target: str, path: Path) -> None:
        if self.options.name is None:
            for row in self.rows.values():
                if row.source_type != "folder" and row.config.get("path") == str(path):
                    self._resolve(IngestTarget(row.name))
                    return
            for row in self._above(path):
                if _reads_file(row, path):
                    if _exact_files(row):
                        self._resolve(IngestTarget(row.name))
                    else:
                        self._add_part(target, row)
                    return
        if path.suffix.lower() in _ROWS:
            self._add_rows(target, path)
        else:
            self.files.setdefault(path.parent, []).append(path)

    def _add_rows(self, target: str, path: Path) -> None:
        try:
            kind, config = target_config(str(path))
            config = with_usual_columns(kind, {**config, **self.options.config()}, {})
        except ConfigError as error:
            name = shlex.quote(self.options.name or valid_name(path.stem) or "rows")
            hint = f" With: rag sources add {name} {shlex.quote(target)} --set text=COLUMN"
            self.problems.append(f"{target}: {error}{hint}")
            return
        self._add_new(target, kind, config, valid_name(path.stem) or "rows", "")

    def add_files(self) -> None:
        """Add a source for the files of each folder, or extend the one that reads single files of it."""
        for folder, paths in self.files.items():
            globs = [exact_glob(_key(path, folder)) for path in paths]
            same = self._reading(folder)
            name = self.options.name or next(
                (row.name for row in same.values() if _exact_files(row)), default_name(folder)
            )
            row = self.rows.get(name)
            shown = _shown([path.name for path in paths])
            if row is None:
                hidden = {"hidden": True} if any(p.name.startswith(".") for p in paths) else {}
                if self.options.include or self.options.exclude:
                    self.problems.append(
                        f"{shown}: --include and --exclude select files of a folder"
                    )
                    continue
                remark = (
                    f"Source {name} reads only {shown} of {folder}. To read the whole folder: "
                    f"rag sources change {shlex.quote(name)} --unset include"
                )
                config = {"path": str(folder), "include": globs, **hidden}
                self._add_new(shown, "folder", config, name, remark)
            elif name in same and _exact_files(row):
                include = list(dict.fromkeys([*row.config["include"], *globs]))
                self._resolve(IngestTarget(name, config={**row.config, "include": include}))
            elif name in same:
                self.problems.append(
                    f"{shown}: left out by the settings of source {name}, which reads {folder}. "
                    f"See them: rag sources show {shlex.quote(name)}. To register the file by itself: "
                    f"rag ingest {shlex.quote(str(paths[0]))} --name NAME"
                )
            else:
                self.problems.append(_taken(row, str(folder), f"rag ingest {shlex.quote(shown)}"))

    # Shared ---------------------------------------------------------------------------------------------------------

    def _add_new(
        self, target: str, kind: str, config: dict[str, Any], name: str, remark: str
    ) -> None:
        name = self.options.name or name
        config = {**config, **self.options.config()}
        taken = self.rows.get(name)
        if taken is not None:
            self.problems.append(_taken(taken, config["path"], f"rag ingest {shlex.quote(target)}"))
        elif name in self.resolved:
            self.problems.append(
                f"{target}: two new sources would have the name {name!r}. Ingest them one by one, with --name."
            )
        elif problems := check_source(kind, config, None, ()):
            self.problems += [f"{target}: {problem}" for problem in problems]
        else:
            self._resolve(IngestTarget(name, kind, config, is_new=True, remark=remark))

    def _resolve(self, target: IngestTarget) -> None:
        earlier = self.resolved.get(target.name)
        if earlier is None or target.config is not None:
            self.resolved[target.name] = target

    def _folders(self) -> list[SourceRow]:
        return [row for row in self.rows.values() if row.source_type == "folder"]

    def _reading(self, folder: Path) -> dict[str, SourceRow]:
        """Return the sources that read exactly this folder."""
        real = os.path.realpath(folder)
        rows = (row for row in self._folders() if os.path.realpath(row.config["path"]) == real)
        return {row.name: row for row in rows}

    def _above(self, path: Path) -> list[SourceRow]:
        """Return the sources of the folders that contain the path, the nearest first."""
        rows = [row for row in self._folders() if _is_below(path, row.config["path"])]
        return sorted(rows, key=lambda row: -len(os.path.realpath(row.config["path"])))


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def _taken(row: SourceRow, path: str, command: str) -> str:
    reads = row.config.get("path") or row.config.get("url") or f"a source of type {row.source_type}"
    return (
        f"Source {row.name!r} reads {reads}, not {path}. Choose another name: {command} --name NAME; "
        f"or ingest that source: rag ingest --source {shlex.quote(row.name)}"
    )


def _is_below(path: str | Path, folder: str | Path) -> bool:
    return os.path.realpath(path).startswith(os.path.realpath(folder).rstrip(os.sep) + os.sep)


def _key(path: Path, folder: str | Path) -> str:
    return os.path.relpath(os.path.realpath(path), os.path.realpath(folder)).replace(os.sep, "/")


def _exact_files(row: SourceRow) -> list[str] | None:
    """Return the names of the files if the source includes single files only, else None."""
    keys = [exact_key(glob) for glob in row.config.get("include") or ()]
    names = [key for key in keys if key is not None]
    return names if names and len(names) == len(keys) else None


def _reads_file(row: SourceRow, path: Path) -> bool:
    key = _key(path, row.config["path"])
    if not row.config.get("hidden") and any(part.startswith(".") for part in key.split("/")):
        return False
    return KeyFilter(row.config.get("include") or (), row.config.get("exclude") or ())(key)


def _lists_below(row: SourceRow, folder: Path) -> bool:
    """Return whether the source lists a file below the folder. True if it cannot be listed: its sync tells why."""
    prefix = _key(folder, row.config["path"]) + "/"
    try:
        return any(
            entry.key.startswith(prefix)
            for entry in open_source(row.source_type, row.config).list()
        )
    except SourceError:
        return True
