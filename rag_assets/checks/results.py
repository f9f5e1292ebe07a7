"""A check's answer: one sentence with numbers, the evidence as a table, and the command that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

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
