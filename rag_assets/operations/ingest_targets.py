"""The meaning of the arguments of `rag ingest`: folders, files and names of sources, resolved to sources.

A folder or file that a folder source reads, registered or new in the same call, belongs to that source. Files of a
folder that no source reads become one source, which includes only them. Nothing is written here: the command registers
new sources.
"""

from __future__ import annotations

import os
import re
import shlex
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rag_assets.operations.folder_rows import (
    exact_files,
    lists_below,
    reads_file,
    with_files,
)
from rag_assets.operations.ingest_messages import (
    change_arguments,
    gone,
    name_is_taken,
    reads_only,
    shown_names,
)
from rag_assets.operations.known_sources import KnownSources
from rag_assets.operations.source_specs import (
    check_source,
    column_problems,
    target_config,
    with_usual_columns,
)
from resources.errors import ConfigError
from resources.partition_keys import partition_key, valid_name
from resources.postgres.registry.sources import SourceRow, unknown_source

#: Suffixes of files whose rows are documents.
_ROWS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")


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
    resolution = _Resolution(KnownSources({row.name: row for row in rows}), options)
    for target in sorted(targets, key=_depth):
        resolution.add(target)
    resolution.add_files()
    if resolution.problems:
        raise ConfigError("\n".join(dict.fromkeys(resolution.problems)))
    return list(resolution.resolved.values())


def default_name(path: Path) -> str:
    """Return a source name made from the folder's name: characters that it cannot contain become hyphens."""
    return valid_name(Path(os.path.realpath(path)).name) or "root"


def _depth(target: str) -> float:
    """Sort outer folders before inner ones, and folders before files: a part then finds the source of its folder."""
    path = _absolute(target)
    return len(Path(os.path.realpath(path)).parts) if os.path.isdir(path) else float("inf")


def _absolute(target: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(target)))


@dataclass
class _Resolution:
    sources: KnownSources
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
        path = _absolute(target)
        if os.path.isdir(path):
            self._add_folder(target, path)
        elif os.path.isfile(path):
            # A folder source does not follow a link out of its folder.
            self._add_file(target, Path(os.path.realpath(path)))
        elif row := self.sources.named(target):
            self._add_named(row)
        elif "://" in target or re.match(r"[\w.-]+@[\w.-]+:", target):
            self.problems.append(
                f"{target.split('@')[-1]} is a URL. Register it, then ingest it by its name: rag sources add NAME URL"
            )
        elif row := self.sources.of_gone(path):
            self.problems.append(gone(row, str(path)))
        else:
            what = "is not a folder or a file" if os.path.exists(path) else "does not exist"
            self.problems.append(
                f"{target} {what}. {unknown_source(target, list(self.sources.registered))}"
            )

    def _add_named(self, row: SourceRow) -> None:
        if self._may_be(row):
            self._use(row.name, row)
        else:
            self.problems.append(
                f"--name: only for new sources. {row.name} is a registered source; ingest it with: "
                f"rag ingest {shlex.quote(row.name)}"
            )

    # Folders --------------------------------------------------------------------------------------------------------

    def _add_folder(self, target: str, path: Path) -> None:
        # A source of single files reads less than the folder.
        same = sorted(
            self.sources.reading(path).values(), key=lambda row: exact_files(row) is not None
        )
        if row := next(filter(self._may_be, same), None):
            names = exact_files(row)
            self._use(target, row, reads_only(row.name, names, target) if names else "")
            return
        for row in filter(self._may_be, self.sources.above(path)):
            if lists_below(row, path):
                self._add_part(target, row)
                return
        overlapping = [row.name for row in self.sources.below(path)]
        remark = (
            f"{target} contains the folders of {', '.join(overlapping)}, whose documents are then found twice. "
            "To leave a folder out: --exclude 'FOLDER/**'"
            if overlapping
            else ""
        )
        self._add_new(target, "folder", {"path": str(path)}, default_name(path), remark)

    def _add_part(self, target: str, row: SourceRow) -> None:
        """Add the source that the target is a part of."""
        own = f"rag ingest {shlex.quote(target)} --name NAME"
        if self._changed(row):
            self.problems.append(
                f"{target} is read by source {row.name} already. To register it by itself too: {own}"
            )
            return
        remark = (
            f"{target} is a part of source {row.name} ({row.config['path']}), which is ingested. "
            f"To register it by itself too: {own}"
        )
        self._use(target, row, remark)

    # Files ----------------------------------------------------------------------------------------------------------

    def _add_file(self, target: str, path: Path) -> None:
        for row in filter(self._may_be, self.sources.all()):
            if row.source_type != "folder" and row.config.get("path") == str(path):
                self._use(target, row)
                return
        for row in filter(self._may_be, self.sources.above(path)):
            if reads_file(row, path):
                if exact_files(row):
                    self._use(target, row)
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
        for folder, found in self.files.items():
            paths = list(dict.fromkeys(found))
            same = self.sources.reading(folder)
            name = self.options.name or next(
                (row.name for row in same.values() if exact_files(row)), default_name(folder)
            )
            row = same.get(name) or self.sources.registered.get(name)
            shown = shown_names([path.name for path in paths])
            if row is None and (self.options.include or self.options.exclude):
                self.problems.append(f"{shown}: --include and --exclude select files of a folder")
            elif row is None:
                config = with_files({"path": str(folder)}, paths)
                self._add_new(shown, "folder", config, name, reads_only(name, [shown], folder))
            elif name not in same:
                self.problems.append(
                    name_is_taken(row, str(folder), f"rag ingest {shlex.quote(shown)}")
                )
            elif exact_files(row):
                self._extend(row, paths)
            else:
                self._report_left_out(row, paths)

    def _extend(self, row: SourceRow, paths: Sequence[Path]) -> None:
        """Let a source of single files read more of them."""
        extended = replace(row, config=with_files(row.config, paths))
        if left_out := [path for path in paths if not reads_file(extended, path)]:
            self._report_left_out(row, left_out)
        elif self._use(str(paths[0]), row):
            # The folder may be a target too, whose remark then names all files.
            names = exact_files(extended) if self.resolved[row.name].remark else None
            remark = reads_only(row.name, names, row.config["path"]) if names else ""
            self.resolved[row.name] = replace(
                self.resolved[row.name], config=extended.config, remark=remark
            )

    def _report_left_out(self, row: SourceRow, paths: Sequence[Path]) -> None:
        shown = shown_names([path.name for path in paths])
        see = (
            f" See them: rag sources show {shlex.quote(row.name)}."
            if row.name in self.sources.registered
            else ""
        )
        self.problems.append(
            f"{shown}: left out by the settings of source {row.name}, which reads {row.config['path']}.{see} "
            f"To register the file by itself: rag ingest {shlex.quote(str(paths[0]))} --name NAME"
        )

    # Shared ---------------------------------------------------------------------------------------------------------

    def _add_new(
        self, target: str, kind: str, config: dict[str, Any], name: str, remark: str
    ) -> None:
        name = self.options.name or name
        config = {**config, **self.options.config()}
        taken = self.sources.registered.get(name)
        if taken is not None:
            self.problems.append(
                name_is_taken(taken, config["path"], f"rag ingest {shlex.quote(target)}")
            )
        elif name in self.resolved:
            self.problems.append(
                f"{target}: two new sources would have the name {name!r}. Ingest them one by one, with --name."
            )
        elif problems := check_source(kind, config, None, ()) or column_problems(kind, config):
            self.problems += [f"{target}: {problem}" for problem in problems]
        else:
            self.sources.new[name] = SourceRow(uuid.uuid4(), kind, name, config, None, True)
            self.resolved[name] = IngestTarget(name, kind, config, is_new=True, remark=remark)

    def _use(self, target: str, row: SourceRow, remark: str = "") -> bool:
        """Resolve the target to the source. Return False if the options ask for other settings than it has."""
        if changed := self._changed(row):
            given = ", ".join(f"--{option}" for option in changed)
            source = "" if target == row.name else f" as source {row.name}"
            arguments = " ".join(change_arguments(changed))
            self.problems.append(
                f"{given}: only for new sources. {target} is registered{source}; change it with: "
                f"rag sources change {shlex.quote(row.name)} {arguments}"
            )
            return False
        earlier = self.resolved.setdefault(row.name, IngestTarget(row.name))
        # One remark a source: each of many files could cause one.
        self.resolved[row.name] = replace(earlier, remark=earlier.remark or remark)
        return True

    def _changed(self, row: SourceRow) -> dict[str, Any]:
        """Return the options that the source does not have as its settings."""
        options = self.options.config()
        return {name: value for name, value in options.items() if row.config.get(name) != value}

    def _may_be(self, row: SourceRow) -> bool:
        """Return whether the target may be this source: `--name` names another one otherwise."""
        return self.options.name in (None, row.name)
