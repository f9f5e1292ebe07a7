"""The quick form of the comparison between PostgreSQL and Milvus: a count, rows by key, and key ranges, at random.

It can say "drifted", of what a read of the key confirmed, or that it found nothing; never "consistent". A count that
differs while no work is under way proves nothing by itself: it is undetermined, and the full form is to tell.
"""

import math
import random
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

import dagster as dg

from rag_assets.checks.results import of_each_source, result
from rag_assets.consistency.comparison import compare_keys, compare_range
from rag_assets.consistency.evidence import COLUMNS, evidence, mend_rows
from rag_assets.consistency.remediation import age
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.drift import DRIFT_CLASSES, Drift
from rag_assets.pipeline.vectors import Kind
from resources.dagster_resources import MilvusResource, PostgresResource
from resources.milvus.collections import ALIASES
from resources.milvus.rows import row_ids, spans
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection
from resources.postgres.consistency.check_results import CheckResult, last_results
from resources.postgres.consistency.quick_check import rows_of_collection, sample_claims
from resources.postgres.registry.sources import SourceRow, get_source
from resources.postgres.vectors.collections import Collection, collections

#: Rows read by key: so many find what spoils one row in a hundred with a probability of 95 %.
SAMPLE_ROWS = 300
#: Key ranges compared as in the full form, each of at most so many rows: what they find is orphans and duplicates.
RANGES, RANGE_ROWS = 4, 300


@dataclass
class QuickLook:
    """What was found, of how many rows that PostgreSQL claims; `uncounted`: collections whose rows were not counted.

    `counts`: collection -> rows that PostgreSQL claims of all sources and rows that Milvus counts, where they differ.
    """

    drift: Drift = field(default_factory=Drift)
    claimed: int = 0
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)
    uncounted: list[str] = field(default_factory=list)
    rows: list[tuple[object, ...]] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """`drifted` outdoes a count, `undetermined` says that reads contradict each other, or a count PostgreSQL."""
        if self.drift.verdict != "consistent":
            return self.drift.verdict
        return "undetermined" if self.counts else "nothing found"

    def __str__(self) -> str:
        classes = ", ".join(f"{count} {name}" for name, count in self.drift.counts.items())
        said = f"{self.verdict}: {self.drift.checked} of {self.claimed} rows looked at, {classes}"
        if self.drift.contradictions:
            said += f"; {len(self.drift.contradictions)} ids on which reads disagree"
        for name, (claimed, counted) in self.counts.items():
            said += f"; PostgreSQL says {claimed} rows of all sources in {name}, Milvus counts {counted}"
        if self.uncounted:
            said += f"; not counted while work is under way: {', '.join(self.uncounted)}"
        return said


def look(
    connection: Connection,
    store: MilvusStore,
    known: Sequence[Collection],
    source: SourceRow,
    chance: random.Random | None = None,
) -> QuickLook:
    """Looks at a source's rows in some collections. `connection` must be in autocommit mode; nothing is changed."""
    chance, found = chance or random.Random(), QuickLook()
    for collection in known:
        drift = _sample(connection, store, collection, source, chance, found)
        found.drift.add(drift)
        found.rows += evidence(connection, store, collection, drift)
        if store.has_collection(collection.name):
            _count(connection, store, collection, found)
    return found


def _sample(
    connection: Connection,
    store: MilvusStore,
    collection: Collection,
    source: SourceRow,
    chance: random.Random,
    found: QuickLook,
) -> Drift:
    claimed, claims = sample_claims(connection, collection, source.id, SAMPLE_ROWS)
    found.claimed += claimed
    if not store.has_collection(collection.name):
        lost = [row_ids(chunk, collection.kind, count)[0] for chunk, _, count, _ in claims]
        return Drift(claimed, missing=lost)
    ranges = spans(math.ceil(claimed / RANGE_ROWS))
    drift = Drift()
    if len(ranges) > 1:  # else one range is all of it
        rows = sum(count for _, _, count, _ in claims)  # a multi-vector takes hundreds a chunk
        sample = claims[: max(1, SAMPLE_ROWS * len(claims) // rows)]
        drift.add(compare_keys(connection, store, collection, sample))
    for span in chance.sample(ranges, min(RANGES, len(ranges))):
        drift.add(compare_range(connection, store, collection, source, span))
    for name in (*DRIFT_CLASSES, "contradictions"):  # a row may be in the sample and in a range
        setattr(drift, name, sorted(set(getattr(drift, name))))
    drift.checked = min(drift.checked, claimed + len(drift.orphaned))
    return drift


def _count(
    connection: Connection, store: MilvusStore, collection: Collection, found: QuickLook
) -> None:
    before = rows_of_collection(connection, collection)
    counted = store.count(collection.name)
    claimed, others = rows_of_collection(connection, collection)
    if (claimed, others) != before or (others and counted >= claimed):
        found.uncounted.append(collection.name)
    elif counted != claimed:
        found.counts[collection.name] = (claimed, counted)


def _sample_matches(kind: Kind) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=f"{kind}_vectors",
        name=f"{kind}_vectors_sample_matches_postgres",
        description="A quick look at a random sample finds no drift. That there is none, only the full form can say.",
        partitions_def=SOURCES,
    )
    def check(
        context: dg.AssetCheckExecutionContext, postgres: PostgresResource, milvus: MilvusResource
    ) -> dg.AssetCheckResult:
        full = f"{kind}_vectors_match_postgres"
        with closing(milvus.open()) as store:
            return of_each_source(
                context,
                postgres,
                lambda connection, name: _result(connection, store, kind, name, full),
                quick_form_of=full,
            )

    return check


def _result(
    connection: Connection, store: MilvusStore, kind: Kind, name: str, full: str
) -> dg.AssetCheckResult:
    source, known = get_source(connection, name), collections(connection, kind=kind)
    found = look(connection, store, known, source)
    last = [r for r in last_results(connection, name) if (r.check, r.form) == (full, "full")]
    drifted = found.verdict == "drifted"
    counts = [
        (collection, "count", f"{counted - claimed:+} rows", "", "Milvus counts others")
        for collection, (claimed, counted) in found.counts.items()
    ]
    return result(
        found.verdict == "nothing found",
        f"{source.name} in {ALIASES[kind]}, quick form: {found}. Last full comparison {_last(last)}.",
        columns=COLUMNS,
        rows=found.rows if found.rows else counts,
        mend=mend_rows(store, known, source) if drifted else f"rag check --source {name}",
        warning=found.verdict == "undetermined",
        metadata={
            "form": "quick",
            "verdict": found.verdict,
            "rows_looked_at": found.drift.checked,
            "rows_claimed": found.claimed,
            **found.drift.counts,
        },
    )


def _last(results: Sequence[CheckResult]) -> str:
    for result_ in results:
        said = {"passed": "consistent", "failed": "not consistent"}.get(
            result_.outcome, result_.outcome
        )
        return f"{age(result_.checked_at)} ago: {said}"
    return "never"


QUICK_CHECKS: list[dg.AssetChecksDefinition] = [
    _sample_matches(kind) for kind in ("dense", "sparse", "multi")
]
