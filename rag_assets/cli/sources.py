"""`rag sources add | change`. Other commands: `source_removal`, `apply`, `credentials`, `source_views`."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from rag_assets.cli.confirmation import has_terminal
from rag_assets.cli.output import command, note, print_json
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from rag_assets.pipeline.principal import Principal
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
AccountOption = Annotated[
    str | None,
    typer.Option(
        help="The account that owns the source, created if there is none; '': no account."
    ),
]
ScheduleOption = Annotated[str | None, typer.Option(help="Cron expression of this source's sync.")]


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
    account: str | None = None,
) -> None:
    """Add a source. Raises ConfigError that lists every problem."""
    from rag_assets.identity.grants import set_account
    from rag_assets.operations.source_specs import (
        check_source,
        column_problems,
        missing_packages,
    )
    from rag_assets.pipeline.plain_text import nfc
    from resources.credentials import encrypt
    from resources.partition_keys import account_name, partition_key
    from resources.postgres.identity.audit_chain import append_operation
    from resources.postgres.registry.sources import add_source

    name = nfc(partition_key(name))
    credentials = credentials or {}
    problems = check_source(kind, config, schedule, list(credentials))
    problems = problems or missing_packages(kind, config)
    if problems := problems or column_problems(kind, config):
        raise ConfigError("\n".join(problems))
    with deployment.postgres().connect() as connection:
        row = add_source(connection, name, kind, config, schedule, encrypt(credentials))
        if account:
            set_account(connection, Principal.owner(), row.id, account_name(account))
        append_operation(connection, "source.add", f"source:{row.id}", name=name, type=kind)


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
            credentials[name] = resolve_credential(value) if equals else _typed(name)
        except ConfigError as error:
            raise ConfigError(f"--credential {name}: {error}") from None
    return credentials


def _typed(name: str) -> str:
    if not has_terminal():
        raise ConfigError(
            "there is no terminal to type it on; put it into an environment variable: "
            f"--credential {name}=@VARIABLE"
        )
    return typer.prompt(name, hide_input=True, err=True)


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
    account: AccountOption = None,
    credential: CredentialOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a source: a folder, or anything else that TARGET or --type describes.

    Examples: rag sources add handbook docs/handbook --exclude 'drafts/**'; rag sources add bucket s3://bucket/docs
    --credential key=@S3_KEY --credential secret=@S3_SECRET
    """
    from rag_assets.operations.source_specs import target_config, with_lists, with_usual_columns

    options = _set_options(include or [], exclude or [], hidden, language)
    options |= read_settings(settings or [])
    if path is not None:
        kind = kind or "folder"
        options["path"] = os.path.abspath(path.expanduser())
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
    config = with_lists(kind, {**config, **options})
    config = with_usual_columns(kind, config, credentials)
    deployment = Deployment.from_environment()
    deployment.start()
    register(
        deployment, name, config, schedule, kind=kind, credentials=credentials, account=account
    )
    if as_json:
        _print_source(deployment, name)
        return
    note(f"Source {name} is registered.")
    note(f"Ingest it with: rag ingest {shlex.quote(name)}")


@app.command()
@command
def change(
    name: NameArgument,
    settings: SetOption = None,
    unset: Annotated[
        list[str] | None, typer.Option(help="A setting to reset to its default (repeatable).")
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="One more glob of paths to read (repeatable).")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="One more glob of paths to leave out (repeatable).")
    ] = None,
    schedule: ScheduleOption = None,
    account: AccountOption = None,
    active: Annotated[
        bool | None, typer.Option("--active/--paused", help="Whether syncs run automatically.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change a source's settings; its documents stay, and the next sync brings them up to date.

    Examples: rag sources change docs --exclude 'drafts/**'; rag sources change docs --set language=ja --paused
    """
    from rag_assets.identity.grants import set_account
    from rag_assets.operations.source_specs import check_source, with_lists
    from resources.partition_keys import account_name
    from resources.postgres.identity.audit_chain import append_operation
    from resources.postgres.registry.sources import get_source, update_source

    owner = account_name(account) if account else None
    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        row = get_source(connection, name)
        kept = {key: value for key, value in row.config.items() if key not in (unset or [])}
        config = with_lists(row.source_type, kept | read_settings(settings or []))
        for key, globs in (("include", include), ("exclude", exclude)):
            if globs:
                config[key] = list(dict.fromkeys([*config.get(key, ()), *globs]))
        row = replace(
            row,
            config=config,
            schedule=row.schedule if schedule is None else schedule or None,
            is_active=row.is_active if active is None else active,
        )
        if problems := check_source(row.source_type, row.config, row.schedule, ()):
            raise ConfigError("\n".join(problems))
        with connection.transaction():
            update_source(connection, row)
            if account is not None:
                set_account(connection, Principal.owner(), row.id, owner)
            append_operation(connection, "source.change", f"source:{row.id}", name=row.name)
    if as_json:
        _print_source(deployment, name)
        return
    note(f"Source {name} is changed.")
    note(f"Ingest it with: rag ingest {shlex.quote(name)}")


def _print_source(deployment: Deployment, name: str) -> None:
    from resources.credentials import decrypt
    from resources.postgres.registry.sources import get_source

    with deployment.postgres().connect(autocommit=True) as connection:
        row = get_source(connection, name)
    try:
        credentials = list(decrypt(row.credentials_encrypted))
    except ConfigError:
        # Encrypted with a key that this command does not have.
        credentials = ["?"]
    print_json(
        {
            "name": row.name,
            "type": row.source_type,
            "account": row.account,
            "config": dict(row.config),
            "schedule": row.schedule,
            "active": row.is_active,
            "credentials": dict.fromkeys(credentials, "***"),
        }
    )
