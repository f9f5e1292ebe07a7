"""`rag sources add | list | remove`: what is ingested."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rag_assets.cli.output import command, out, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from resources.errors import ConfigError

app = typer.Typer(help="Register, list and remove sources.", no_args_is_help=True)


def folder_config(
    path: Path, include: list[str], exclude: list[str], hidden: bool, language: str | None
) -> dict[str, Any]:
    """The `connection_config` of a folder. Raises ConfigError that lists every problem."""
    from resources.sources.registry import check_config

    config: dict[str, Any] = {"path": str(path.expanduser().absolute())}
    if include:
        config["include"] = include
    if exclude:
        config["exclude"] = exclude
    if hidden:
        config["hidden"] = True
    if language:
        config["language"] = language
    check_config("folder", config)
    if not path.expanduser().is_dir():
        raise ConfigError(f"{path} is not a folder.")
    return config


def register(
    deployment: Deployment, name: str, config: dict[str, Any], schedule: str | None = None
) -> None:
    """Adds a folder source and its partition."""
    from rag_assets.partitions import partition_key
    from resources.postgres.sources import add_source

    partition_key(name)
    if schedule is not None:
        from dagster._utils.schedules import is_valid_cron_schedule

        if not is_valid_cron_schedule(schedule):
            raise ConfigError(
                f"--schedule: expected a cron expression such as '0 2 * * *', found {schedule!r}."
            )
    with deployment.postgres().connect(autocommit=True) as connection:
        add_source(connection, name, "folder", config, schedule)


@app.command()
@command
def add(
    name: Annotated[str, typer.Argument(help="Name of the source; its partition in Dagster.")],
    path: Annotated[Path, typer.Option(help="Folder to read.")],
    include: Annotated[
        list[str] | None, typer.Option(help="Only files that match this glob (repeatable).")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No files that match this glob (repeatable).")
    ] = None,
    hidden: Annotated[bool, typer.Option("--hidden", help="Hidden files and folders too.")] = False,
    language: Annotated[
        str | None, typer.Option(help="ISO 639-1 code of all documents; else detected.")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Cron expression of this source's own sync.")
    ] = None,
) -> None:
    """Register a folder as a source."""
    config = folder_config(path, include or [], exclude or [], hidden, language)
    deployment = Deployment.from_environment()
    deployment.start()
    register(deployment, name, config, schedule)
    out.print(f"Source {name} is registered. Ingest it with: rag ingest --name {name}")


@app.command("list")
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
        table(
            "Sources",
            (
                "name",
                "reads",
                "schedule",
                "active",
                "status",
                "last sync",
                "documents",
                "failed",
                "last error",
            ),
            [
                (
                    row[0],
                    row[2].get("path"),
                    row[3],
                    row[4],
                    row[5],
                    f"{row[6]:%Y-%m-%d %H:%M}" if row[6] else None,
                    *row[7:],
                )
                for row in rows
            ],
        )
    else:
        out.print("No sources. Register one with: rag sources add NAME --path DIR")


@app.command()
@command
def remove(name: Annotated[str, typer.Argument(help="Name of the source.")]) -> None:
    """Remove a source with its documents and chunks, and its vectors from Milvus."""
    from rag_assets.deployment import failures
    from resources.errors import StoreUnavailable
    from resources.postgres.sources import remove_source

    deployment = Deployment.from_environment()
    deployment.start()
    with deployment.postgres().writer(name) as writer, writer.transaction() as connection:
        remove_source(connection, name)
    deployment.sync_partitions()
    result = deployment.execute("purge_removed_sources")
    if not result.success:
        reasons = "; ".join(message for _, message in failures(result))
        raise StoreUnavailable(
            f"Source {name} is removed, but its vectors still wait for their deletion: {reasons}. "
            "They are not found any more; the next run of purge_removed_sources deletes them."
        )
    out.print(f"Source {name} is removed: documents, chunks and vectors.")
