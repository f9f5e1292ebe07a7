"""`rag ingest --dry-run`: what a sync would do to the documents of each source, found by listing it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from rag_assets.cli.output import note, print_error, print_json, table
from rag_assets.deployment import Deployment
from resources.errors import RagError

if TYPE_CHECKING:
    from rag_assets.operations.ingest_targets import IngestTarget
    from resources.postgres.registry.sources import SourceRow


def preview_sources(
    deployment: Deployment,
    targets: Sequence[IngestTarget],
    *,
    accept_deletions: bool,
    as_json: bool,
) -> None:
    """Show the plans. Ends the command with code 1 if a source cannot be listed, or a sync would refuse to delete."""
    from rag_assets.ingestion.preview import preview
    from rag_assets.operations.ingest_messages import nothing_found
    from rag_assets.pipeline.limits import DeletionLimits
    from resources.postgres.registry.sources import list_sources

    settings = deployment.settings
    limits = DeletionLimits(settings.guard_share, settings.guard_documents)
    reports: list[dict[str, Any]] = []
    with deployment.postgres().connect(autocommit=True) as connection:
        rows = {row.name: row for row in list_sources(connection)}
        for target in targets:
            report: dict[str, Any] = {"source": target.name, "is_new": target.is_new}
            row = _row(target, rows)
            try:
                found = preview(connection, row, None if accept_deletions else limits)
                plan = {name: n for name, n in found.plan.as_dict().items() if name != "failed"}
                report |= {"documents": plan, "bytes_to_fetch": found.bytes, "error": None}
                if not any(plan.values()):
                    report["hint"] = nothing_found(row)
                if found.refused:
                    report["error"] = found.refused
            except RagError as error:
                report |= {"documents": None, "bytes_to_fetch": None, "error": str(error)}
            reports.append(report)
    if as_json:
        print_json({"dry_run": True, "sources": reports})
    else:
        _show(reports)
    if any(report["error"] for report in reports):
        raise typer.Exit(1)


def _row(target: IngestTarget, rows: dict[str, SourceRow]) -> SourceRow:
    """Return the source as it would be ingested; one that is not registered yet has no recorded entries."""
    from resources.postgres.registry.sources import SourceRow

    if target.is_new:
        config = target.config or {}
        return SourceRow(uuid.uuid4(), target.kind, target.name, config, None, True)
    row = rows[target.name]
    return row if target.config is None else replace(row, config=target.config)


def _show(reports: Sequence[dict[str, Any]]) -> None:
    listed = [report for report in reports if report["documents"] is not None]
    if listed:
        names = list(listed[0]["documents"])
        table(
            "Documents that a sync would change",
            ("source", *names, "MB to fetch"),
            [
                (
                    report["source"] + (" (new)" if report["is_new"] else ""),
                    *report["documents"].values(),
                    round(report["bytes_to_fetch"] / 1e6, 1),
                )
                for report in listed
            ],
        )
    for report in reports:
        if "hint" in report:
            note(report["hint"])
        if report["error"]:
            print_error(report["error"], f"{report['source']}:")
    note(
        "Nothing was written. A document counts as replaced if its size, time or version changed; "
        "only a changed text is embedded again."
    )
