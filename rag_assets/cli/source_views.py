"""`rag sources list | show | types`: what is registered, and what can be. Nothing is changed, no secret is shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag_assets.cli.output import command, out, print_json, table
from rag_assets.cli.sources import NameArgument
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from resources.errors import ConfigError
from resources.urls import without_secrets

if TYPE_CHECKING:
    from resources.postgres.registry.sources import SourceRow


def reads(config: Any) -> str:
    """What a source reads, in a word, without secrets."""
    found = next((config[n] for n in ("path", "sitemap", "url", "urls") if config.get(n)), "")
    return without_secrets(found if isinstance(found, str) else ", ".join(map(str, found))[:200])


@command
def list_(as_json: JsonOption = False) -> None:
    """List the sources with their last sync."""
    deployment = Deployment.from_environment()
    deployment.start()
    columns = (
        "name", "source_type", "config", "schedule", "is_active", "sync_status", "last_sync_at",
        "total_documents", "failed_documents", "last_error",
    )  # fmt: skip
    with deployment.postgres().connect(autocommit=True) as connection:
        rows = connection.execute(
            """SELECT name, source_type, connection_config, sync_schedule, is_active, sync_status, last_sync_at,
                 total_documents, failed_documents, last_error FROM sources ORDER BY name"""
        ).fetchall()
    if as_json:
        print_json([dict(zip(columns, row)) for row in rows])
    elif rows:
        titles = (
            "name", "type", "reads", "schedule", "active", "status", "last sync", "documents", "failed", "last error",
        )  # fmt: skip
        shown = [
            (*row[:2], reads(row[2]), *row[3:6], f"{row[6]:%Y-%m-%d %H:%M}" if row[6] else None, *row[7:])
            for row in rows
        ]  # fmt: skip
        table("Sources", titles, shown)
    else:
        out.print("No sources. Register one with: rag sources add NAME --path DIR")


@command
def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show everything about a source; of its credentials only the names."""
    from resources.postgres.registry.sources import get_source

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        row = get_source(connection, name)
    found = {
        "name": row.name,
        "type": row.source_type,
        "config": dict(row.config),
        "schedule": row.schedule,
        "active": row.is_active,
        "credentials": credential_names(row),
    }
    if as_json:
        print_json(found)
        return
    settings = [(key, without_secrets(str(value))) for key, value in row.config.items()]
    table(f"{name}: {row.source_type}", ("setting", "value"), settings)
    for key in ("schedule", "active", "credentials"):
        out.print(f"{key}: {found[key]}", markup=False, soft_wrap=True)


def credential_names(row: SourceRow) -> dict[str, str]:
    from resources.credentials import decrypt

    try:
        return dict.fromkeys(decrypt(row.credentials_encrypted), "***")
    except ConfigError:
        return {"(encrypted with a key that is not here)": "***"}


@command
def types(
    name: Annotated[str | None, typer.Argument(help="One type.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the source types, or one type's settings."""
    from resources.sources.registry import SOURCE_TYPES, source_type

    names = [name] if name else list(SOURCE_TYPES)
    explained = {
        kind: {
            "summary": (found := source_type(kind)).summary,
            "credentials": list(found.credentials) if found.credentials is not None else "any",
            "settings": [
                {
                    "name": setting,
                    "required": info.is_required(),
                    "default": None if info.is_required() else info.default,
                    "description": info.description,
                }
                for setting, info in sorted(
                    found.config.model_fields.items(), key=lambda item: not item[1].is_required()
                )
            ],
        }
        for kind in names
    }
    if as_json:
        print_json(explained)
        return
    for kind, about in explained.items():
        rows = [
            (s["name"], "required" if s["required"] else json.dumps(s["default"]), s["description"])
            for s in about["settings"]
        ]
        table(f"{kind}: {about['summary']}", ("setting", "default", "meaning"), rows)
        names_of = about["credentials"]
        shown = names_of if isinstance(names_of, str) else ", ".join(names_of) or "none"
        out.print(f"credentials: {shown}\n")
