"""`rag sources list | show | types`: the registered sources and the source types. Changes nothing, shows no secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from rag_assets.cli.output import (
    command,
    facts,
    is_verbose,
    out,
    print_json,
    table,
)
from rag_assets.cli.sources import NameArgument
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from resources.errors import ConfigError
from resources.urls import without_secrets

if TYPE_CHECKING:
    from resources.postgres.registry.sources import SourceOverview, SourceRow

#: Width of a terminal that has room for the end of each source's address, and of that end.
WIDE, END = 115, 40


def reads(config: Any) -> str:
    """Return the path or URLs that a source reads, without secrets."""
    value = next((config[n] for n in ("path", "sitemap", "url", "urls") if config.get(n)), "")
    return without_secrets(value if isinstance(value, str) else ", ".join(map(str, value))[:200])


@command
def list_(as_json: JsonOption = False) -> None:
    """List the sources with their last sync; with -v also their schedules and addresses."""
    from resources.postgres.registry.sources import list_overviews

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        sources = list_overviews(connection)
    if as_json:
        print_json({"sources": [source._asdict() for source in sources]})
    elif sources:
        _show(sources)
    else:
        out.print("No sources. Register one with: rag sources add NAME DIR")


def _show(sources: list[SourceOverview]) -> None:
    columns = {
        "name": [source.name for source in sources],
        "type": [source.source_type for source in sources],
        "status": [
            source.sync_status if source.is_active else f"{source.sync_status}, paused"
            for source in sources
        ],
        "last sync": [source.last_sync_at for source in sources],
        "documents": [source.total_documents for source in sources],
        "failed": [source.failed_documents for source in sources],
    }
    if any(source.account for source in sources):
        columns["account"] = [source.account for source in sources]
    if is_verbose():
        columns["schedule"] = [source.schedule for source in sources]
        columns["reads"] = [reads(source.config) for source in sources]
    elif out.width >= WIDE:
        columns["reads"] = [_end(reads(source.config)) for source in sources]
    table("", list(columns), list(zip(*columns.values())))
    for source in sources:
        if source.last_error:
            error = Text.assemble((f"{source.name}: ", "bold red"), source.last_error)
            out.print(error, soft_wrap=True)


def _end(text: str) -> str:
    return text if len(text) <= END else f"…{text[1 - END :]}"


@command
def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show the settings of a source, and the names of its credentials."""
    from resources.postgres.registry.sources import get_source

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().connect(autocommit=True) as connection:
        row = get_source(connection, name)
    shown = {
        "name": row.name,
        "type": row.source_type,
        "account": row.account,
        "config": dict(row.config),
        "schedule": row.schedule,
        "active": row.is_active,
        "credentials": credential_names(row),
    }
    if as_json:
        print_json(shown)
        return
    facts(
        f"{name}: {row.source_type}",
        [
            *((key, _without_secrets(value)) for key, value in row.config.items()),
            ("account", row.account),
            ("schedule", row.schedule or "the common one, RAG_SYNC_SCHEDULE"),
            ("active", row.is_active),
            ("credentials", list(shown["credentials"]) or "none"),
        ],
    )


def _without_secrets(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return without_secrets(value) if isinstance(value, str) else value


def credential_names(row: SourceRow) -> dict[str, str]:
    from resources.credentials import decrypt

    try:
        return dict.fromkeys(decrypt(row.credentials_encrypted), "***")
    except ConfigError:
        return {"(encrypted with an unknown key)": "***"}


@command
def types(
    name: Annotated[str | None, typer.Argument(help="One type.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the source types, or one type's settings."""
    from resources.sources.registry import SOURCE_TYPES, source_type

    names = [name] if name else list(SOURCE_TYPES)
    descriptions = {
        name: {
            "summary": (kind := source_type(name)).summary,
            "credentials": list(kind.credentials) if kind.credentials is not None else "any",
            "settings": [
                {
                    "name": setting,
                    "required": info.is_required(),
                    "default": None if info.is_required() else info.default,
                    "description": info.description,
                }
                for setting, info in sorted(
                    kind.config.model_fields.items(), key=lambda item: not item[1].is_required()
                )
            ],
        }
        for name in names
    }
    if as_json:
        print_json({"types": descriptions})
        return
    for kind_name, about in descriptions.items():
        rows = [
            (s["name"], "required" if s["required"] else json.dumps(s["default"]), s["description"])
            for s in about["settings"]
        ]
        table(f"{kind_name}: {about['summary']}", ("setting", "default", "meaning"), rows)
        names_of = about["credentials"]
        shown = names_of if isinstance(names_of, str) else ", ".join(names_of) or "none"
        out.print(f"credentials: {shown}\n")
