"""`rag ingest`: brings sources up to date through Dagster, with a progress bar."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from rag_assets.cli.output import command, out, print_error, print_json, table
from rag_assets.cli.publication import publish_requested, show_publication
from rag_assets.cli.stack import JsonOption
from rag_assets.cli.syncs import Report, Syncs
from rag_assets.deployment import Deployment
from resources.errors import ConfigError


@command
def ingest(
    path: Annotated[
        Path | None,
        typer.Argument(help="A folder, which is registered if new, or the name of a source."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the source (default: the folder's name).")
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Only files that match this glob (new sources only).")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No files that match this glob (new sources only).")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="ISO 639-1 code of all documents (new sources only).")
    ] = None,
    accept_deletions: Annotated[
        bool,
        typer.Option(
            "--accept-deletions", help="Delete the documents that are gone, even if they are many."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a source (or all active ones) up to date: fetch, parse, chunk, embed and index the changes."""
    deployment = Deployment.from_environment()
    deployment.start(dagster=True)
    sources = _sources(deployment, path, name, include or [], exclude or [], language)
    deployment.sync_partitions()
    ops = {"source_documents": {"accept_deletions": True}} if accept_deletions else None
    reports = Syncs(deployment, ops, quiet=as_json).of(sources)
    publication = publish_requested(deployment)
    if as_json:
        shown = [report.as_json() for report in reports]
        if publication:
            shown = [{**report, "publication": publication} for report in shown]
        print_json(shown[0] if len(shown) == 1 else shown)
    else:
        for report in reports:
            _show(report)
        if publication:
            show_publication(publication)
    if any(report.errors for report in reports):
        raise typer.Exit(1)


def _sources(
    deployment: Deployment,
    path: Path | None,
    name: str | None,
    include: list[str],
    exclude: list[str],
    language: str | None,
) -> list[str]:
    from rag_assets.cli.sources import folder_config, register
    from resources.postgres.registry.sources import get_source, list_sources

    if path is not None and name is None and not path.expanduser().exists():
        # Messages suggest `rag ingest NAME`: not a folder, but the name of a source.
        with deployment.postgres().connect(autocommit=True) as connection:
            if str(path) in {source.name for source in list_sources(connection)}:
                return [str(path)]
    if path is None:
        with deployment.postgres().connect(autocommit=True) as connection:
            if name is not None:
                return [get_source(connection, name).name]
            active = [source.name for source in list_sources(connection) if source.is_active]
        if not active:
            raise ConfigError("There is no active source. Ingest a folder with: rag ingest DIR")
        return active
    config = folder_config(path, include, exclude, False, language)
    with deployment.postgres().connect(autocommit=True) as connection:
        sources = {source.name: source for source in list_sources(connection)}
    of_this_folder = [
        s.name
        for s in sources.values()
        if s.source_type == "folder" and s.config.get("path") == config["path"]
    ]
    name = name or (of_this_folder[0] if of_this_folder else default_name(Path(config["path"])))
    if name in sources:
        if name not in of_this_folder:
            raise ConfigError(
                f"Source {name!r} reads {sources[name].config.get('path')}, not {config['path']}. "
                f"Choose another name: rag ingest {path} --name NAME"
            )
        return [name]
    try:
        register(deployment, name, config)
    except ConfigError:
        # A concurrent `rag ingest` of this folder may have registered it.
        with deployment.postgres().connect(autocommit=True) as connection:
            if get_source(connection, name).config != config:
                raise
    return [name]


def default_name(path: Path) -> str:
    """Return a source name made from the folder's name: characters that it cannot contain become hyphens."""
    return re.sub(r"[^\w.\-]+", "-", path.resolve().name).strip("-.")[:100] or "root"


def _show(report: Report) -> None:
    table(
        report.source,
        ("asset", "inserted", "replaced", "deleted", "kept", "failed", "seconds"),
        [(asset, *plan.values(), report.seconds[asset]) for asset, plan in report.plan.items()],
    )
    if report.failed_documents:
        table(
            f"{len(report.failed_documents)} documents could not be read; the others are searchable",
            ("document", "reason"),
            [(item["key"], item["reason"]) for item in report.failed_documents[:20]],
        )
        if len(report.failed_documents) > 20:
            out.print(
                f"… and {len(report.failed_documents) - 20} more: rag ingest --name {report.source} --json"
            )
    for step, message in report.errors:
        print_error(message, f"{step} failed:")
