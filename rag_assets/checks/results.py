"""A check's answer: one sentence with numbers, the evidence as a table, and the command that mends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from rag_assets.partitions import source_name

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
    """`warning`: it is not known that anything is wrong, only that it cannot be said that all is right."""
    found = dict(metadata or {})
    if rows:
        found["evidence"] = dg.MetadataValue.table(
            [
                dg.TableRecord({name: str(value) for name, value in zip(columns, row)})
                for row in rows[:EVIDENCE_ROWS]
            ],
            schema=dg.TableSchema([dg.TableColumn(name, "string") for name in columns]),
        )
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
    context: dg.AssetCheckExecutionContext, check: Callable[[str], dg.AssetCheckResult]
) -> dg.AssetCheckResult:
    """The result of `check` for the source of this run.

    Of a run over several (a backfill) Dagster takes one result: it fails where one source does, and says which.
    """
    keys = [context.partition_key] if context.has_partition_key else list(context.partition_keys)
    results = {key: check(source_name(key)) for key in keys}
    if len(results) == 1:
        return results[keys[0]]
    failed = [found for found in results.values() if not found.passed]
    error = dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        passed=not failed,
        description="\n".join(found.description or "" for found in failed or results.values()),
        severity=failed[0].severity if len({found.severity for found in failed}) == 1 else error,
        metadata={
            f"{key}/{name}": value
            for key, found in results.items()
            for name, value in found.metadata.items()
        },
    )
