"""The audit's chain: the hashed bytes, and how each kind of change shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.pipeline.audit_chain import (
    EMPTY,
    FIELDS,
    TEXT_LIMIT,
    ChainedRecord,
    ChainHead,
    canonical_bytes,
    chained,
    hash_of,
    record_texts,
)
from rag_assets.pipeline.audit_record import AuditRecord
from rag_assets.pipeline.audit_verification import (
    SEAL,
    Problem,
    Verification,
    VerificationResult,
    seal_details,
)

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
AT = "2026-12-01T12:00:00.000000Z"
LENGTH = 40


def records(count: int, head: ChainHead = EMPTY) -> list[ChainedRecord]:
    made = (
        AuditRecord(f"user.change{n}", "allowed", "owner", occurred_at=NOON) for n in range(count)
    )
    return chained(head, AT, map(record_texts, made))


def rehashed(record: ChainedRecord) -> ChainedRecord:
    return record._replace(row_hash=hash_of(record))


def rechained(rows: Iterable[ChainedRecord], head: ChainHead) -> list[ChainedRecord]:
    """Return the rows with the numbers and hashes that make a chain of them."""
    return chained(head, AT, (row[2:10] for row in rows))


def verified(
    rows: Iterable[ChainedRecord], anchors: Sequence[ChainHead] = ()
) -> VerificationResult:
    verification = Verification(anchors)
    for row in rows:
        verification.add(row)
    return verification.finish()


def shown(result: VerificationResult) -> list[tuple[str, int, int, bool]]:
    return [(each.kind, each.first, each.last, each.by_anchor) for each in result.problems]


# The bytes ------------------------------------------------------------------------------------------------------------


def fields_of(data: bytes) -> list[str]:
    """Read canonical bytes back, as a program in another language would."""
    fields = []
    while data:
        length, data = int.from_bytes(data[:4], "big"), data[4:]
        fields.append(data[:length].decode())
        data = data[length:]
    return fields


@given(st.lists(st.text("ab\0\x01é日😀")))
def test_canonical_bytes_can_be_read_back_so_no_two_lists_share_them(fields: list[str]) -> None:
    assert fields_of(canonical_bytes(fields)) == fields


def test_the_documented_bytes_are_the_hashed_ones() -> None:
    (row,) = chained(
        EMPTY,
        AT,
        [record_texts(AuditRecord("search", "denied", "user:1", "t", "r", "::1", {"b": 1, "a": "é"}, NOON))],
    )  # fmt: skip
    fields = ["1", AT, AT, "search", "denied", "user:1", "t", "r", "::1", '{"a":"é","b":1}']
    assert [str(value) for value in row[:10]] == fields and len(FIELDS) == len(fields)
    data = bytes(32) + b"".join(
        len(text.encode()).to_bytes(4, "big") + text.encode() for text in fields
    )
    assert row.row_hash == hashlib.sha256(data).digest()


#: With NUL, half a surrogate pair, and what JSON escapes.
sent = st.text('a\0\ud800é日"\\\n')


@given(sent, st.dictionaries(sent, sent))
def test_whatever_a_client_sends_can_be_stored_and_hashed(
    text: str, details: dict[str, str]
) -> None:
    texts = record_texts(AuditRecord("auth.login", "denied", "anonymous", text, details=details))
    for stored in texts:
        assert "\0" not in stored
        stored.encode()
    assert len(texts[4]) <= 8 * TEXT_LIMIT
    assert json.loads(texts[-1]).keys() == details.keys()


def test_times_are_utc_and_details_bounded() -> None:
    tokyo = timezone(timedelta(hours=9))
    record = AuditRecord("a", "allowed", "owner", occurred_at=NOON.astimezone(tokyo))
    assert record_texts(record)[0] == AT
    details = json.loads(record_texts(replace(record, details={"a": "x" * 20_000}))[-1])
    assert details["omitted_bytes"] > 20_000 and len(details["sha256"]) == 64
    with pytest.raises(ValueError, match="allowed, denied, failed"):
        record_texts(replace(record, outcome="maybe"))  # pyright: ignore[reportArgumentType]


# Verification ---------------------------------------------------------------------------------------------------------

places = st.integers(2, LENGTH - 1)


def test_an_untouched_chain_verifies_with_its_anchors() -> None:
    rows = records(LENGTH)
    result = verified(rows, [row.head for row in rows[::7]])
    assert result.verified and result.head == rows[-1].head
    assert (result.records, result.anchors) == (LENGTH, len(rows[::7]))
    assert verified([]).verified


@given(places, st.sampled_from(ChainedRecord._fields[1:]))
def test_an_edited_column_is_named(at: int, column: str) -> None:
    rows = records(LENGTH)
    value = bytes(32) if column in ("prev_hash", "row_hash") else "edited"
    rows[at - 1] = rows[at - 1]._replace(**{column: value})
    assert shown(verified(rows)) == [("edited", at, at, False)]


@given(places, st.integers(1, 5))
def test_removed_records_are_named(at: int, count: int) -> None:
    rows = records(LENGTH)
    last = min(at + count - 1, LENGTH - 1)
    del rows[at - 1 : last]
    assert shown(verified(rows)) == [("removed", at, last, False)]


@given(places)
def test_a_second_record_of_a_number_is_named(at: int) -> None:
    rows = records(LENGTH)
    forged = rehashed(rows[at - 1]._replace(principal="user:forged"))
    for pair in ([forged, rows[at - 1]], [rows[at - 1], forged]):
        assert shown(verified([*rows[: at - 1], *pair, *rows[at:]])) == [
            ("inserted", at, at, False)
        ]


@given(places)
def test_renumbered_records_show_an_insertion_and_a_removal(at: int) -> None:
    rows = records(LENGTH)
    forged = rehashed(rows[at - 1]._replace(principal="user:forged"))
    later = [row._replace(sequence=row.sequence + 1) for row in rows[at - 1 :]]
    inserted = [*rows[: at - 1], forged, *later]
    assert shown(verified(inserted)) == [("inserted", at, at, False)]
    earlier = [row._replace(sequence=row.sequence - 1) for row in rows[at:]]
    removed = [*rows[: at - 1], *earlier]
    assert shown(verified(removed)) == [("removed", at, at, False)]


@given(places, st.data())
def test_a_part_that_was_chained_again_ends_at_the_named_record(
    at: int, data: st.DataObject
) -> None:
    rows = records(LENGTH)
    end = data.draw(st.integers(at, LENGTH - 1))
    edited = [rows[at - 1]._replace(principal="user:forged"), *rows[at:end]]
    rows[at - 1 : end] = rechained(edited, rows[at - 2].head)
    assert shown(verified(rows)) == [("rechained", end, end, False)]


def test_only_anchors_show_a_chain_that_was_written_again_to_its_end() -> None:
    rows = records(LENGTH)
    anchors = [row.head for row in rows[9::10]]
    edited = [rows[24]._replace(principal="user:forged"), *rows[25:]]
    changed = [*rows[:24], *rechained(edited, rows[23].head)]
    assert verified(changed).verified
    assert shown(verified(changed, anchors)) == [("rechained", 21, 40, True)]
    without = [*rows[:24], *rechained(rows[25:], rows[23].head)]
    assert verified(without).verified
    assert shown(verified(without, anchors)) == [
        ("rechained", 21, 30, True), ("removed", 40, 40, True),
    ]  # fmt: skip


def test_only_anchors_show_that_the_last_records_or_all_are_missing() -> None:
    rows = records(LENGTH)
    anchors = [rows[-1].head]
    assert verified(rows[:-3]).verified
    assert shown(verified(rows[:-3], anchors)) == [("removed", 38, 40, True)]
    assert shown(verified([], anchors)) == [("removed", 1, 40, True)]


def test_missing_first_records_need_a_record_that_they_were_dropped() -> None:
    rows = records(LENGTH)
    assert shown(verified(rows[9:])) == [("removed", 1, 9, False)]

    def sealed(last: ChainHead) -> list[ChainedRecord]:
        seal = AuditRecord(SEAL, "allowed", "owner", details=seal_details(last, ["2026-11"]))
        return [*rows, *chained(rows[-1].head, AT, [record_texts(seal)])]

    result = verified(sealed(rows[8].head)[9:], [rows[4].head, rows[20].head])
    assert result.verified and result.anchors == 1
    assert result.dropped and (result.dropped.through, result.dropped.sealed_by) == (9, 41)
    assert result.dropped.principal == "owner" and result.dropped.months == ("2026-11",)
    for other in (rows[7].head, ChainHead(9, bytes(32))):
        assert shown(verified(sealed(other)[9:])) == [("removed", 1, 9, False)]


def test_every_one_of_many_changes_is_named() -> None:
    rows = records(LENGTH)
    changed = [
        *rows[:4],
        rows[4]._replace(target="edited"),
        *rows[5:9],
        *rows[10:20],
        rehashed(rows[20]._replace(target="edited")),
        *rows[21:30],
        rows[29],
        *rows[30:],
    ]
    problems = shown(verified(changed))
    assert [problem[:2] for problem in problems] == [
        ("edited", 5), ("removed", 10), ("rechained", 21), ("inserted", 30),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row._replace(sequence=0),
        lambda row: row._replace(sequence=-7),
        lambda row: row._replace(details=None),
        lambda row: row._replace(row_hash=b"short"),
    ],
)
def test_values_that_only_a_superuser_can_store_are_problems_not_errors(
    change: Callable[[ChainedRecord], ChainedRecord],
) -> None:
    rows = records(LENGTH)
    rows[0] = change(rows[0])
    first: Problem = verified(rows).problems[0]
    assert first.kind in ("inserted", "edited")
