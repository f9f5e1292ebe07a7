"""Drift: `suspects` and `judge` against a plain model of the writers' protocol, read at five moments during the writes.

The model knows the true rows of Milvus and PostgreSQL at each moment; the judge sees only the results of its reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.pipeline.drift import DRIFT_CLASSES, Claim, Drift, judge, suspects
from tests.support.extent import times

IDS = ["a", "b", "c"]


@dataclass
class Chunk:
    """One chunk in PostgreSQL, and its rows in Milvus (one, unless somebody tampered with them)."""

    live: bool = False
    current: int = 0
    acknowledged: int | None = None
    acknowledged_at: int = -1
    #: Upserted since the last acknowledgement.
    written: int | None = None
    leaving: bool = False
    drained: bool = False
    rows: list[int] = field(default_factory=list)

    def possible(self) -> list[str]:
        """The steps of the protocol that may come next."""
        steps = {
            "create": not self.live,
            "edit": self.live,
            "void": self.live and self.acknowledged not in (None, self.current),
            "upsert": self.live and self.acknowledged is None and not self.leaving,
            "acknowledge": self.live and self.written is not None,
            "delete": self.live,
            "drain": self.leaving and not self.live and not self.drained,
            "confirm": self.leaving and (self.drained or self.live),
        }
        return [step for step, possible in steps.items() if possible]

    def step(self, step: str, now: int) -> None:
        if step == "create":
            self.live, self.current = True, now
        elif step == "edit":
            self.current = now
        elif step == "void":
            self.acknowledged = None
        elif step == "upsert":
            self.rows, self.written = [self.current], self.current
        elif step == "acknowledge":
            self.acknowledged, self.acknowledged_at, self.written = self.written, now, None
        elif step == "delete":
            self.live, self.acknowledged, self.written = False, None, None
            self.leaving, self.drained = True, False
        elif step == "drain":
            self.rows, self.drained = [], True
        elif step == "confirm":
            self.leaving = False

    def claim(self, started: int) -> Claim:
        fingerprint = None if self.acknowledged is None else str(self.acknowledged)
        return Claim(
            fingerprint,
            predates_scan=self.acknowledged_at < started,
            live=self.live,
            leaving=self.leaving,
        )


class Stores:
    """The two stores; writers continue between the reads of one comparison."""

    def __init__(self, steps: Iterable[tuple[str, int]]) -> None:
        self.chunks = {row_id: Chunk() for row_id in IDS}
        self.steps, self.now = list(steps), 0

    def advance(self, count: int) -> None:
        for _ in range(count):
            if self.now < len(self.steps):
                row_id, choice = self.steps[self.now]
                possible = self.chunks[row_id].possible()
                self.chunks[row_id].step(possible[choice % len(possible)], self.now)
            self.now += 1

    def expected(self) -> dict[str, str]:
        return {
            row_id: str(chunk.acknowledged)
            for row_id, chunk in self.chunks.items()
            if chunk.acknowledged is not None
        }

    def scan(self) -> list[tuple[str, str]]:
        return [(row_id, str(row)) for row_id, chunk in self.chunks.items() for row in chunk.rows]

    def read(self, ids: Iterable[str]) -> dict[str, str]:
        return {
            row_id: str(self.chunks[row_id].rows[-1])
            for row_id in ids
            if row_id in self.chunks and self.chunks[row_id].rows
        }


@st.composite
def misread(draw: st.DrawFn, rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """A scan of these rows by a real server: some dropped, some repeated, in any order."""
    times = draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    return draw(st.permutations([row for row, n in zip(rows, times) for _ in range(n)]))


def compare(
    stores: Stores, data: st.DataObject, *, gaps: bool, misreads: bool
) -> tuple[Drift, list[tuple[str, str]]]:
    """Run the comparison in the order of its reads, with writers' steps between them. Returns the scanned rows too."""

    def writers_work(steps: int = 6) -> None:
        """At most two steps between the last reads: a whole life of a chunk does not fit there (see `_judge`)."""
        if gaps:
            stores.advance(data.draw(st.integers(0, steps)))

    started = stores.now
    expected = stores.expected()
    writers_work()
    scanned = stores.scan()
    if misreads:
        scanned = data.draw(misread(scanned))
    suspicious, repeated = suspects(expected, scanned)
    writers_work()
    fingerprints = stores.read(suspicious)
    copies = Counter(row_id for row_id, _ in stores.scan() if row_id in repeated)
    writers_work()
    claims = {row_id: chunk.claim(started) for row_id, chunk in stores.chunks.items()}
    drift = judge(suspicious, repeated, fingerprints, copies, claims)
    writers_work(2)
    existing = stores.read(drift.orphaned)
    writers_work(2)
    claims = {row_id: chunk.claim(started) for row_id, chunk in stores.chunks.items()}
    drift.orphaned = [
        row_id
        for row_id in drift.orphaned
        if row_id in existing and not claims[row_id].live and not claims[row_id].leaving
    ]
    return drift, scanned


#: The chunk that changes next, and the choice among its possible steps.
STEPS = st.lists(st.tuples(st.sampled_from(IDS), st.integers(0, 11)), min_size=20, max_size=40)


@times(2)
@given(STEPS, st.integers(0, 20), st.data())
def test_active_writers_never_cause_drift(
    steps: list[tuple[str, int]], before: int, data: st.DataObject
) -> None:
    stores = Stores(steps)
    stores.advance(before)
    drift, _ = compare(stores, data, gaps=True, misreads=False)
    assert drift.verdict == "consistent", drift


@times(2)
@given(STEPS, st.integers(0, 20), st.data())
def test_a_misreading_scan_never_causes_drift(
    steps: list[tuple[str, int]], before: int, data: st.DataObject
) -> None:
    stores = Stores(steps)
    stores.advance(before)
    drift, _ = compare(stores, data, gaps=True, misreads=True)
    assert sum(drift.counts.values()) == 0, drift


def finish(stores: Stores) -> None:
    """Bring every chunk to an old acknowledgement, whatever its state."""
    for chunk in stores.chunks.values():
        for step in ("create", "drain", "confirm", "void", "upsert", "acknowledge"):
            if step in chunk.possible():
                chunk.step(step, stores.now)
    stores.now += 1


@times(2)
@given(
    STEPS,
    st.dictionaries(st.sampled_from(IDS), st.sampled_from(["lose", "alter", "double", "orphan"])),
    st.booleans(),
    st.data(),
)
def test_tampering_with_milvus_is_found_and_classified(
    steps: list[tuple[str, int]], tampering: dict[str, str], misreads: bool, data: st.DataObject
) -> None:
    stores = Stores(steps)
    stores.advance(len(steps))
    finish(stores)
    true: dict[str, set[str]] = {name: set() for name in DRIFT_CLASSES}
    for row_id, deed in tampering.items():
        chunk = stores.chunks[row_id]
        if deed == "lose":
            chunk.rows = []
            true["missing"].add(row_id)
        elif deed == "alter":
            chunk.rows = [-1]
            true["stale"].add(row_id)
        elif deed == "double":
            chunk.rows = chunk.rows * 2
            true["duplicate"].add(row_id)
        else:
            stores.chunks[row_id] = Chunk(rows=chunk.rows)
            true["orphaned"].add(row_id)
    drift, scanned = compare(stores, data, gaps=False, misreads=misreads)
    for name in DRIFT_CLASSES:
        assert set(getattr(drift, name)) <= true[name], name
    if not misreads:
        assert {name: set(getattr(drift, name)) for name in DRIFT_CLASSES} == true
        assert drift.contradictions == []
        assert drift.verdict == ("drifted" if tampering else "consistent")
    seen = {row_id for row_id, _ in scanned}
    reported = {row_id for name in DRIFT_CLASSES for row_id in getattr(drift, name)}
    for row_id in true["stale"] | true["missing"] | (true["orphaned"] & seen):
        assert row_id in reported | set(drift.contradictions)
    if set(Counter(scanned).values()) - {1} or seen != {row_id for row_id, _ in stores.scan()}:
        # The scan misread a row that was there all along: the verdict must not be consistent.
        dropped = {row_id for row_id, _ in stores.scan()} - seen
        only_orphans_were_dropped = dropped <= true["orphaned"] and not set(
            Counter(scanned).values()
        ) - {1}
        assert only_orphans_were_dropped or drift.verdict != "consistent"


@pytest.mark.parametrize(
    ("fingerprint", "claim", "classes"),
    [
        (None, Claim("a"), ["missing"]),
        (None, Claim("a", predates_scan=False), []),
        (None, Claim("a", leaving=True), []),
        (None, Claim(None), []),
        (None, None, []),
        ("a", Claim("a"), ["contradictions"]),
        ("a", Claim("a", predates_scan=False), []),
        ("b", Claim("a"), ["stale"]),
        ("b", Claim("a", predates_scan=False), []),
        ("b", Claim(None), []),
        ("a", Claim(None, live=False), ["orphaned"]),
        ("a", Claim(None, live=False, leaving=True), []),
        ("a", None, ["orphaned"]),
    ],
)
def test_a_suspect_is_classified_by_its_row_and_its_claim(
    fingerprint: str | None, claim: Claim | None, classes: list[str]
) -> None:
    fingerprints = {"x": fingerprint} if fingerprint else {}
    drift = judge(["x"], [], fingerprints, {}, {"x": claim} if claim is not None else {})
    assert [name for name in (*DRIFT_CLASSES, "contradictions") if getattr(drift, name)] == classes


def test_contradictions_make_the_verdict_undetermined_and_drifts_add_up() -> None:
    drift = Drift(checked=2, missing=["a"])
    assert drift.verdict == "drifted"
    drift.add(Drift(checked=3, contradictions=["b"], stale=["c"]))
    assert (drift.checked, drift.missing, drift.stale) == (5, ["a"], ["c"])
    assert drift.verdict == "undetermined"
    assert str(drift) == (
        "undetermined: 5 rows compared, 1 missing, 0 orphaned, 1 stale, 0 duplicate; 1 ids on which reads disagree"
    )
    assert Drift().verdict == "consistent"


def test_a_different_count_only_rules_out_consistent() -> None:
    drift = Drift(uncounted=2)
    assert drift.verdict == "undetermined"
    drift.add(Drift(missing=["a"], uncounted=1))
    assert (drift.verdict, drift.uncounted) == ("drifted", 3)


@given(
    st.dictionaries(st.text(max_size=3), st.text(max_size=2)),
    st.lists(st.tuples(st.text(max_size=3), st.text(max_size=2))),
)
def test_suspects_are_the_ids_that_the_scan_does_not_confirm(
    expected: dict[str, str], scanned: list[tuple[str, str]]
) -> None:
    suspicious, repeated = suspects(expected, scanned)
    times = Counter(row_id for row_id, _ in scanned)
    assert repeated == {row_id for row_id, n in times.items() if n > 1}
    confirmed = {
        row_id
        for row_id in expected
        if times[row_id] == 1 and (row_id, expected[row_id]) in scanned
    }
    everything = set(expected) | set(times)
    assert everything - confirmed == (suspicious | repeated)
