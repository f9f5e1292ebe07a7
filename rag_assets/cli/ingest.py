"""`rag ingest`: brings sources up to date through Dagster, with a progress bar. `preview.py` has its `--dry-run`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from rag_assets.cli.output import (
    command,
    is_quiet,
    note,
    out,
    plural,
    print_error,
    print_json,
    remark,
    table,
)
from rag_assets.cli.preview import preview_sources
from rag_assets.cli.publication import publish_requested, show_publication
from rag_assets.cli.stack import JsonOption
from rag_assets.cli.syncs import Report, Syncs, common_exit_code
from rag_assets.cli.up_to_date import reports_of_up_to_date
from rag_assets.deployment import Deployment
from resources.errors import ConfigError
from resources.extras import require_extra

if TYPE_CHECKING:
    from rag_assets.operations.ingest_targets import IngestTarget, NewSourceOptions
    from resources.postgres.registry.sources import SourceRow

#: Failed documents shown in a table; --json has all.
_MAX_SHOWN = 20


@command
def ingest(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET",
            help="Folders, files, or names of sources; default: all active sources.",
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source", help="Name of a source (repeatable); needed if a folder has the same name."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the new source (default: the folder's name).")
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
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Also try the texts again that could not be embedded, such as after a change of the server.",
        ),
    ] = False,
    accept_model: Annotated[
        bool,
        typer.Option(
            "--accept-model",
            help="Write vectors of another model behind the same name beside the stored ones.",
        ),
    ] = False,
    accept_replacements: Annotated[
        bool,
        typer.Option(
            "--accept-replacements",
            help="Replace documents even if many of them turned into one and the same content.",
        ),
    ] = False,
    reread: Annotated[
        bool,
        typer.Option(
            "--reread",
            help="Read every document again, even if its size, times or version are equal.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show how many documents are new, changed or gone. Fetches, embeds and writes nothing.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring sources up to date: fetch, parse, chunk, embed and index the changes.

    A folder is registered as a source if no source reads it. A file belongs to the source that reads its folder; if
    there is none, a source is registered that reads only the named files of that folder. A .jsonl, .csv or .parquet
    file becomes a source whose rows are documents.

    A source that fails does not stop the others; the exit code is then 1, or 4 if only stores could not be reached.

    Examples: rag ingest; rag ingest docs/ wiki; rag ingest guides/reset.md; rag ingest --dry-run docs/
    """
    from rag_assets.operations.ingest_targets import NewSourceOptions
    from rag_assets.pipeline.plain_text import nfc

    if dry_run and reread:
        raise ConfigError("--dry-run reads no document, and --reread reads all: use one of them.")
    name = nfc(name) if name else None
    options = NewSourceOptions(name, include or (), exclude or (), language)
    chosen = {
        "accept_deletions": accept_deletions,
        "accept_replacements": accept_replacements,
        "reread": reread,
    }
    ops = {"source_documents": chosen} if any(chosen.values()) else None
    deployment = Deployment.from_environment()
    if not dry_run:
        require_extra("ingest", "A command that runs a Dagster job")
    must_sync = bool(ops) or retry_failed or accept_model
    # While servers start, there is time to import Dagster.
    import_now = must_sync or not {"postgres", "milvus"} <= deployment.endpoints().keys()
    deployment.start(dagster=import_now and not dry_run, indexes=True)
    resolved = _resolve(deployment, targets or [], source or [], options)
    for target in resolved:
        if target.remark:
            remark(target.remark)
    if dry_run:
        preview_sources(deployment, resolved, accept_deletions=accept_deletions, as_json=as_json)
        return
    # Before anything is fetched: a model that cannot be loaded would fail each source at its fourth stage.
    _ = deployment.embedder
    names = [target.name for target in resolved]
    known = [] if must_sync else [target.name for target in resolved if target.config is None]
    done = reports_of_up_to_date(deployment, known) if known else {}
    syncs, publication = Syncs(deployment, ops, quiet=as_json), None
    if others := [name for name in names if name not in done]:
        deployment.start(dagster=True, indexes=True)
        for target in resolved:
            if target.config is not None:
                _register(deployment, target)
        deployment.sync_partitions()
        if retry_failed:
            _retry_failed(deployment, names)
        if accept_model:
            _accept_model(deployment)
        done |= {report.source: report for report in syncs.of(others)}
        publication = publish_requested(deployment)
    reports = [done[name] for name in names]
    if as_json:
        sources = [report.as_json() for report in reports]
        print_json({"sources": sources, "publication": publication})
    else:
        for report in reports:
            _show(report)
        for line in syncs.durations:
            remark(line)
        if publication:
            show_publication(publication)
    if failed := [report for report in reports if report.errors]:
        raise typer.Exit(common_exit_code(failed))


def _resolve(
    deployment: Deployment, targets: list[str], names: list[str], options: NewSourceOptions
) -> list[IngestTarget]:
    from rag_assets.operations.ingest_targets import IngestTarget, resolve_targets
    from resources.postgres.registry.sources import get_source, list_sources

    if options.name is not None and not targets:
        # `--name` once named a registered source too.
        names = [*names, options.name]
    with deployment.postgres().connect(autocommit=True) as connection:
        rows = list_sources(connection)
        chosen = [IngestTarget(get_source(connection, name).name) for name in names]
    if not targets and not names:
        chosen = [IngestTarget(row.name) for row in rows if row.is_active]
        if not chosen:
            raise ConfigError(_nothing_to_ingest(rows))
    if options.config() and (names or not targets):
        given = ", ".join(f"--{option}" for option in options.config())
        raise ConfigError(
            f"{given}: only for new sources. Change a registered one with: rag sources change NAME"
        )
    chosen += resolve_targets(targets, rows, options)
    return list({target.name: target for target in chosen}.values())


def _nothing_to_ingest(rows: list[SourceRow]) -> str:
    if rows:
        return (
            f"{plural(len(rows), 'source')} but no active one. Ingest one by its name: rag ingest {rows[0].name}; "
            f"or activate it: rag sources change {rows[0].name} --active"
        )
    return "There is no source yet. Ingest a folder with: rag ingest DIR"


def _register(deployment: Deployment, target: IngestTarget) -> None:
    """Register a new source, or write the changed settings of a registered one."""
    from dataclasses import replace

    from rag_assets.cli.sources import register
    from resources.postgres.registry.sources import get_source, list_sources, update_source

    config = dict(target.config or {})
    with deployment.postgres().connect(autocommit=True) as connection:
        if not target.is_new:
            update_source(connection, replace(get_source(connection, target.name), config=config))
            return
        try:
            register(deployment, target.name, config, kind=target.kind)
        except ConfigError:
            # A concurrent `rag ingest` of this folder may have registered it.
            if not any(
                row.name == target.name and row.config == config for row in list_sources(connection)
            ):
                raise


def _retry_failed(deployment: Deployment, names: list[str]) -> None:
    from resources.postgres.registry.sources import get_source
    from resources.postgres.vectors.rejections import forget_rejections

    with deployment.postgres().connect(autocommit=True) as connection:
        forget_rejections(connection, [get_source(connection, name).id for name in names])


def _accept_model(deployment: Deployment) -> None:
    from rag_assets.consistency.model_identity import accept_model

    with deployment.postgres().connect(autocommit=True) as connection:
        accept_model(connection, deployment.model_target)


def _show(report: Report) -> None:
    if report.is_idle:
        count = report.plan["source_documents"]["kept"]
        note(
            f"{report.source}: nothing to do, {count:,} {'document' if count == 1 else 'documents'}"
        )
    elif report.plan and not is_quiet():
        table(
            report.source,
            ("asset", "inserted", "replaced", "deleted", "kept", "failed", "seconds"),
            [(asset, *plan.values(), report.seconds[asset]) for asset, plan in report.plan.items()],
        )
    if report.hint:
        note(report.hint)
    if report.left_count:
        names = ", ".join(report.left) + (", …" if report.left_count > len(report.left) else "")
        out.print(
            f"{plural(report.left_count, 'document')} of {report.source} left for the next sync, as their content is "
            f"being written: {names}",
            markup=False,
            soft_wrap=True,
        )
    if report.not_deleted:
        out.print(f"{report.source}: {report.not_deleted}", markup=False, soft_wrap=True)
    _show_failed(report, "read", "could not be read; the others are searchable")
    retry = f"rag ingest --source {shlex.quote(report.source)} --retry-failed"
    _show_failed(
        report,
        "embed",
        "could not be embedded, wholly or in part; the rest is searchable. A text is tried again when it, its chunks "
        f"or the model change, and by: {retry}",
    )
    if report.left_out_count:
        table(
            f"{plural(report.left_out_count, 'document')} of {report.source} read without these parts; "
            "rag explain shows them for each document",
            ("document", "left out"),
            [(item["key"], item["parts"]) for item in report.left_out[:_MAX_SHOWN]],
        )
    for step, message in report.errors:
        print_error(message, f"{step} failed:")


def _show_failed(report: Report, step: str, sentence: str) -> None:
    """Show the documents that failed in a step: they could not be read, or not be embedded."""
    failed = [item for item in report.failed_documents if item["step"] == step]
    if not failed:
        return
    table(
        f"{plural(len(failed), 'document')} of {report.source} {sentence}",
        ("document", "reason"),
        [(item["key"], item["reason"]) for item in failed[:_MAX_SHOWN]],
    )
    if len(failed) > _MAX_SHOWN:
        out.print(
            f"… and {len(failed) - _MAX_SHOWN} more: rag ingest {report.source} --json",
            markup=False,
        )
