"""What a person says of sources: a target whose form tells the type, or a YAML file; and the plan that follows.

Nothing is written here: the commands apply what is planned.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from resources.credentials import decrypt
from resources.errors import ConfigError
from resources.postgres.registry.sources import SourceRow
from resources.sources.registry import check_config, source_type
from resources.urls import without_secrets

_ROWS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
_DATABASES = ("postgresql", "postgres", "mysql", "mariadb", "sqlite", "mssql", "oracle")
#: Characters of a cron expression: what column `sync_schedule` takes.
MAX_SCHEDULE = 100
#: Columns that are taken for what their names say, unless told otherwise.
_USUAL = {
    "key": ("id", "key", "_id", "uuid", "doc_id", "document_id"),
    "text": ("text", "content", "body", "markdown", "answer"),
    "title": ("title", "headline", "name", "question"),
    "url_column": ("url", "link"),
    "author": ("author",),
}


def target_config(target: str) -> tuple[str, dict[str, Any]]:
    """(type, configuration) of a path or URL as a person writes it."""
    try:
        parts = urlsplit(target)
    except ValueError as error:
        raise ConfigError(f"{without_secrets(target)} is not an address: {error}.") from None
    scheme = parts.scheme if "://" in target else ""
    path = parts.path if scheme else target
    rows = _ROWS.get(Path(path).suffix.lower())
    if scheme.startswith("git+"):
        return "git", {"url": target.removeprefix("git+")}
    if (
        scheme == "ssh"
        or re.match(r"[\w.-]+@[\w.-]+:", target)
        or (scheme and path.endswith(".git"))
    ):
        return "git", {"url": target}
    if scheme.partition("+")[0] in _DATABASES:
        return "sql", {"url": target}
    if scheme in ("http", "https") and rows is None:
        if path.endswith((".xml", ".xml.gz")):
            return "web", {"sitemap": target}
        return "web", {"urls": [target]}
    if scheme not in ("", "file"):
        return (rows, {"path": target}) if rows else ("files", {"url": target})
    local = Path(path).expanduser().absolute()
    if local.is_dir():
        bare = (local / "HEAD").is_file() and (local / "objects").is_dir()
        return ("git", {"url": str(local)}) if bare else ("folder", {"path": str(local)})
    if rows and local.is_file():
        more = {"delimiter": "\t"} if local.suffix.lower() == ".tsv" else {}
        return rows, {"path": str(local), **more}
    raise ConfigError(
        f"{target} is not a folder, a .jsonl, .csv or .parquet file, or a URL. "
        "What can be a source is told by: rag sources types"
    )


def with_usual_columns(
    kind: str, config: Mapping[str, Any], credentials: Mapping[str, str]
) -> dict[str, Any]:
    """The configuration of a file of rows with the columns that its first row suggests, where none are named."""
    if kind not in _ROWS.values() or "text" in config:
        return dict(config)
    from resources.sources.rows import RowsSource

    unchecked: Any = source_type(kind).config.model_construct(**{**config, "text": []})
    names = RowsSource(unchecked, credentials).column_names()
    found = dict(config)
    for setting, usual in _USUAL.items():
        if setting not in found and (name := next((n for n in usual if n in names), None)):
            found[setting] = name
    if "text" not in found:
        raise ConfigError(
            f"Which column is the text? {config['path']} has {', '.join(names)}. Say it: --set text=COLUMN"
        )
    return found


def check_source(
    kind: str, config: Mapping[str, Any], schedule: str | None, credentials: Sequence[str]
) -> list[str]:
    """Every problem of a source as it is to be registered."""
    problems = []
    try:
        check_config(kind, config)
        taken = source_type(kind).credentials
        if taken is not None and (unknown := sorted(set(credentials) - set(taken))):
            expected = ", ".join(taken) or "none"
            problems.append(f"credentials: expected {expected}, found {', '.join(unknown)}")
    except ConfigError as error:
        problems.append(str(error))
    if schedule is not None:
        from rag_assets.pipeline.cron import comes_due

        if len(schedule) > MAX_SCHEDULE or not comes_due(schedule):
            problems.append(
                f"schedule: expected a cron expression such as '0 2 * * *', of {MAX_SCHEDULE} characters at most, "
                f"found {schedule!r}"
            )
    return problems


def credential(value: str) -> str:
    """The value that `@VARIABLE` stands for: a secret itself would stay in files and in the shell's history."""
    if not re.fullmatch(r"@\w+", value):
        raise ConfigError("expected @VARIABLE, the name of the environment variable that holds it")
    found = os.environ.get(value[1:])
    if not found:
        raise ConfigError(f"the environment variable {value[1:]} is not set")
    return found


class Declared(BaseModel):
    """One source of the file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    type: str
    config: dict[str, Any]
    schedule: str | None = None
    active: bool = True
    credentials: dict[str, str] = Field(default={})


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    sources: list[Declared]


@dataclass(frozen=True)
class Change:
    """What is to be done about one source. `fields`: what differs, never a value."""

    action: str  # add, update, keep or remove
    name: str
    type: str
    fields: tuple[str, ...] = ()
    declared: Declared | None = None
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)


def read_file(path: Path) -> list[Declared]:
    """The sources of a YAML file, relative paths made absolute. Raises ConfigError that lists every problem."""
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        sources = _File.model_validate(found).sources
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML in UTF-8: {error}") from None
    except ValidationError as error:
        # Without what was found: it may be a secret in the wrong place.
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{path} has problems:\n  " + "\n  ".join(problems)) from None
    for source in sources:
        for name in ("path", "url"):
            value = source.config.get(name)
            if not isinstance(value, str) or "://" in value:
                continue
            if name == "path" or value.startswith(("./", "../", "~")):
                source.config[name] = str((path.parent / Path(value).expanduser()).resolve())
    return sources


def plan(declared: Sequence[Declared], rows: Sequence[SourceRow], *, prune: bool) -> list[Change]:
    """Declared against registered. Raises ConfigError that lists every problem of every source."""
    from rag_assets.partitions import partition_key

    registered = {row.name: row for row in rows}
    problems: list[str] = []
    changes: list[Change] = []
    seen: set[str] = set()
    for source in declared:
        found = []
        if source.name in seen:
            found.append("declared twice")
        seen.add(source.name)
        try:
            partition_key(source.name)
        except ConfigError as error:
            found.append(str(error))
        found += check_source(source.type, source.config, source.schedule, list(source.credentials))
        given: dict[str, str] = {}
        for name, value in source.credentials.items():
            try:
                given[name] = credential(value)
            except ConfigError as error:
                found.append(f"credentials.{name}: {error}")
        row = registered.get(source.name)
        if row is not None and row.source_type != source.type:
            found.append(
                f"it is of type {row.source_type}; to make it {source.type}: rag sources remove {source.name}"
            )
        if found:
            problems += [f"{source.name}: {problem}" for problem in found]
        else:
            changes.append(_change(source, row, given))
    if problems:
        raise ConfigError("Nothing was changed:\n" + "\n".join(problems))
    if prune:
        gone = [row for row in rows if row.name not in seen]
        changes += [Change("remove", row.name, row.source_type) for row in gone]
    return changes


def _change(source: Declared, row: SourceRow | None, given: Mapping[str, str]) -> Change:
    if row is None:
        return Change("add", source.name, source.type, (), source, given)
    old, new = row.config, source.config
    fields = [f"config.{n}" for n in sorted({*old, *new}) if old.get(n) != new.get(n)]
    if (row.schedule, row.is_active) != (source.schedule, source.active):
        fields += ["schedule"] if row.schedule != source.schedule else []
        fields += ["active"] if row.is_active != source.active else []
    if decrypt(row.credentials_encrypted) != given:
        fields.append("credentials")
    action = "update" if fields else "keep"
    return Change(action, source.name, source.type, tuple(fields), source, given)
