"""How a collection differs from what PostgreSQL says of it: four classes, and a verdict in three values.

A scan alone proves nothing: real servers drop rows from iterators, repeat them, and count keys twice. So a scan yields
suspects; each is then judged by a read of its key and by what PostgreSQL says at that moment.
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
    """What PostgreSQL says of an id now.

    `fingerprint`: the row that Milvus acknowledged, None when it acknowledged none. `settled`: the acknowledgement is
    older than the scan. `live`: a chunk of this id exists. `leaving`: the outbox has its deletion.
    """

    fingerprint: str | None
    settled: bool = True
    live: bool = True
    leaving: bool = False


NO_CLAIM = Claim(None, live=False)


@dataclass
class Drift:
    """The ids of each class; `contradictions` are ids of which two reads said different things.

    `uncounted`: by how many rows the store's own count differs from what was shown. Rows that a scan hides, and that
    nobody expects, show in no other way; so without an equal count nothing is called consistent.
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
            return "drifted"  # each by a read of its key: a count takes nothing from that
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
        unsure = (
            f"; {len(self.contradictions)} ids on which reads disagree"
            if self.contradictions
            else ""
        )
        if self.uncounted:
            unsure += f"; a count of the rows differs by {self.uncounted} from the rows shown"
        return f"{self.verdict}: {self.checked} rows compared, {counts}{unsure}"


def suspects(
    expected: Mapping[str, str], scanned: Iterable[tuple[str, str]]
) -> tuple[set[str], set[str]]:
    """Ids that a scan shows otherwise than expected (id -> fingerprint), and ids that it shows more than once."""
    seen: dict[str, str] = {}
    twice: set[str] = set()
    for row_id, fingerprint in scanned:
        if row_id in seen:
            twice.add(row_id)
        seen[row_id] = fingerprint
    return {
        row_id
        for row_id in expected.keys() | seen.keys()
        if expected.get(row_id) != seen.get(row_id)
    }, twice


def judge(
    suspicious: Iterable[str],
    twice: Iterable[str],
    found: Mapping[str, str],
    copies: Mapping[str, int],
    claims: Mapping[str, Claim],
) -> Drift:
    """Classifies suspects by a read of their keys and by PostgreSQL's claims, both newer than the scan.

    `found`: id -> fingerprint as read by key. `copies`: id -> rows that a query for the id returned, for those in
    `twice`. `claims`: id -> what PostgreSQL says now; absent: it knows nothing of the id.
    """
    drift = Drift()
    for row_id in sorted(suspicious):
        claim, actual = claims.get(row_id, NO_CLAIM), found.get(row_id)
        if actual is None:
            # Not there. Right, unless PostgreSQL says that Milvus acknowledged it, and not only since this read.
            held = claim.fingerprint is not None and claim.settled
            if held and claim.live and not claim.leaving:
                drift.missing.append(row_id)
        elif not claim.live:
            if not claim.leaving:
                drift.orphaned.append(row_id)
        elif claim.fingerprint is not None and actual != claim.fingerprint:
            if claim.settled:
                drift.stale.append(row_id)
        elif claim.fingerprint == actual and claim.settled:
            # The scan did not show, or showed otherwise, what has been there since before it began.
            drift.contradictions.append(row_id)
    for row_id in sorted(twice):
        if copies.get(row_id, 0) > 1:
            drift.duplicate.append(row_id)
        else:
            drift.contradictions.append(row_id)
    return drift
