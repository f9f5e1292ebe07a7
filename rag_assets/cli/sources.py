"""`rag sources add | change | remove`. Other commands: `apply.py`, `credentials.py`, `source_views.py`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from rag_assets.cli.output import command, out
from rag_assets.deployment import Deployment
from resources.errors import ConfigError

app = typer.Typer(help="Register, list, change and remove sources.", no_args_is_help=True)

NameArgument = Annotated[
    str, typer.Argument(help="Name of the source, and of its partition in Dagster.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting, key=value, with a JSON or text value (repeatable)."),
]
CredentialOption = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=@VARIABLE reads it from the environment, NAME alone prompts for it (repeatable)."
    ),
]
ScheduleOption = Annotated[str | None, typer.Option(help="Cron expression of this source's sync.")]


def folder_config(
    path: Path, include: list[str], exclude: list[str], hidden: bool, language: str | None
) -> dict[str, Any]:
    """Return the `connection_config` of a folder. Raises ConfigError that lists every problem."""
    from resources.sources.registry import check_config

    config = {
        "path": str(path.expanduser().absolute()),
        **_set_options(include, exclude, hidden, language),
    }
    check_config("folder", config)
    if not path.expanduser().is_dir():
        raise ConfigError(f"{path} is not a folder.")
    return config


def _set_options(
    include: list[str], exclude: list[str], hidden: bool, language: str | None
) -> dict[str, Any]:
    options = {"include": include, "exclude": exclude, "hidden": hidden, "language": language}
    return {name: value for name, value in options.items() if value}


def register(
    deployment: Deployment,
    name: str,
    config: dict[str, Any],
    schedule: str | None = None,
    *,
    kind: str = "folder",
    credentials: dict[str, str] | None = None,
) -> None:
    """Add a source. Raises ConfigError that lists every problem."""
    from rag_assets.operations.source_specs import check_source
    from resources.credentials import encrypt
    from resources.partition_keys import partition_key
    from resources.postgres.registry.sources import add_source

    partition_key(name)
    credentials = credentials or {}
    if problems := check_source(kind, config, schedule, list(credentials)):
        raise ConfigError("\n".join(problems))
    with deployment.postgres().connect(autocommit=True) as connection:
        add_source(connection, name, kind, config, schedule, encrypt(credentials))


def read_settings(settings: list[str]) -> dict[str, Any]:
    """Parse `key=value` pairs. A value that is not JSON is a text."""
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set: expected key=value, found {setting!r}")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


def read_credentials(options: list[str]) -> dict[str, str]:
    """Return name -> secret, from the environment or a prompt.

    Raises ConfigError for a secret on the command line: it would stay in the shell's history.
    """
    from rag_assets.operations.source_specs import resolve_credential

    credentials = {}
    for option in options:
        name, equals, value = option.partition("=")
        try:
            credentials[name] = (
                resolve_credential(value)
                if equals
                else typer.prompt(name, hide_input=True, err=True)
            )
        except ConfigError as error:
            raise ConfigError(f"--credential {name}: {error}") from None
    return credentials


@app.command()
@command
def add(
    name: NameArgument,
    target: Annotated[
        str | None,
        typer.Argument(help="A folder, a file of rows, or a URL; the type is derived from it."),
    ] = None,
    path: Annotated[Path | None, typer.Option(help="Folder to read.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="See: rag sources types.")] = None,
    settings: SetOption = None,
    config_json: Annotated[str | None, typer.Option(help="All settings as JSON.")] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Only paths that match this glob (repeatable).")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No paths that match this glob (repeatable).")
    ] = None,
    hidden: Annotated[
        bool, typer.Option("--hidden", help="Include hidden files and folders.")
    ] = False,
    language: Annotated[
        str | None, typer.Option(help="ISO 639-1 code of all documents; default: detected.")
    ] = None,
    schedule: ScheduleOption = None,
    credential: CredentialOption = None,
) -> None:
    """Register a source: a folder, or anything else that TARGET or --type describes."""
    from rag_assets.operations.source_specs import target_config, with_usual_columns

    options = _set_options(include or [], exclude or [], hidden, language)
    options |= read_settings(settings or [])
    if path is not None:
        kind = kind or "folder"
        options["path"] = str(path.expanduser().absolute())
        if kind == "folder" and not path.expanduser().is_dir():
            raise ConfigError(f"{path} is not a folder.")
    config: dict[str, Any] = {}
    if target is not None:
        target_kind, config = target_config(target)
        if kind not in (None, target_kind):
            # The same address in the setting that --type has for it.
            config = {"path" if kind in ("folder", "jsonl", "csv", "parquet") else "url": target}
            config = {"urls": [target]} if kind == "web" else config
        kind = kind or target_kind
    if kind is None:
        raise ConfigError(
            "Expected something to read: rag sources add NAME TARGET, or --path DIR, or --type TYPE --set key=value. "
            "List the types with: rag sources types"
        )
    if config_json is not None:
        try:
            config |= dict(json.loads(config_json))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"--config-json: expected a JSON object ({error})") from None
    credentials = read_credentials(credential or [])
    config = with_usual_columns(kind, {**config, **options}, credentials)
    deployment = Deployment.from_environment()
    deployment.start()
    register(deployment, name, config, schedule, kind=kind, credentials=credentials)
    out.print(f"Source {name} is registered. Ingest it with: rag ingest --name {name}")


@app.command()
@command
def change(
    name: NameArgument,
    settings: SetOption = None,
    unset: Annotated[
        list[str] | None, typer.Option(help="A setting to reset to its default (repeatable).")
    ] = None,
    schedule: ScheduleOption = None,
    active: Annotated[
        bool | None, typer.Option("--active/--paused", help="Whether syncs run automatically.")
    ] = None,
) -> None:
    """Change a source's settings; its documents stay, and the next sync brings them up to date."""
    from rag_assets.operations.source_specs import check_source
    from resources.postgres.registry.sources import get_source, update_source

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        row = get_source(connection, name)
        kept = {key: value for key, value in row.config.items() if key not in (unset or [])}
        row = replace(
            row,
            config=kept | read_settings(settings or []),
            schedule=row.schedule if schedule is None else schedule or None,
            is_active=row.is_active if active is None else active,
        )
        if problems := check_source(row.source_type, row.config, row.schedule, ()):
            raise ConfigError("\n".join(problems))
        update_source(connection, row)
    out.print(f"Source {name} is changed. Ingest it with: rag ingest --name {name}")


@app.command()
@command
def remove(name: NameArgument) -> None:
    """Remove a source with its documents and chunks, and its vectors from Milvus."""
    deployment = Deployment.from_environment()
    deployment.start(dagster=True)
    remove_sources(deployment, [name])
    out.print(f"Source {name} is removed: documents, chunks and vectors.")


def remove_sources(deployment: Deployment, names: list[str]) -> None:
    from rag_assets.deployment import failures
    from resources.errors import StoreUnavailable
    from resources.postgres.registry.sources import remove_source

    for name in names:
        with deployment.postgres().writer(name) as writer, writer.transaction() as connection:
            remove_source(connection, name)
    deployment.sync_partitions()
    result = deployment.execute("purge_removed_sources")
    if not result.success:
        reasons = "; ".join(message for _, message in failures(result))
        raise StoreUnavailable(
            f"{', '.join(names)}: removed, but some vectors are not deleted yet: {reasons}. "
            "Searches no longer return them; the next run of purge_removed_sources deletes them."
        )
