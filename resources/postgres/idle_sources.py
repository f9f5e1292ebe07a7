"""Sources without work in a stage: one query finds them all, without becoming their writer.

It shares its conditions with the stage's plan, beside which they stand. A source that is being written, or in doubt, is
not idle: the stage then looks at it as its writer.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, NamedTuple

from rag_assets.pipeline.near_duplicates import ALGORITHM
from rag_assets.pipeline.vectors import Kind
from resources.postgres.connection import Connection, is_written
from resources.postgres.documents.chunks import documents_to_split
from resources.postgres.documents.documents import (
    ParserFingerprints,
    entries_to_parse,
    gone_documents,
    incomplete_documents,
)
from resources.postgres.documents.near_duplicates import STALE_MARKS, unsigned_documents
from resources.postgres.queries import fetch_all
from resources.postgres.scope import WHOLE_SOURCES
from resources.postgres.vectors.outbox import outbox_entries
from resources.postgres.vectors.target import Target, unfinished_documents

#: Partition -> source.
Partitions = Mapping[str, uuid.UUID]


class DocumentCounts(NamedTuple):
    documents: int
    near_duplicates: int
    incomplete: int
    failed: int


def listable_sources(connection: Connection, partitions: Partitions, *, most: int) -> list[str]:
    """Return the idle partitions with at most `most` recorded entries, all of them fetched."""
    rows = _find_idle(
        connection,
        partitions,
        counts={},
        work=[
            "FROM source_entries e WHERE e.source_id = candidate.source AND e.error IS NOT NULL",
            "FROM source_entries e WHERE e.source_id = candidate.source OFFSET %(most)s",
        ],
        parameters={"most": most},
    )
    return [row["partition"] for row in rows]


def idle_documents(
    connection: Connection, partitions: Partitions, parsers: Sequence[ParserFingerprints]
) -> dict[str, DocumentCounts]:
    """Return idle partition -> its counts. `parsers`: of each source."""
    rows = _find_idle(
        connection,
        partitions,
        counts={
            "documents": "SELECT count(*) FROM documents WHERE source_uuid = candidate.source",
            "near_duplicates": "SELECT count(*) FROM near_duplicates WHERE source_uuid = candidate.source",
            "incomplete": incomplete_documents("candidate.source"),
            "failed": """SELECT count(*) FROM documents WHERE source_uuid = candidate.source
                           AND 'failed' IN (processing_status, indexing_status)""",
        },
        work=[
            entries_to_parse("candidate.source", "candidate.parser", "candidate.limited"),
            gone_documents("candidate.source"),
            unsigned_documents("candidate.source"),
            STALE_MARKS,
        ],
        per_source={
            "parser": [fingerprints.parser for fingerprints in parsers],
            "limited": [fingerprints.limited for fingerprints in parsers],
        },
        parameters={"algorithm": ALGORITHM},
    )
    return {row.pop("partition"): DocumentCounts(**row) for row in rows}


def idle_chunks(
    connection: Connection, partitions: Partitions, chunkers: Sequence[str]
) -> dict[str, int]:
    """Return idle partition -> its chunks. `chunkers`: the fingerprint of each source's chunker."""
    rows = _find_idle(
        connection,
        partitions,
        counts={"total": _CHUNKS},
        work=[documents_to_split("candidate.source", "candidate.chunker")],
        per_source={"chunker": chunkers},
    )
    return {row["partition"]: row["total"] for row in rows}


def idle_embeddings(
    connection: Connection, partitions: Partitions, target: Target
) -> dict[str, int]:
    """Return idle partition -> its distinct texts."""
    texts = """SELECT count(DISTINCT c.text_hash) FROM documents d JOIN document_chunks c ON c.document_id = d.id
               WHERE d.source_uuid = candidate.source"""
    rows = _find_idle(
        connection,
        partitions,
        counts={"total": texts},
        work=[unfinished_documents("candidate.source")],
        parameters=target.parameters(),
    )
    return {row["partition"]: row["total"] for row in rows}


def idle_vectors(
    connection: Connection, partitions: Partitions, kind: Kind, target: Target | None
) -> dict[str, int]:
    """Return idle partition -> its chunks, according to PostgreSQL alone. `target`: None if this kind is not kept."""
    work: list[LiteralString] = [outbox_entries("candidate.source")]
    if target is not None:
        work.append(unfinished_documents("candidate.source"))
    rows = _find_idle(
        connection,
        partitions,
        counts={"total": "SELECT 0" if target is None else _CHUNKS},
        work=work,
        parameters={"kind": kind, **(target.parameters() if target else {})},
    )
    return {row["partition"]: row["total"] for row in rows}


_CHUNKS: LiteralString = """SELECT coalesce(sum(chunk_count), 0)::bigint FROM documents
    WHERE source_uuid = candidate.source"""


def _find_idle(
    connection: Connection,
    partitions: Partitions,
    *,
    counts: Mapping[LiteralString, LiteralString],
    work: Sequence[LiteralString],
    per_source: Mapping[LiteralString, Sequence[str]] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return {partition, *counts} of the partitions that no session writes and where no `work` has a row.

    `work` ("FROM … WHERE …") and `counts` (name -> query) name a source as `candidate.source`, and the values that
    `per_source` has of each one as further columns of `candidate`.
    """
    per_source = per_source or {}
    columns = "".join([f", {name}" for name in per_source])
    arrays = "".join([f", %({name})s::text[]" for name in per_source])
    selected = "".join([f", ({count}) AS {name}" for name, count in counts.items()])
    without_work = "".join([f" AND NOT EXISTS (SELECT {rows})" for rows in work])
    return fetch_all(
        connection,
        dict[str, Any],
        f"""SELECT candidate.partition{selected}
            FROM unnest(%(partitions)s::text[], %(sources)s::uuid[]{arrays}) AS candidate (partition, source{columns})
            WHERE NOT {is_written("candidate.partition")}{without_work}""",
        {
            **{name: list(values) for name, values in per_source.items()},
            **(parameters or {}),
            **WHOLE_SOURCES,
            "partitions": list(partitions),
            "sources": list(partitions.values()),
        },
    )
