"""Verification of the audit's chain: names the records that were edited, removed, inserted or chained again.

Takes the records in the order of their sequence, one at a time, and keeps only the last ones. `rag_assets.identity`
reads them from the database or from an export.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rag_assets.pipeline.audit_chain import EMPTY, ChainedRecord, ChainHead, hash_of

#: The action of the record that stands for dropped months; its details are `seal_details`.
SEAL = "audit.drop"
#: Problems that are kept; all are counted. A wholly edited chain has one for each record.
MOST_PROBLEMS = 1_000

Kind = Literal["edited", "removed", "inserted", "rechained"]


@dataclass(frozen=True, slots=True)
class Problem:
    """`first` and `last`: the records that show it. `since`: the first record that may be changed, which is earlier
    where records were chained again. `by_anchor`: an anchor shows it, not the chain itself.
    """

    kind: Kind
    first: int
    last: int
    since: int
    message: str
    by_anchor: bool = False


@dataclass(frozen=True, slots=True)
class Dropped:
    """Months that were dropped by `principal`, as record `sealed_by` says: they ended with record `through`."""

    through: int
    sealed_by: int
    principal: str
    months: tuple[str, ...]


@dataclass
class VerificationResult:
    """`anchors`: those that were compared; `last_anchor`: the record of the last one. `dropped`: None if nothing was.

    `problem_count` counts also those problems that were too many to keep.
    """

    records: int = 0
    first: int = 0
    head: ChainHead = EMPTY
    anchors: int = 0
    last_anchor: int = 0
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list)
    dropped: Dropped | None = None

    @property
    def verified(self) -> bool:
        return not self.problem_count


def seal_details(last: ChainHead, months: Sequence[str]) -> dict[str, object]:
    """Return the details of the record that is appended when all records up to `last` are dropped."""
    return {"through": last.sequence, "hash": last.hash.hex(), "months": list(months)}


class Verification:
    """Call `add` for each record, then `finish`. `anchors`: heads that the chain had, in any order."""

    def __init__(self, anchors: Iterable[ChainHead] = ()) -> None:
        self.result = VerificationResult()
        self._anchors = sorted(set(anchors))
        self._next_anchor = 0
        #: The last anchor that the chain has, and the anchors since then that it does not have.
        self._confirmed = 0
        self._contradicting: list[ChainHead] = []
        self._begin = EMPTY
        self._seals: dict[ChainHead, Dropped] = {}
        #: The records of the highest number, not checked yet, and the record that was checked before.
        self._same: list[ChainedRecord] = []
        self._last: ChainedRecord | None = None
        #: The hashes that the next record may hold; empty: the last record is edited, so none can be expected.
        self._expected: set[bytes] = {EMPTY.hash}
        #: By how much the numbers of the present records were raised, as their hashes show.
        self._shift = 0

    def add(self, record: ChainedRecord) -> None:
        """Check the next record, once it is known whether others have its number."""
        self.result.records += 1
        if self._same and record.sequence < self._same[0].sequence:
            at = record.sequence
            message = f"a record {at} stands after record {self._same[0].sequence}"
            self._report("inserted", at, at, message)
            return
        if self._same and record.sequence > self._same[0].sequence:
            self._check_last()
        self._same.append(record)

    def _check_last(self) -> None:
        """Check the records that have the last number: one is right, any other was inserted."""
        records, self._same = self._same, []
        at, last = records[0].sequence, self._last
        if at < 1:
            self._report("inserted", at, at, f"record {at} is before the beginning of the chain")
            return
        sound = [record for record in records if _is_sound(record, self._shift)]
        record = next((each for each in sound if each.prev_hash in self._expected), None)
        record = record or (sound or records)[0]
        if len(records) > 1:
            self._report("inserted", at, at, f"there are {len(records)} records {at}")
        if last is None:
            self.result.first, self._begin = at, ChainHead(at - 1, record.prev_hash)
        elif at > last.sequence + 1:
            first = last.sequence + 1
            self._report("removed", first, at - 1, f"{_records(first, at - 1)} missing")
            self._expected = set()
        is_sound = bool(sound) or self._has_other_number(record)
        if is_sound and last and self._expected and record.prev_hash not in self._expected:
            self._report(
                "rechained",
                last.sequence,
                last.sequence,
                f"record {at} holds another hash than record {last.sequence} has: record {last.sequence} was changed "
                f"and its hash computed again, and maybe those of earlier records, from {self._confirmed + 1} on",
                since=self._confirmed + 1,
            )
        self._last = record
        self._expected = {each.row_hash for each in sound or records} if is_sound else set()
        if is_sound and record.action == SEAL:
            self._read_seal(record)
        self._compare_anchors()

    def finish(self, *, to_the_end: bool = True) -> VerificationResult:
        """Check the two ends of the chain. Returns the result.

        `to_the_end`: the records were all that there were when the anchors were read; not so in an older export.
        """
        if self._same:
            self._check_last()
        result, begin = self.result, self._begin
        if self._last is not None:
            result.head = ChainHead(self._last.sequence, self._last.row_hash)
        self._report_contradiction()
        if begin != EMPTY:
            result.dropped = self._seals.get(begin)
            if begin.sequence == 0:
                self._report(
                    "edited", 1, 1, "record 1 does not hold the hash of a beginning: 32 zeros"
                )
            elif result.dropped is None:
                message = f"{_records(1, begin.sequence)} missing, and no later record says that months were dropped"
                self._report("removed", 1, begin.sequence, message)
        if self._anchors:
            result.last_anchor = self._anchors[-1].sequence
        if to_the_end and self._next_anchor < len(self._anchors):
            first, last = result.head.sequence + 1, self._anchors[-1].sequence
            since = self._confirmed + 1
            message = (
                f"{_records(first, last)} missing at the end: there is an anchor of record {last}. No anchor confirms "
                f"the records from {since} on, which may be changed too"
            )
            self._report("removed", first, last, message, since=since, by_anchor=True)
        result.problems.sort(key=lambda problem: problem.first)
        return result

    def _has_other_number(self, record: ChainedRecord) -> bool:
        """Return whether the record has the hash of another number than `_shift` explains: others were renumbered."""
        at = record.sequence
        if _is_sound(record, self._shift + 1):
            message = (
                f"record {at - 1} was inserted: the following ones have the hashes of lower numbers"
            )
            self._report("inserted", at - 1, at - 1, message)
            self._shift += 1
        elif _is_sound(record, self._shift - 1):
            message = (
                f"a record {at} was removed: the following ones have the hashes of higher numbers"
            )
            self._report("removed", at, at, message)
            self._shift -= 1
        else:
            self._report("edited", at, at, f"record {at} does not have the hash of its content")
            return False
        self._expected = set()
        return True

    def _read_seal(self, record: ChainedRecord) -> None:
        try:
            details = json.loads(record.details)
            through = ChainHead(int(details["through"]), bytes.fromhex(details["hash"]))
            months = tuple(str(month) for month in details["months"])
        except (ValueError, KeyError, TypeError):
            return
        if through.sequence < record.sequence:
            self._seals[through] = Dropped(
                through.sequence, record.sequence, record.principal, months
            )

    # Anchors ------------------------------------------------------------------------------------------------------

    def _compare_anchors(self) -> None:
        """Compare the anchors of the last record; those of missing records tell nothing that is not reported."""
        last = self._last
        assert last is not None
        while self._next_anchor < len(self._anchors):
            anchor = self._anchors[self._next_anchor]
            if anchor.sequence > last.sequence:
                return
            self._next_anchor += 1
            if anchor.sequence < last.sequence:
                continue
            self.result.anchors += 1
            if anchor.hash == last.row_hash or anchor.hash in self._expected:
                self._report_contradiction()
                self._confirmed = anchor.sequence
            else:
                self._contradicting.append(anchor)

    def _report_contradiction(self) -> None:
        if not self._contradicting:
            return
        first, last = self._confirmed + 1, self._contradicting[-1].sequence
        message = (
            f"record {self._contradicting[0].sequence} had another hash when it was anchored: of the records "
            f"{first} to {last}, some were changed and chained again, or the anchors are those of another database"
        )
        self._report("rechained", first, last, message, by_anchor=True)
        self._contradicting.clear()

    def _report(
        self,
        kind: Kind,
        first: int,
        last: int,
        message: str,
        *,
        since: int | None = None,
        by_anchor: bool = False,
    ) -> None:
        self.result.problem_count += 1
        if len(self.result.problems) < MOST_PROBLEMS:
            since = first if since is None else since
            self.result.problems.append(Problem(kind, first, last, since, message, by_anchor))


def _is_sound(record: ChainedRecord, shift: int) -> bool:
    try:
        return hash_of(record, record.sequence - shift) == record.row_hash
    # Columns that lost their NOT NULL.
    except (AttributeError, TypeError):
        return False


def _records(first: int, last: int) -> str:
    return f"record {first} is" if first == last else f"records {first} to {last} are"
