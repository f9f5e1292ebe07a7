"""`rag repair`: repairs the faults that the checks find, source by source."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rag_assets.cli.exit_codes import ExitCode, run_exit_code
from rag_assets.cli.output import command, out, plural, print_error, print_json, step_errors, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment
from rag_assets.job_runs import failures


@command
def repair(
    source: Annotated[str | None, typer.Option("--source", help="Only this source.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be repaired; change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Repair the faults that the checks find: rows, vectors, files, indexes, aliases, chunks and statuses.

    Exit code 0 if there was no fault or all were repaired (with --dry-run: if there was no fault), else 1; 4 if
    PostgreSQL or Milvus cannot be reached.
    """
    deployment = Deployment.from_environment()
    deployment.start(dagster=True)
    keys = deployment.partitions_of(source)
    reports: list[dict[str, Any]] = []
    errors: list[tuple[str, str]] = []
    results = []
    for key in keys:
        result = deployment.execute("repair_drift", key, {"repair": {"dry_run": dry_run}})
        if result.success:
            reports += result.output_for_node("repair")
        results.append(result)
        errors += failures(result)
    clean = not errors and all(report["clean"] for report in reports)
    if as_json:
        print_json({"clean": clean, "repairs": reports, "errors": step_errors(errors)})
    else:
        _show(reports, errors, dry_run)
    if not clean:
        found = any(not report["clean"] for report in reports)
        raise typer.Exit(ExitCode.FAILED if found else run_exit_code(*results))


def _show(reports: list[dict[str, Any]], errors: list[tuple[str, str]], dry_run: bool) -> None:
    classes = ("missing", "orphaned", "stale", "duplicate")
    rows = [
        (
            report["source"],
            collection,
            drift["verdict"],
            *(drift[name] for name in classes),
            _after(report, collection),
        )
        for report in reports
        for collection, drift in report["found"].items()
    ]
    if rows:
        table(
            "Found" if dry_run else "Repaired",
            ("source", "collection", "found", *classes, "now"),
            rows,
        )
    for report in reports:
        if keys := report["contradicting_documents"]:
            shown = ", ".join(keys[:5]) + (", …" if len(keys) > 5 else "")
            out.print(
                f"{report['source']}: contradictory statuses of {plural(len(keys), 'document')}: {shown}",
                markup=False,
                soft_wrap=True,
            )
        for sentence in report["named"]:
            out.print(f"{report['source']}: {sentence}", markup=False, soft_wrap=True)
    for step, message in errors:
        print_error(message, f"{step} failed:")
    if not rows and not errors:
        out.print("Nothing to repair.")


def _after(report: dict[str, Any], collection: str) -> str:
    if report["dry_run"]:
        return "unchanged (dry run)"
    return report["remaining"].get(collection, report["found"][collection])["verdict"]
