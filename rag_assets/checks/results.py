"""Dagster's result of a check, made from findings. Each finding is also stored in table `check_results`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from rag_assets.assets.failures import StepError, errors_as_failures, leave_out
from rag_assets.assets.run_partitions import partitions_of_run, source_of
from rag_assets.consistency.finding import EVIDENCE_ROWS, Finding, not_applicable
from rag_assets.dagster_internals import syncs
from resources.dagster_resources import PostgresResource
from resources.errors import RagError, SourceRemoved
from resources.partition_keys import source_name
from resources.postgres.connection import Connection
from resources.postgres.consistency.check_results import CheckRecord, Form, record_results


def check_result(finding: Finding, seconds: float | None = None) -> dg.AssetCheckResult:
    """Return the finding as Dagster shows it, which charts numbers. The evidence is cut here, and only for the UI.

    `seconds`: the time that the check took.
    """
    metadata: dict[str, Any] = {**finding.metadata, "outcome": finding.outcome}
    if seconds is not None:
        metadata["seconds"] = round(seconds, 3)
    if finding.rows:
        metadata["evidence"] = dg.MetadataValue.table(
            [
                dg.TableRecord({name: str(value) for name, value in zip(finding.columns, row)})
                for row in finding.rows[:EVIDENCE_ROWS]
            ],
            schema=dg.TableSchema([dg.TableColumn(name, "string") for name in finding.columns]),
        )
    if finding.applicable:
        metadata["found"] = len(finding.key)
    else:
        metadata["applicable"] = False
    if not finding.passed:
        metadata |= {
            "remedy": finding.remedy,
            "command": finding.command,
        }
        if finding.inconsistency:
            metadata["inconsistency"] = finding.inconsistency
    undetermined = finding.outcome == "undetermined"
    return dg.AssetCheckResult(
        passed=finding.passed,
        description=finding.sentence,
        severity=dg.AssetCheckSeverity.WARN if undetermined else dg.AssetCheckSeverity.ERROR,
        metadata=metadata,
    )


def check_each_source(
    context: dg.AssetCheckExecutionContext,
    postgres: PostgresResource,
    check: Callable[[Connection, str], Finding],
    *,
    quick_form_of: str = "",
    stored: bool = True,
) -> dg.AssetCheckResult:
    """Check (connection, source) for each source of this run, and store the findings.

    `quick_form_of`: the check that examines all rows. `stored=False`: findings that follow from a table alone and never
    request a repair or another check.
    """
    (spec,) = context.check_specs
    asset, form = spec.asset_key.to_user_string(), "quick" if quick_form_of else "full"
    findings: dict[str, Finding] = {}
    started: dict[str, float] = {}
    seconds: dict[str, float] = {}
    removed: set[str] = set()
    database = postgres.open()
    with errors_as_failures(context), database.connect(autocommit=True) as connection:
        keys = partitions_of_run(context, database)
        sources = dict.fromkeys(map(source_name, keys))
        for source in sources:
            started[source] = time.monotonic()
            try:
                source_of(connection, source)
                findings[source] = check(connection, source)
            except SourceRemoved as error:
                if len(sources) == 1:
                    raise
                findings[source] = not_applicable(str(error))
                removed.add(source)
            seconds[source] = time.monotonic() - started[source]
        if stored:
            records = [
                _record(finding, source, asset, quick_form_of or spec.name, form, started[source])
                for source, finding in findings.items()
                if source not in removed
            ]
            record_results(connection, records, context.run.run_id)
    failed = [source for source, finding in findings.items() if not finding.passed]
    result = _combined(findings, seconds)
    if not spec.blocking or not 0 < len(failed) < len(findings) or not syncs(context):
        return result
    # In a sync of several sources, the check blocks those that fail, and not the others.
    leave_out(
        context,
        [
            StepError(key, asset, RagError(findings[source_name(key)].sentence))
            for key in keys
            if source_name(key) in failed
        ],
    )
    return result._replace(severity=dg.AssetCheckSeverity.WARN)


def _record(
    finding: Finding, source: str, asset: str, check: str, form: Form, started: float
) -> CheckRecord:
    return CheckRecord(
        source,
        asset,
        check,
        form,
        finding.outcome,
        finding.sentence,
        finding.remedy,
        finding.command,
        finding.inconsistency,
        finding.digest(form),
        # Not the duration of the check: the checks of other sources of this run came after it.
        time.monotonic() - started,
    )


def _combined(findings: Mapping[str, Finding], seconds: Mapping[str, float]) -> dg.AssetCheckResult:
    """Return one result for source -> finding: Dagster takes one per run. It fails if one source fails."""
    results = {
        source: check_result(finding, seconds[source]) for source, finding in findings.items()
    }
    if len(results) == 1:
        return next(iter(results.values()))
    outcomes = {finding.outcome for finding in findings.values()}
    undetermined = "undetermined" in outcomes and "failed" not in outcomes
    open_ones = [finding for finding in findings.values() if not finding.passed]
    metadata: dict[str, Any] = {
        "sources": len(findings),
        "found": sum(len(finding.key) for finding in findings.values()),
        "seconds": round(sum(seconds.values()), 3),
    }
    if not any(finding.applicable for finding in findings.values()):
        metadata["applicable"] = False
    for source, result in results.items():
        metadata |= {f"{source}/{name}": value for name, value in result.metadata.items()}
    return dg.AssetCheckResult(
        passed=not open_ones,
        description="\n".join(finding.sentence for finding in open_ones or findings.values()),
        severity=dg.AssetCheckSeverity.WARN if undetermined else dg.AssetCheckSeverity.ERROR,
        metadata=metadata,
    )
