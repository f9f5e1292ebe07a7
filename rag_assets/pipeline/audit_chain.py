"""The chain of the audit: the exact bytes of a record, and its hash. Another program can verify an export with these.

    row_hash = SHA-256(prev_hash || field || field || …)

`prev_hash` is the `row_hash` of the record before, 32 bytes; zeros in the first record. The fields are those of
`FIELDS`, in that order. Each is its length in bytes, as 4 bytes with the highest first, then its text in UTF-8. The
sequence is a decimal number from 1; times are UTC, `2026-12-01T03:38:10.123456Z`; details are a JSON object, with the
very text that the table has. Each length stands before its text, and the number of fields is fixed: no two records have
the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from rag_assets.pipeline.audit_record import OUTCOMES, AuditRecord

#: `prev_hash` of the first record.
GENESIS = bytes(32)
#: Characters of a text that a client may have sent, such as a user's name. The rest is cut off.
TEXT_LIMIT = 500
#: Bytes of the details. Larger ones are replaced by their digest.
DETAILS_LIMIT = 16_384


#: See `record_texts`.
RecordTexts = tuple[str, str, str, str, str, str, str, str]


class ChainHead(NamedTuple):
    """The last record of a chain: its place and its hash."""

    sequence: int
    hash: bytes


#: The head of a chain without records.
EMPTY = ChainHead(0, GENESIS)


class ChainedRecord(NamedTuple):
    """A record as it is stored and exported. All that is hashed is text, so that nothing depends on a type's form."""

    sequence: int
    recorded_at: str
    occurred_at: str
    action: str
    outcome: str
    principal: str
    target: str
    request_id: str
    address: str
    details: str
    prev_hash: bytes
    row_hash: bytes

    @property
    def head(self) -> ChainHead:
        return ChainHead(self.sequence, self.row_hash)


#: The hashed fields, in the order of the bytes.
FIELDS = ChainedRecord._fields[:10]


def canonical_bytes(fields: Iterable[str]) -> bytes:
    """Return each text's length in 4 bytes, then the text in UTF-8."""
    parts: list[bytes] = []
    for field in fields:
        text = field.encode()
        parts += (len(text).to_bytes(4, "big"), text)
    return b"".join(parts)


def hash_of(record: ChainedRecord, sequence: int | None = None) -> bytes:
    """Return the hash that the record should have, at its own place or at another one."""
    place = record.sequence if sequence is None else sequence
    return _hash(record.prev_hash, (str(place), *record[1:10]))


def record_texts(record: AuditRecord) -> RecordTexts:
    """Return the texts of a record that its writer knows: all of `FIELDS` but its place and the time of the append.

    Raises ValueError for an unknown outcome, and for details that JSON cannot express.
    """
    if record.outcome not in OUTCOMES:
        raise ValueError(
            f"outcome: expected one of {', '.join(OUTCOMES)}, found {record.outcome!r}"
        )
    return (
        time_text(record.occurred_at),
        _text(record.action),
        record.outcome,
        _text(record.principal),
        _text(record.target),
        _text(record.request_id),
        _text(record.address),
        _details(record.details),
    )


def chained(
    head: ChainHead, recorded_at: str, records: Iterable[RecordTexts]
) -> list[ChainedRecord]:
    """Return the records as the continuation of a chain."""
    rows: list[ChainedRecord] = []
    for texts in records:
        sequence, fields = head.sequence + 1, (recorded_at, *texts)
        digest = _hash(head.hash, (str(sequence), *fields))
        rows.append(ChainedRecord(sequence, *fields, head.hash, digest))
        head = ChainHead(sequence, digest)
    return rows


def time_text(moment: datetime) -> str:
    """Return a time as the chain has it: `2026-12-01T03:38:10.123456Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _hash(prev_hash: bytes, fields: Iterable[str]) -> bytes:
    return hashlib.sha256(prev_hash + canonical_bytes(fields)).digest()


def _text(text: str) -> str:
    """Return the text as PostgreSQL can store it: without NUL and half surrogates, which clients can send."""
    text = text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}…"
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def _details(details: Mapping[str, object]) -> str:
    if not details:
        return "{}"
    text = json.dumps(
        details,
        ensure_ascii=False,
        sort_keys=True,
        separators=(",", ":"),
        default=str,
        allow_nan=False,
    )
    # The replacement of half a surrogate is its escape in JSON.
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) > DETAILS_LIMIT:
        digest = hashlib.sha256(encoded).hexdigest()
        return json.dumps({"omitted_bytes": len(encoded), "sha256": digest}, separators=(",", ":"))
    return encoded.decode()
