"""Verification and export of the audit, in batches: of the database, and of an exported file.

An export is text in UTF-8, one JSON object a line (NDJSON): a header, the records, and a line with their head. With it
and the anchors, another program can verify the chain; `rag_assets.pipeline.audit_chain` documents the hashed bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rag_assets.pipeline import progress
from rag_assets.pipeline.audit_chain import EMPTY, FIELDS, ChainedRecord, ChainHead, time_text
from rag_assets.pipeline.audit_verification import Problem, Verification, VerificationResult
from resources.errors import ConfigError
from resources.postgres.connection import Connection
from resources.postgres.identity.audit_chain import chain_head, stored_records

#: Opens a connection in autocommit mode for one batch, such as `Connections.connection`.
Connect = Callable[[], AbstractContextManager[Connection]]

#: Records of a batch: 5 MB.
BATCH = 5_000
FORMAT = {
    "format": "rag-audit",
    "version": 1,
    "hash": "row_hash = SHA-256(prev_hash, then each field: its length in 4 bytes, big-endian, and its UTF-8)",
    "fields": FIELDS,
}


def verify_database(connect: Connect, anchors: Iterable[ChainHead]) -> VerificationResult:
    """Verify the whole chain in the database. `anchors` are read first: what they name was committed before."""
    verification = Verification(anchors)
    for record in _records(connect, None):
        verification.add(record)
    return verification.finish()


def export_lines(connect: Connect) -> Iterator[bytes]:
    """Yield the lines of an export of all records that there are now."""
    with connect() as connection:
        head = chain_head(connection)
    yield _line({**FORMAT, "exported_at": time_text(datetime.now(UTC))})
    count, last = 0, EMPTY
    for record in _records(connect, head):
        yield _line(
            record._asdict()
            | {"prev_hash": record.prev_hash.hex(), "row_hash": record.row_hash.hex()}
        )
        count, last = count + 1, record.head
    yield _line({"records": count, "head": {"sequence": last.sequence, "hash": last.hash.hex()}})


def verify_file(file: Path, anchors: Iterable[ChainHead]) -> VerificationResult:
    """Verify an export. Anchors of later records than the last one of the file are not compared.

    Raises ConfigError for a file that is no export.
    """
    verification, end = Verification(anchors), None
    for number, values in enumerate(_json_lines(file)):
        try:
            if number == 0:
                if (values["format"], values["version"]) != (FORMAT["format"], FORMAT["version"]):
                    raise ValueError
            elif end is not None:
                raise ValueError
            elif "head" in values:
                head = values["head"]
                end = (
                    int(values["records"]),
                    ChainHead(head["sequence"], bytes.fromhex(head["hash"])),
                )
            else:
                verification.add(_exported(values))
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{file}, line {number + 1}: expected the lines of an export of the audit (rag audit export FILE), "
                "found something else."
            ) from None
    result = verification.finish(to_the_end=False)
    if end != (result.records, result.head):
        at = result.head.sequence + 1
        message = "the last line of the export is missing, or names another number of records or another head"
        result.problems.append(Problem("removed", at, at, at, message))
        result.problem_count += 1
    return result


def _records(connect: Connect, until: ChainHead | None) -> Iterator[ChainedRecord]:
    """Yield the records by number, up to this head or to the end; no connection is kept between two batches."""
    with connect() as connection:
        total = (until or chain_head(connection)).sequence
    # A superuser may have made numbers below 1.
    begin = -(1 << 63)
    while True:
        with connect() as connection:
            records = stored_records(connection, begin, BATCH)
        if until is not None:
            records = [record for record in records if record.sequence <= until.sequence]
        if not records:
            return
        yield from records
        last = records[-1].sequence
        begin = last + 1
        progress.report("records", "audit", min(last, total), total)


def _line(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False) + "\n").encode()


def _json_lines(file: Path) -> Iterator[Any]:
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    raise ConfigError(f"{file}, line {number}: expected a JSON object.") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.") from None


def _exported(values: dict[str, Any]) -> ChainedRecord:
    record = ChainedRecord(
        **{
            **values,
            "prev_hash": bytes.fromhex(values["prev_hash"]),
            "row_hash": bytes.fromhex(values["row_hash"]),
        }
    )
    if not isinstance(record.sequence, int):
        raise TypeError
    return record
