"""A server that misreads, as real ones have done: no wrong `missing` is repaired, nothing is wrongly called consistent.

Tries RAG_MISREADS (default 60) random mixes of misreads and real drift, on Milvus Lite behind a client that misreads.
"""

from __future__ import annotations

import logging
import os
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymilvus.exceptions import MilvusException

from rag_assets.consistency.comparison import compare_collection
from rag_assets.ingestion.stage import Stage
from rag_assets.operations.repair import repair_rows
from rag_assets.pipeline.drift import Drift
from resources.errors import StoreUnavailable
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection, Postgres
from tests.support.milvus_rows import foreign
from tests.support.vector_index import CHUNKS, DOCUMENTS, Index

MIXES = int(os.environ.get("RAG_MISREADS", "60"))
#: The share of rows that query_iterator of milvus-lite dropped up to 3.2.0.
DROPPED = 0.16


@dataclass
class Misreads:
    """The client's faults. `dropped`: the share of rows that scans lose; `same`: every scan loses the same ones."""

    dropped: float = 0.0
    same: bool = False
    hidden: set[str] = field(default_factory=set)
    repeated: int = 0
    instead: bool = False
    counted_twice: int = 0
    late_gets: set[int] = field(default_factory=set)
    seed: int = 0

    def __bool__(self) -> bool:
        return bool(
            self.dropped or self.hidden or self.repeated or self.counted_twice or self.late_gets
        )


class MisreadingClient:
    """A client whose scans drop and repeat rows, whose counts are too high or outdated, and whose gets time out.

    A query for keys (`copies`) is a scan too. Its writes work.
    """

    def __init__(self, client: Any, misreads: Misreads) -> None:
        self.client, self.misreads = client, misreads
        self.random, self.gets = random.Random(misreads.seed), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def get_collection_stats(self, *arguments: Any, **options: Any) -> dict[str, int]:
        # An outdated estimate.
        return {"row_count": 0}

    def get(self, *arguments: Any, **options: Any) -> Any:
        self.gets += 1
        if self.gets in self.misreads.late_gets:
            raise MilvusException(message="deadline exceeded")
        return self.client.get(*arguments, **options)

    def query(self, *arguments: Any, **options: Any) -> Any:
        rows = list(self.client.query(*arguments, **options))
        if options["output_fields"] == ["count(*)"]:
            return [{"count(*)": rows[0]["count(*)"] + self.misreads.counted_twice}]
        chance = random.Random(self.misreads.seed) if self.misreads.same else self.random
        shown = [
            row
            for row in sorted(rows, key=lambda row: row["id"])
            if chance.random() >= self.misreads.dropped and row["id"] not in self.misreads.hidden
        ]
        for _ in range(self.misreads.repeated if shown else 0):
            again = chance.choice(shown)
            # Keep the expected number of rows.
            if self.misreads.instead:
                shown.pop(chance.randrange(len(shown)))
            shown.append(again)
        return shown


@dataclass
class Bench:
    """An index of 24 rows, the writer of its source, and stores whose client misreads."""

    index: Index
    stage: Stage

    def store(self, misreads: Misreads) -> MilvusStore:
        store = MilvusStore(self.index.store.uri)
        store.__dict__["client"] = MisreadingClient(self.index.store.client, misreads)
        return store

    def ids(self) -> set[str]:
        rows = self.index.store.client.query(
            self.index.name, filter='source == "docs"', output_fields=["id"]
        )
        return {row["id"] for row in rows}

    def restore(self, touched: set[int], strangers: list[str]) -> None:
        if touched:
            self.index.write([self.index.chunks[number] for number in touched])
        if strangers:
            self.index.delete(*strangers)
        self.index.connection.execute("UPDATE documents SET indexing_status = 'completed'")


@pytest.fixture
def bench(connection: Connection, store: MilvusStore, postgres_url: str) -> Iterator[Bench]:
    index = Index(connection, store, "dense")
    with Postgres(postgres_url).writer("docs") as writer:
        log = cast(Any, logging.getLogger("test"))
        yield Bench(index, Stage("repair", index.source, writer, log))


MISREADS = st.builds(
    Misreads,
    dropped=st.sampled_from([0.0, 0.0, DROPPED]),
    same=st.booleans(),
    repeated=st.sampled_from([0, 0, 1, 3]),
    instead=st.booleans(),
    counted_twice=st.sampled_from([0, 0, 1, 4]),
    late_gets=st.sampled_from([set(), set(), {1}, {2}, {1, 2, 3}]),
    seed=st.integers(0, 2**32),
)


@settings(
    max_examples=MIXES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    misreads=MISREADS,
    faults=st.dictionaries(
        st.integers(0, DOCUMENTS * CHUNKS - 1), st.sampled_from(["missing", "stale"]), max_size=3
    ),
    strangers=st.integers(0, 2),
    hide=st.booleans(),
)
def test_no_misread_is_repaired_or_called_consistent(
    bench: Bench, misreads: Misreads, faults: dict[int, str], strangers: int, hide: bool
) -> None:
    index = bench.index
    true = {
        name: {index.ids(number)[0] for number, fault in faults.items() if fault == name}
        for name in ("missing", "stale")
    }
    orphans = [f"{uuid.uuid4()}_dense" for _ in range(strangers)]
    # The hardest case: unexpected rows that no scan shows.
    if hide:
        misreads.hidden |= set(orphans)
    if true["missing"]:
        index.delete(*true["missing"])
    if true["stale"]:
        stale = [index.chunks[number] for number, fault in faults.items() if fault == "stale"]
        index.write(stale, acknowledge=False, row_fingerprint="0" * 32)
    if orphans:
        index.store.client.insert(index.name, [foreign(row_id) for row_id in orphans])
    before = bench.ids()
    store = bench.store(misreads)
    try:
        drift = compare_collection(bench.stage.connection, store, index.collection, index.source)
        assert set(drift.missing) <= true["missing"]
        assert set(drift.stale) <= true["stale"]
        assert set(drift.orphaned) <= set(orphans)
        if drift.verdict == "consistent":
            assert not faults and not orphans
        if not misreads:
            assert drift.counts == {
                **{name: len(ids) for name, ids in true.items()},
                "orphaned": len(orphans),
                "duplicate": 0,
            }
            assert drift.verdict == ("drifted" if faults or orphans else "consistent")
        repair_rows(bench.stage, store, index.collection, drift)
    except StoreUnavailable:
        # Only a failed read may end the comparison.
        assert misreads.late_gets
    acknowledged = index.connection.execute(
        "SELECT chunk_id::text || '_dense' FROM vector_rows WHERE collection = %s", [index.name]
    ).fetchall()
    voided = set(index.ids()) - {row_id for (row_id,) in acknowledged}
    assert voided <= true["missing"] | true["stale"]
    # No live row is lost.
    assert before - set(orphans) <= bench.ids()
    bench.restore(set(faults), orphans)


def compare(bench: Bench, misreads: Misreads) -> Drift:
    return compare_collection(
        bench.stage.connection, bench.store(misreads), bench.index.collection, bench.index.source
    )


def test_an_orphan_that_no_scan_shows_is_counted(bench: Bench) -> None:
    orphan = f"{uuid.uuid4()}_dense"
    bench.index.store.client.insert(bench.index.name, [foreign(orphan)])
    drift = compare(bench, Misreads(hidden={orphan}))
    assert drift.verdict == "undetermined" and drift.uncounted == 1
    assert "a count of the rows differs by 1" in str(drift)
    assert compare(bench, Misreads()).orphaned == [orphan]


def test_counts_prove_nothing_while_a_source_is_being_written(
    bench: Bench, postgres_url: str
) -> None:
    """Rows come and go between scan and count, so two equal scans must suffice."""
    drift = compare_collection(
        # Not the writer's session.
        bench.index.connection,
        bench.store(Misreads(counted_twice=3)),
        bench.index.collection,
        bench.index.source,
    )
    assert drift.verdict == "consistent"
