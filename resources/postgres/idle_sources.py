"""Sources that have nothing to do in a stage: found by one query for all of them, and without becoming their writer.

A stage's plan and this question share their conditions, which stand beside the plan. Where a source is being written,
or there is any doubt, the answer is no, and the stage looks as its writer.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from rag_assets.pipeline.near_duplicates import ALGORITHM
from rag_assets.pipeline.vectors import Kind
from resources.postgres.connection import Connection, is_written
from resources.postgres.documents.chunks import documents_to_split
from resources.postgres.documents.documents import (
    ParserFingerprints,
    entries_to_parse,
    gone_documents,
)
from resources.postgres.documents.near_duplicates import LEFT_BEHIND, unsigned_documents
from resources.postgres.scope import WHOLE
from resources.postgres.vectors.embeddings import Target, unfinished_documents
from resources.postgres.vectors.vectors import outbox

#: Partition -> source.
Partitions = Mapping[str, uuid.UUID]


def listable_sources(connection: Connection, partitions: Partitions, *, most: int) -> list[str]:
    """Partitions that nobody writes, and of which so many entries at most are recorded, all of them fetched."""
    found = _idle(
        connection,
        partitions,
        [],
        "FROM source_entries e WHERE e.source_id = a.source AND e.error IS NOT NULL",
        "FROM source_entries e WHERE e.source_id = a.source OFFSET %(most)s",
        most=most,
    )
    return list(found)


def idle_documents(
    connection: Connection, partitions: Partitions, parsers: Sequence[ParserFingerprints]
) -> dict[str, tuple[int, int, int]]:
    """Partition -> (documents, near-duplicates, failed ones). `parsers`: of each source."""
    return _idle(
        connection,
        partitions,
        [
            "SELECT count(*) FROM documents WHERE source_uuid = a.source",
            "SELECT count(*) FROM near_duplicates WHERE source_uuid = a.source",
            """SELECT count(*) FROM documents WHERE source_uuid = a.source
                 AND 'failed' IN (processing_status, indexing_status)""",
        ],
        entries_to_parse("a.source", "a.first", "a.second"),
        gone_documents("a.source"),
        unsigned_documents("a.source"),
        LEFT_BEHIND,
        first=[fingerprints.parser for fingerprints in parsers],
        second=[fingerprints.limited for fingerprints in parsers],
        algorithm=ALGORITHM,
    )


def idle_chunks(
    connection: Connection, partitions: Partitions, chunkers: Sequence[str]
) -> dict[str, tuple[int]]:
    """Partition -> (chunks,). `chunkers`: fingerprint of each source's."""
    work = documents_to_split("a.source", "a.first")
    return _idle(connection, partitions, [_CHUNKS], work, first=list(chunkers))


def idle_embeddings(
    connection: Connection, partitions: Partitions, target: Target
) -> dict[str, tuple[int]]:
    """Partition -> (distinct texts,)."""
    texts = """SELECT count(DISTINCT c.text_hash) FROM documents d JOIN document_chunks c ON c.document_id = d.id
               WHERE d.source_uuid = a.source"""
    work = unfinished_documents("a.source")
    return _idle(connection, partitions, [texts], work, **target.parameters())


def idle_vectors(
    connection: Connection, partitions: Partitions, kind: Kind, target: Target | None
) -> dict[str, tuple[int]]:
    """Partition -> (chunks,), as far as PostgreSQL knows. `target`: None where this kind is not wanted."""
    if target is None:
        return _idle(connection, partitions, ["SELECT 0"], outbox("a.source"), kind=kind)
    work = (outbox("a.source"), unfinished_documents("a.source"))
    return _idle(connection, partitions, [_CHUNKS], *work, kind=kind, **target.parameters())


_CHUNKS = "SELECT coalesce(sum(chunk_count), 0)::bigint FROM documents WHERE source_uuid = a.source"


def _idle(
    connection: Connection,
    partitions: Partitions,
    counts: Sequence[LiteralString],
    *work: LiteralString,
    **parameters: Any,
) -> dict[str, Any]:
    """Partition -> its counts, of those that nobody writes and where none of `work` ("FROM … WHERE …") finds a row.

    `work` and `counts` know a source as `a.source`, and what is said of each by `first` and `second` as `a.first` …
    """
    nothing = [None] * len(partitions)
    rows = connection.execute(
        f"""SELECT a.partition{"".join([f", ({count})" for count in counts])}
            FROM unnest(%(partitions)s::text[], %(sources)s::uuid[], %(first)s::text[], %(second)s::text[])
              AS a (partition, source, first, second)
            WHERE NOT {is_written("a.partition")}
              {"".join([f" AND NOT EXISTS (SELECT {each})" for each in work])}""",
        {
            "partitions": list(partitions),
            "sources": list(partitions.values()),
            "first": nothing,
            "second": nothing,
            **parameters,
            **WHOLE,
        },
    )
    return {row[0]: row[1:] for row in rows}
