"""A check's answer: one sentence with numbers, the evidence as a table, and the command that mends it.

Each answer is remembered in `check_results`, the one thing that a check writes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from rag_assets.partitions import source_name
from resources.dagster_resources import PostgresResource
from resources.postgres.connection import Connection
from resources.postgres.consistency.check_results import Finding, Form, Outcome, record_findings

#: Rows of evidence in the metadata.
EVIDENCE_ROWS = 100


def result(
    passed: bool,
    description: str,
    *,
    columns: Sequence[str] = (),
    rows: Sequence[Sequence[object]] = (),
    mend: str = "",
    warning: bool = False,
    metadata: dict[str, Any] | None = None,
) -> dg.AssetCheckResult:
    """`warning`: it is not known that anything is wrong, only that it cannot be said that all is right.

    `rows` must be the same while the finding is (no ages, no times): by them a repair that mended nothing is known.
    `mend`: what begins with `rag repair` is repaired by the sensor.
    """
    found = dict(metadata or {})
    if rows:
        found["evidence"] = dg.MetadataValue.table(
            [
                dg.TableRecord({name: str(value) for name, value in zip(columns, row)})
                for row in rows[:EVIDENCE_ROWS]
            ],
            schema=dg.TableSchema([dg.TableColumn(name, "string") for name in columns]),
        )
        if not passed:
            found["found"] = len(rows)
    if not passed and mend:
        found["mend_with"] = mend
    return dg.AssetCheckResult(
        passed=passed,
        description=description,
        severity=dg.AssetCheckSeverity.WARN if warning else dg.AssetCheckSeverity.ERROR,
        metadata=found,
    )


def of_each_source(
    context: dg.AssetCheckExecutionContext,
    postgres: PostgresResource,
    check: Callable[[Connection, str], dg.AssetCheckResult],
    *,
    quick_form_of: str = "",
    remembered: bool = True,
) -> dg.AssetCheckResult:
    """The result of `check` (connection, source) for the source of this run, remembered.

    `quick_form_of`: the check that looks at all of it. Not `remembered`: of what follows from a table alone, and asks
    for neither a repair nor another look.
    Of a run over several (a backfill) Dagster takes one result: it fails where one source does, and says which.
    """
    (spec,) = context.check_specs
    keys = [context.partition_key] if context.has_partition_key else list(context.partition_keys)
    results, started = {}, {}
    with postgres.open().connect(autocommit=True) as connection:
        for name in dict.fromkeys(map(source_name, keys)):
            started[name] = time.monotonic()
            results[name] = check(connection, name)
        if remembered:
            findings = [
                _finding(name, spec, found, quick_form_of, time.monotonic() - started[name])
                for name, found in results.items()
            ]
            record_findings(connection, findings, context.run.run_id)
    if len(results) == 1:
        return next(iter(results.values()))
    failed = [found for found in results.values() if not found.passed]
    error = dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        passed=not failed,
        description="\n".join(found.description or "" for found in failed or results.values()),
        severity=failed[0].severity if len({found.severity for found in failed}) == 1 else error,
        metadata={
            f"{source}/{name}": value
            for source, found in results.items()
            for name, value in found.metadata.items()
        },
    )


def _finding(
    source: str,
    spec: dg.AssetCheckSpec,
    found: dg.AssetCheckResult,
    quick_form_of: str,
    seconds: float,
) -> Finding:
    outcome: Outcome = (
        "passed"
        if found.passed
        else "failed"
        if found.severity == dg.AssetCheckSeverity.ERROR
        else "undetermined"
    )
    form: Form = "quick" if quick_form_of else "full"
    # A quick form draws another sample each time, and reads that contradict each other do so on other rows each time.
    comparable = (form, outcome) in (("full", "failed"), ("quick", "undetermined"))
    mend = found.metadata.get("mend_with")
    return Finding(
        source,
        spec.asset_key.to_user_string(),
        quick_form_of or spec.name,
        form,
        outcome,
        found.description or "",
        str(mend.value) if mend is not None else "",
        _hash_of_evidence(found) if comparable else "",
        seconds,
    )


def _hash_of_evidence(found: dg.AssetCheckResult) -> str:
    table = found.metadata.get("evidence")
    records = table.records if isinstance(table, dg.TableMetadataValue) else []
    lines = sorted(json.dumps(record.data, sort_keys=True) for record in records)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]
