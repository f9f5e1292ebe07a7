"""`rag repair`: mends what the checks find, source by source."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rag_assets.cli.output import command, err, out, print_json, table
from rag_assets.cli.stack import JsonOption
from rag_assets.deployment import Deployment, failures


@command
def repair(
    source: Annotated[str | None, typer.Option("--source", help="Only this source.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be mended; change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Mend what the checks find: rows, vectors, files, indexes, aliases, chunks and statuses.

    Exit code 0 when nothing is wrong or all of it was mended (a dry run: when nothing is wrong), else 1.
    """
    deployment = Deployment.from_environment()
    deployment.start(dagster=True)
    keys = deployment.partitions_of(source)
    reports: list[dict[str, Any]] = []
    errors: list[tuple[str, str]] = []
    for key in keys:
        result = deployment.execute("repair_drift", key, {"repair": {"dry_run": dry_run}})
        if result.success:
            reports += result.output_for_node("repair")
        errors += failures(result)
    clean = not errors and all(report["clean"] for report in reports)
    if as_json:
        print_json(
            {"clean": clean, "repairs": reports, "errors": [list(error) for error in errors]}
        )
    else:
        _show(reports, errors, dry_run)
    if not clean:
        raise typer.Exit(1)


def _show(reports: list[dict[str, Any]], errors: list[tuple[str, str]], dry_run: bool) -> None:
    classes = ("missing", "orphaned", "stale", "duplicate")
    rows = [
        (
            report["source"],
            collection,
            found["verdict"],
            *(found[name] for name in classes),
            _after(report, collection),
        )
        for report in reports
        for collection, found in report["found"].items()
    ]
    if rows:
        table(
            "Found" if dry_run else "Repaired",
            ("source", "collection", "found", *classes, "now"),
            rows,
        )
    for report in reports:
        if keys := report["contradicting_documents"]:
            named = ", ".join(keys[:5])
            out.print(
                f"{report['source']}: statuses contradict each other in {len(keys)} documents: {named}"
            )
        for sentence in report["named"]:
            out.print(f"{report['source']}: {sentence}", markup=False, soft_wrap=True)
    for step, message in errors:
        err.print(f"[bold red]{step} failed:[/] ", end="")
        err.print(message, markup=False, soft_wrap=True)
    if not rows and not errors:
        out.print("There is nothing to repair.")


def _after(report: dict[str, Any], collection: str) -> str:
    if report["dry_run"]:
        return "unchanged (dry run)"
    return report["remaining"].get(collection, report["found"][collection])["verdict"]
