"""Drift of a collection from PostgreSQL: four classes, and a verdict with three values.

A scan alone proves nothing: real servers drop rows from iterators, repeat them, and count keys twice. So a scan yields
suspects; each is then judged by a read of its key and by PostgreSQL's claim at that moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["consistent", "drifted", "undetermined"]
DriftClass = Literal["missing", "orphaned", "stale", "duplicate"]
DRIFT_CLASSES: tuple[DriftClass, ...] = ("missing", "orphaned", "stale", "duplicate")


@dataclass(frozen=True, slots=True)
class Claim:
    """PostgreSQL's current claim about an id.

    `fingerprint`: of the row that Milvus acknowledged, None if it acknowledged none. `predates_scan`: the
    acknowledgement is older than the scan. `live`: the id belongs to an existing chunk. `leaving`: the outbox contains
    its deletion.
    """

    fingerprint: str | None
    predates_scan: bool = True
    live: bool = True
    leaving: bool = False


NO_CLAIM = Claim(None, live=False)


@dataclass
class Drift:
    """The ids of each drift class; `contradictions`: ids for which two reads returned different results.

    `uncounted`: difference between the store's own count and the number of scanned rows. Rows that a scan hides and
    PostgreSQL does not expect appear only here; so nothing is called consistent unless both numbers are equal.
    """

    checked: int = 0
    uncounted: int = 0
    missing: list[str] = field(default_factory=list)
    orphaned: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    duplicate: list[str] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        if self.contradictions:
            return "undetermined"
        if any(getattr(self, name) for name in DRIFT_CLASSES):
            # Confirmed by reads of single keys, which a count cannot refute.
            return "drifted"
        return "undetermined" if self.uncounted else "consistent"

    @property
    def counts(self) -> dict[str, int]:
        return {name: len(getattr(self, name)) for name in DRIFT_CLASSES}

    def add(self, other: Drift) -> None:
        self.checked += other.checked
        self.uncounted += other.uncounted
        for name in (*DRIFT_CLASSES, "contradictions"):
            getattr(self, name).extend(getattr(other, name))

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        text = f"{self.verdict}: {self.checked} rows compared, {counts}"
        if self.contradictions:
            text += f"; {len(self.contradictions)} ids on which reads disagree"
        if self.uncounted:
            text += f"; a count of the rows differs by {self.uncounted} from the rows shown"
        return text


def suspects(
    expected: Mapping[str, str], scanned: Iterable[tuple[str, str]]
) -> tuple[set[str], set[str]]:
    """Return the ids whose scanned row differs from `expected` (id -> fingerprint), and the ids scanned repeatedly."""
    actual: dict[str, str] = {}
    repeated: set[str] = set()
    for row_id, fingerprint in scanned:
        if row_id in actual:
            repeated.add(row_id)
        actual[row_id] = fingerprint
    return {
        row_id
        for row_id in expected.keys() | actual.keys()
        if expected.get(row_id) != actual.get(row_id)
    }, repeated


def judge(
    suspicious: Iterable[str],
    repeated: Iterable[str],
    fingerprints: Mapping[str, str],
    copies: Mapping[str, int],
    claims: Mapping[str, Claim],
) -> Drift:
    """Classify suspects by a read of their keys and by PostgreSQL's claims, both newer than the scan.

    `fingerprints`: id -> fingerprint as read by key. `copies`: id -> number of rows that a query for the id returned,
    for the ids in `repeated`. `claims`: id -> PostgreSQL's current claim; absent if PostgreSQL does not know the id.
    """
    drift = Drift()
    for row_id in sorted(suspicious):
        claim, actual = claims.get(row_id, NO_CLAIM), fingerprints.get(row_id)
        if actual is None:
            # An absent row is drift only if Milvus acknowledged it, and did so before the scan.
            acknowledged = claim.fingerprint is not None and claim.predates_scan
            if acknowledged and claim.live and not claim.leaving:
                drift.missing.append(row_id)
        elif not claim.live:
            if not claim.leaving:
                drift.orphaned.append(row_id)
        elif claim.fingerprint is not None and actual != claim.fingerprint:
            if claim.predates_scan:
                drift.stale.append(row_id)
        elif claim.fingerprint == actual and claim.predates_scan:
            # The scan missed or misread a row that was there before it began.
            drift.contradictions.append(row_id)
    for row_id in sorted(repeated):
        if copies.get(row_id, 0) > 1:
            drift.duplicate.append(row_id)
        else:
            drift.contradictions.append(row_id)
    return drift
