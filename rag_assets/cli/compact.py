"""`rag compact`: merges small and mostly dead embedding files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rag_assets.cli.exit_codes import ExitCode, run_exit_code
from rag_assets.cli.output import command, out, plural, print_error, print_json, step_errors
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from rag_assets.job_runs import failures

if TYPE_CHECKING:
    import dagster as dg


@command
def compact(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done; change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy the live embeddings of small and mostly dead Parquet files into files of 64 MiB, without a model call.

    Syncs and searches continue. Replaced files are deleted a day later. Also runs automatically every week.
    """
    deployment = Deployment.from_environment()
    deployment.start(dagster=not dry_run)
    errors: Sequence[tuple[str, str]] = ()
    code = ExitCode.FAILED
    if dry_run:
        from rag_assets.ingestion import compaction

        stores, log = (deployment.postgres(), deployment.files()), logging.getLogger(__name__)
        report = compaction.compact(*stores, log, dry_run=True).as_dict()
    else:
        result = deployment.execute("compact_embeddings")
        errors = failures(result)
        code, report = run_exit_code(result), _report(result)
    if as_json:
        print_json({**report, "errors": step_errors(errors)})
    elif report:
        _show(report)
    for _, message in errors if not as_json else ():
        print_error(message)
    if errors:
        raise typer.Exit(code)


def _report(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    for event in result.all_events:
        if event.is_step_materialization:
            metadata = event.step_materialization_data.materialization.metadata
            return {name: entry.value for name, entry in metadata.items()}
    return {}


def _show(report: dict[str, Any]) -> None:
    if not report["files_compacted"]:
        out.print(f"Nothing to compact: {plural(report['files_before'], 'file')}.")
        return
    verb = "Would be compacted" if report["dry_run"] else "Compacted"
    out.print(
        f"{verb}: {plural(report['files_compacted'], 'file')} into {report['files_written']}; "
        f"{plural(report['files_before'], 'file')} before, {report['files_after']} after; "
        f"{report['bytes_before'] / 1e6:.1f} MB before, {report['bytes_after'] / 1e6:.1f} MB after."
    )
    dropped = plural(report["texts_dropped"], "embedding")
    out.print(f"{dropped} dropped: no chunk used them within a month.")
    if report["bytes_waiting"]:
        out.print(
            f"To be deleted, a day after their replacement: {plural(report['files_waiting'], 'file')}, "
            f"{report['bytes_waiting'] / 1e6:.1f} MB."
        )
