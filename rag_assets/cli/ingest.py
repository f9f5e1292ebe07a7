"""`rag ingest`: brings sources up to date, through Dagster, with a progress bar."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from rag_assets.cli.output import command, err, out, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.cli.syncs import Report, Syncs
from rag_assets.deployment import Deployment
from resources.errors import ConfigError


@command
def ingest(
    path: Annotated[
        Path | None,
        typer.Argument(help="Folder to register, if new, and ingest; or the name of a source."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the source (default: the folder's name).")
    ] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Only files that match this glob (new sources).")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No files that match this glob (new sources).")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="ISO 639-1 code of all documents (new sources).")
    ] = None,
    accept_deletions: Annotated[
        bool,
        typer.Option("--accept-deletions", help="Delete what is gone, however much it is."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a source (or all active ones) up to date: fetch, parse, chunk, embed, index what changed."""
    deployment = Deployment.from_environment()
    deployment.start(dagster=True)
    sources = _sources(deployment, path, name, include or [], exclude or [], language)
    deployment.sync_partitions()
    ops = {"source_documents": {"accept_deletions": True}} if accept_deletions else None
    reports = Syncs(deployment, ops, quiet=as_json).of(sources)
    if as_json:
        print_json(
            reports[0].as_json() if len(reports) == 1 else [report.as_json() for report in reports]
        )
    else:
        for report in reports:
            _show(report)
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
        # Not a folder: the name of a source, as messages suggest it.
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
        known = {source.name: source for source in list_sources(connection)}
    same = [
        s.name
        for s in known.values()
        if s.source_type == "folder" and s.config.get("path") == config["path"]
    ]
    wanted = name or (same[0] if same else default_name(Path(config["path"])))
    if wanted in known:
        if wanted not in same:
            raise ConfigError(
                f"Source {wanted!r} reads {known[wanted].config.get('path')}, not {config['path']}. "
                f"Choose another name: rag ingest {path} --name NAME"
            )
        return [wanted]
    try:
        register(deployment, wanted, config)
    except ConfigError:
        # Another `rag ingest` of this folder may have registered it since.
        with deployment.postgres().connect(autocommit=True) as connection:
            if get_source(connection, wanted).config != config:
                raise
    return [wanted]


def default_name(path: Path) -> str:
    """A source name made of the folder's: what cannot stand in one becomes a hyphen."""
    return re.sub(r"[^\w.\-]+", "-", path.resolve().name).strip("-.")[:100] or "root"


def _show(report: Report) -> None:
    table(
        report.source,
        ("asset", "inserted", "replaced", "deleted", "kept", "failed", "seconds"),
        [(asset, *plan.values(), report.seconds[asset]) for asset, plan in report.plan.items()],
    )
    if report.failed_documents:
        table(
            f"{len(report.failed_documents)} documents could not be read; the rest is searchable",
            ("document", "reason"),
            [(item["key"], item["reason"]) for item in report.failed_documents[:20]],
        )
        if len(report.failed_documents) > 20:
            out.print(
                f"… and {len(report.failed_documents) - 20} more: rag ingest --name {report.source} --json"
            )
    for step, message in report.errors:
        err.print(f"[bold red]{step} failed:[/] ", end="")
        err.print(message, markup=False, soft_wrap=True)
