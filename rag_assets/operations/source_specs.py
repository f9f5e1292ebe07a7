"""Specifications of sources: a target whose form determines the type, or a YAML file; and the planned changes.

Nothing is written here: the commands apply the plan.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from resources.credentials import decrypt
from resources.errors import ConfigError, SourceError
from resources.postgres.registry.sources import SourceRow
from resources.sources.registry import check_config, source_type
from resources.urls import without_secrets

_ROWS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
_DATABASES = ("postgresql", "postgres", "mysql", "mariadb", "sqlite", "mssql", "oracle")
#: Maximum characters of a cron expression: the width of column `sync_schedule`.
MAX_SCHEDULE = 100
#: Setting -> column names that it defaults to, best first.
_USUAL_COLUMNS = {
    "key": ("id", "key", "_id", "uuid", "doc_id", "document_id"),
    "text": ("text", "content", "body", "markdown", "answer"),
    "title": ("title", "headline", "name", "question"),
    "url_column": ("url", "link"),
    "author": ("author",),
}


def target_config(target: str) -> tuple[str, dict[str, Any]]:
    """Return (type, configuration) for a path or URL that a person wrote."""
    try:
        parts = urlsplit(target)
    except ValueError as error:
        raise ConfigError(f"{without_secrets(target)} is not a path or a URL: {error}.") from None
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
    local = Path(os.path.abspath(Path(path).expanduser()))
    if local.is_dir():
        bare = (local / "HEAD").is_file() and (local / "objects").is_dir()
        return ("git", {"url": str(local)}) if bare else ("folder", {"path": str(local)})
    if rows and local.is_file():
        more = {"delimiter": "\t"} if local.suffix.lower() == ".tsv" else {}
        return rows, {"path": str(local), **more}
    raise ConfigError(
        f"{target} {'is not' if os.path.exists(local) else 'does not exist; expected'} a folder, a .jsonl, .csv or "
        ".parquet file, or a URL. List the types of sources with: rag sources types"
    )


def with_usual_columns(
    kind: str, config: Mapping[str, Any], credentials: Mapping[str, str]
) -> dict[str, Any]:
    """Return the configuration; for a file of rows without a text column, with the columns that its first row suggests.

    Raises ConfigError if no column has a usual name for the text.
    """
    if kind not in _ROWS.values() or "text" in config:
        return dict(config)
    from resources.sources.rows import RowsSource

    unchecked: Any = source_type(kind).config.model_construct(**{**config, "text": []})
    names = RowsSource(unchecked, credentials).column_names()
    completed = dict(config)
    for setting, usual in _USUAL_COLUMNS.items():
        if setting not in completed and (name := next((n for n in usual if n in names), None)):
            completed[setting] = name
    if "text" not in completed:
        raise ConfigError(
            f"Which column is the text? {config['path']} has {', '.join(names)}. Name it: --set text=COLUMN"
        )
    return completed


def with_lists(kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with a list of one text where a person wrote the text alone: `exclude=drafts/**`."""
    fields = source_type(kind).config.model_fields
    lists = {name for name, info in fields.items() if get_origin(info.annotation) is list}
    return {
        name: [value] if name in lists and isinstance(value, str) else value
        for name, value in config.items()
    }


def check_source(
    kind: str, config: Mapping[str, Any], schedule: str | None, credentials: Sequence[str]
) -> list[str]:
    """Return every problem of a source that is about to be registered."""
    problems = []
    try:
        check_config(kind, config)
        names = source_type(kind).credentials
        if names is not None and (unknown := sorted(set(credentials) - set(names))):
            expected = ", ".join(names) or "none"
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


def missing_packages(kind: str, config: Mapping[str, Any]) -> list[str]:
    """Return the problem of a new source whose type needs a package that is not installed, with the command for it."""
    try:
        source_type(kind).expect_installed(check_config(kind, config))
    except ConfigError as error:
        return [str(error)]
    return []


def column_problems(kind: str, config: Mapping[str, Any]) -> list[str]:
    """Return the problem with the columns of a new source that reads rows of a file on this machine.

    A column is missing, or two have one name. A file that does not exist yet, or is being written, has none.
    """
    if kind not in _ROWS.values() or not os.path.isfile(config["path"]):
        return []
    from resources.sources.rows import RowsSource

    checked: Any = check_config(kind, config)
    source = RowsSource(checked, {})
    try:
        source.column_names()
    except SourceError as error:
        return [] if source.incomplete else [str(error)]
    return []


def resolve_credential(value: str) -> str:
    """Return the value of `@VARIABLE` from the environment.

    Raises ConfigError for anything else: a secret itself would stay in files and in the shell's history.
    """
    if not re.fullmatch(r"@\w+", value):
        raise ConfigError(
            "expected @VARIABLE, the name of the environment variable that contains it"
        )
    secret = os.environ.get(value[1:])
    if not secret:
        raise ConfigError(f"the environment variable {value[1:]} is not set")
    return secret


class SourceSpec(BaseModel):
    """One source in the file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    type: str
    config: dict[str, Any]
    schedule: str | None = None
    active: bool = True
    #: The account that owns the source; "": no account; None: as it is.
    account: str | None = None
    credentials: dict[str, str] = Field(default={})


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    sources: list[SourceSpec]


@dataclass(frozen=True)
class Change:
    """The planned change of one source. `action`: add, update, keep or remove. `fields`: names of differing fields."""

    action: str
    name: str
    type: str
    fields: tuple[str, ...] = ()
    spec: SourceSpec | None = None
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)


def read_specs(path: Path) -> list[SourceSpec]:
    """Return the sources of a YAML file, with absolute paths. Raises ConfigError that lists every problem."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        specs = _File.model_validate(content).sources
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML in UTF-8: {error}") from None
    except ValidationError as error:
        # Without the value: it may be a secret in the wrong place.
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigError(f"{path} has problems:\n  " + "\n  ".join(problems)) from None
    for spec in specs:
        for name in ("path", "url"):
            value = spec.config.get(name)
            if not isinstance(value, str) or "://" in value:
                continue
            if name == "path" or value.startswith(("./", "../", "~")):
                spec.config[name] = str((path.parent / Path(value).expanduser()).resolve())
    return specs


def plan_changes(
    specs: Sequence[SourceSpec], rows: Sequence[SourceRow], *, prune: bool
) -> list[Change]:
    """Compare the specifications with the registered sources. Raises ConfigError that lists every problem of each."""
    from resources.partition_keys import account_name, partition_key

    registered = {row.name: row for row in rows}
    all_problems: list[str] = []
    changes: list[Change] = []
    names: set[str] = set()
    for spec in specs:
        problems = []
        if spec.name in names:
            problems.append("declared twice")
        names.add(spec.name)
        try:
            partition_key(spec.name)
        except ConfigError as error:
            problems.append(str(error))
        problems += check_source(spec.type, spec.config, spec.schedule, list(spec.credentials))
        if spec.account:
            try:
                spec.account = account_name(spec.account)
            except ConfigError as error:
                problems.append(str(error))
        credentials: dict[str, str] = {}
        for name, value in spec.credentials.items():
            try:
                credentials[name] = resolve_credential(value)
            except ConfigError as error:
                problems.append(f"credentials.{name}: {error}")
        row = registered.get(spec.name)
        if row is None and not problems:
            problems += missing_packages(spec.type, spec.config)
            problems += column_problems(spec.type, spec.config)
        if row is not None and row.source_type != spec.type:
            problems.append(
                f"it is of type {row.source_type}; to make it {spec.type}, first: rag sources remove {spec.name}"
            )
        if problems:
            all_problems += [f"{spec.name}: {problem}" for problem in problems]
        else:
            changes.append(_change(spec, row, credentials))
    if all_problems:
        raise ConfigError("Nothing was changed:\n" + "\n".join(all_problems))
    if prune:
        removed = [row for row in rows if row.name not in names]
        changes += [Change("remove", row.name, row.source_type) for row in removed]
    return changes


def _change(spec: SourceSpec, row: SourceRow | None, credentials: Mapping[str, str]) -> Change:
    if row is None:
        return Change("add", spec.name, spec.type, (), spec, credentials)
    old, new = row.config, spec.config
    fields = [f"config.{n}" for n in sorted({*old, *new}) if old.get(n) != new.get(n)]
    if row.schedule != spec.schedule:
        fields.append("schedule")
    if row.is_active != spec.active:
        fields.append("active")
    if spec.account is not None and spec.account != (row.account or ""):
        fields.append("account")
    if decrypt(row.credentials_encrypted) != credentials:
        fields.append("credentials")
    action = "update" if fields else "keep"
    return Change(action, spec.name, spec.type, tuple(fields), spec, credentials)
