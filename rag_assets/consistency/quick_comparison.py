"""The quick form of the comparison of PostgreSQL and Milvus: a count, and random rows and key ranges.

Its verdict is "drifted", of rows that a read by key confirmed, or "nothing found"; never "consistent". A count that
differs while no work is under way proves nothing alone: the verdict is "undetermined", and the full form decides.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rag_assets.consistency.comparison import compare_keys, compare_range
from rag_assets.consistency.evidence import (
    COLUMNS,
    drift_evidence,
    drift_key,
    inconsistency_of_drift,
    remedy_of_drift,
)
from rag_assets.consistency.finding import Finding, conclude, not_applicable
from rag_assets.consistency.remediation import age
from rag_assets.pipeline.drift import DRIFT_CLASSES, Drift
from rag_assets.pipeline.vectors import Kind
from resources.milvus.collections import ALIASES
from resources.milvus.rows import row_ids, spans
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from resources.postgres.consistency.check_results import Inconsistency, Outcome, last_results
from resources.postgres.consistency.quick_check import rows_of_collection, sample_claims
from resources.postgres.registry.sources import SourceRow
from resources.postgres.vectors.collections import Collection, collections

#: Rows read by key: enough to detect a fault in one row of a hundred with a probability of 95 %.
SAMPLE_ROWS = 300
#: Key ranges compared like in the full form, and the maximum rows of each: they detect orphans and duplicates.
RANGES, RANGE_ROWS = 4, 300

QuickVerdict = Literal["drifted", "undetermined", "nothing found"]
_OUTCOMES: dict[QuickVerdict, Outcome] = {
    "drifted": "failed",
    "undetermined": "undetermined",
    "nothing found": "passed",
}


@dataclass
class QuickComparison:
    """The drift in a sample of the `claimed` rows of a source.

    `counts`: collection -> (rows that PostgreSQL expects of all sources, rows that Milvus counts), where they differ.
    `uncounted`: collections that were not counted because work is under way. `key`, `rows`: ids and evidence of drift.
    """

    drift: Drift = field(default_factory=Drift)
    claimed: int = 0
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    uncounted: list[str] = field(default_factory=list)
    key: set[str] = field(default_factory=set)
    rows: list[tuple[object, ...]] = field(default_factory=list)

    @property
    def verdict(self) -> QuickVerdict:
        """`drifted` wins over a count mismatch. `undetermined`: two reads, or a count and PostgreSQL, disagree."""
        if self.drift.verdict != "consistent":
            return self.drift.verdict
        return "undetermined" if self.counts else "nothing found"

    @property
    def inconsistency(self) -> Inconsistency | None:
        """Return the kind of fault; more rows than expected are orphans, fewer are missing."""
        if self.counts and self.drift.verdict == "consistent":
            surplus = all(counted > claimed for claimed, counted in self.counts.values())
            return "orphaned_chunks" if surplus else "missing_vectors"
        return inconsistency_of_drift(self.drift)

    def __str__(self) -> str:
        classes = ", ".join(f"{count} {name}" for name, count in self.drift.counts.items())
        text = f"{self.verdict}: {self.drift.checked} of {self.claimed} rows looked at, {classes}"
        if self.drift.contradictions:
            text += f"; {len(self.drift.contradictions)} ids on which reads disagree"
        for name, (claimed, counted) in self.counts.items():
            text += f"; PostgreSQL expects {claimed} rows of all sources in {name}, Milvus counts {counted}"
        if self.uncounted:
            text += f"; not counted while work is under way: {', '.join(self.uncounted)}"
        return text


def compare_sample(
    connection: Connection,
    store: MilvusStore,
    compared: Sequence[Collection],
    source: SourceRow,
    generator: random.Random | None = None,
) -> QuickComparison:
    """Compare a sample of a source's rows in some collections. `connection` must be in autocommit mode."""
    generator, comparison = generator or random.Random(), QuickComparison()
    for collection in compared:
        claimed, drift = _sample_drift(connection, store, collection, source, generator)
        comparison.claimed += claimed
        comparison.drift.add(drift)
        comparison.key |= drift_key(collection, drift)
        comparison.rows += drift_evidence(connection, store, collection, drift)
        if store.has_collection(collection.name):
            _count(connection, store, collection, comparison)
    return comparison


def _sample_drift(
    connection: Connection,
    store: MilvusStore,
    collection: Collection,
    source: SourceRow,
    generator: random.Random,
) -> tuple[int, Drift]:
    """Return the number of rows that PostgreSQL expects of the source, and the drift in a sample of them."""
    claimed, claims = sample_claims(connection, collection, source.id, SAMPLE_ROWS)
    if not store.has_collection(collection.name):
        missing = [row_ids(claim.chunk_id, collection.kind, claim.rows)[0] for claim in claims]
        return claimed, Drift(claimed, missing=missing)
    ranges = spans(math.ceil(claimed / RANGE_ROWS))
    drift = Drift()
    # A single range is compared whole below.
    if len(ranges) > 1:
        # A multi-vector takes hundreds of rows per chunk.
        rows = sum(claim.rows for claim in claims)
        sample = claims[: max(1, SAMPLE_ROWS * len(claims) // rows)]
        drift.add(compare_keys(connection, store, collection, sample))
    for span in generator.sample(ranges, min(RANGES, len(ranges))):
        drift.add(compare_range(connection, store, collection, source, span))
    # A row may be both in the sample and in a range.
    for name in (*DRIFT_CLASSES, "contradictions"):
        setattr(drift, name, sorted(set(getattr(drift, name))))
    drift.checked = min(drift.checked, claimed + len(drift.orphaned))
    return claimed, drift


def _count(
    connection: Connection, store: MilvusStore, collection: Collection, comparison: QuickComparison
) -> None:
    before = rows_of_collection(connection, collection)
    counted = store.count(collection.name)
    after = rows_of_collection(connection, collection)
    if after != before or (after.may_have_others and counted >= after.claimed):
        comparison.uncounted.append(collection.name)
    elif counted != after.claimed:
        comparison.counts[collection.name] = (after.claimed, counted)


def vectors_sample_matches_postgres(
    connection: Connection,
    store: MilvusStore,
    kind: Kind,
    source: SourceRow,
    full_check: str,
    *,
    kept: bool,
) -> Finding:
    """Compare a sample of the source's rows. `full_check`: the check whose quick form this is.

    `kept`: whether the kind is among RAG_VECTORS. If it is not, rows of it may still remain.
    """
    compared = collections(connection, kind=kind)
    if not compared and not kept:
        return not_applicable(f"{kind} is not among RAG_VECTORS, and has no collection.")
    comparison = compare_sample(connection, store, compared, source)
    differences = {
        name: f"{counted - claimed:+}" for name, (claimed, counted) in comparison.counts.items()
    }
    counts = [
        (name, "count", f"{difference} rows", "", "Milvus counts others")
        for name, difference in differences.items()
    ]
    last = _last_full(connection, source.name, full_check)
    drifted = comparison.verdict == "drifted"
    return conclude(
        _OUTCOMES[comparison.verdict],
        f"{source.name} in {ALIASES[kind]}, quick form: {comparison}. Last full comparison {last}.",
        source=source.name,
        remedy=remedy_of_drift(store, compared, comparison.drift) if drifted else "check",
        key=comparison.key | {f"{name} count {number}" for name, number in differences.items()},
        inconsistency=comparison.inconsistency,
        columns=COLUMNS,
        rows=comparison.rows or counts,
        metadata={
            "form": "quick",
            "verdict": comparison.verdict,
            "rows_looked_at": comparison.drift.checked,
            "rows_claimed": comparison.claimed,
            **comparison.drift.counts,
        },
    )


def _last_full(connection: Connection, source: str, check: str) -> str:
    """Return the age and outcome of the last full comparison, in words."""
    for result in last_results(connection, source):
        if (result.check, result.form) == (check, "full"):
            words = {"passed": "consistent", "failed": "not consistent"}
            return f"{age(result.checked_at)} ago: {words.get(result.outcome, result.outcome)}"
    return "never"
