"""Checks inside PostgreSQL: on documents and document_chunks. Each is one query that lists what is wrong."""

from typing import LiteralString

import dagster as dg

from rag_assets.checks.results import of_each_source, result
from rag_assets.partitions import SOURCES, partition_key
from resources.dagster_resources import EmbedderResource, LimitsResource, PostgresResource
from resources.postgres.connection import IS_WRITTEN, Connection
from resources.postgres.consistency.check_results import REPAIR
from resources.postgres.consistency.counts import waiting_deletions
from resources.postgres.registry.sources import get_source

_COUNTS: LiteralString = f"""SELECT count(*), coalesce(sum(chunk_count), 0)::bigint, {IS_WRITTEN}
  FROM documents WHERE source_uuid = %(source)s"""


def _table_check(
    asset: str,
    name: str,
    fact: str,
    columns: tuple[str, ...],
    query: LiteralString,
    *,
    blocking: bool = False,
) -> dg.AssetChecksDefinition:
    """A check that passes when `query` (of %(source)s, %(kinds)s, %(partition)s) finds nothing, and `fact` holds."""

    @dg.asset_check(
        asset=asset, name=name, description=fact, blocking=blocking, partitions_def=SOURCES
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        postgres: PostgresResource,
        embedder: EmbedderResource,
    ) -> dg.AssetCheckResult:
        def look(connection: Connection, name: str) -> dg.AssetCheckResult:
            parameters = {
                "source": get_source(connection, name).id,
                "kinds": embedder.kinds,
                "partition": partition_key(name),
            }
            rows = connection.execute(query, parameters).fetchall()
            if rows:  # a run may have ended between what was read and the look at its lock
                rows = connection.execute(query, parameters).fetchall()
            counted = connection.execute(_COUNTS, parameters).fetchone()
            assert counted is not None
            looked = "{} documents with {} chunks{}".format(
                *counted[:2], ", while a run is writing them" if counted[2] else ""
            )
            if not rows:
                return result(True, f"{name}: no exception among {looked}. {fact}")
            return result(
                False,
                f"{name}: {len(rows)} exceptions among {looked}; the first: {_sentence(columns, rows[0])}.",
                columns=columns,
                rows=rows,
                mend=f"{REPAIR} --source {name}",
            )

        return of_each_source(context, postgres, look)

    return check


def _sentence(columns: tuple[str, ...], row: tuple[object, ...]) -> str:
    return ", ".join(f"{column} {value}" for column, value in zip(columns, row))


chunks_have_documents = _table_check(
    "document_chunks",
    "chunks_have_documents",
    "Every chunk belongs to a document of its own source, and its parent to the same document.",
    ("chunk", "document", "reason"),
    """SELECT c.id, c.document_id, CASE WHEN d.id IS NULL THEN 'no such document'
         WHEN d.source_uuid <> c.source_uuid THEN 'another source than its document'
         ELSE 'its parent belongs to another document' END
       FROM document_chunks c LEFT JOIN documents d ON d.id = c.document_id
       LEFT JOIN document_chunks p ON p.id = c.parent_chunk_id
       WHERE (c.source_uuid = %(source)s OR d.source_uuid = %(source)s) AND (d.id IS NULL
         OR d.source_uuid <> c.source_uuid OR p.document_id <> c.document_id)
       ORDER BY c.id""",
    blocking=True,
)

chunk_positions_are_contiguous = _table_check(
    "document_chunks",
    "chunk_positions_are_contiguous",
    "Each document's chunk_count is right, and its chunks have the positions 0, 1, 2 … without gap or double.",
    ("document", "chunk_count", "chunks", "distinct_positions", "last_position"),
    """SELECT d.source_key, d.chunk_count, count(c.id), count(DISTINCT c.position), max(c.position)
       FROM documents d LEFT JOIN document_chunks c ON c.document_id = d.id
       WHERE d.source_uuid = %(source)s AND d.processing_status = 'completed'
       GROUP BY d.id HAVING d.chunk_count <> count(c.id) OR count(c.id) <> count(DISTINCT c.position)
         OR max(c.position) <> count(c.id) - 1 ORDER BY d.source_key""",
    blocking=True,
)

statuses_agree = _table_check(
    "documents",
    "statuses_agree",
    "The statuses of documents, chunks and vector ids agree, and nothing is left in progress.",
    ("document", "processing", "indexing", "reason"),
    f"""WITH writer AS (SELECT {IS_WRITTEN} AS written), kinds AS (
         SELECT d.id, d.source_key, d.processing_status, d.indexing_status, d.indexed_as,
           count(c.id) AS chunks,
           count(*) FILTER (WHERE c.embedding_status = 'completed') AS completed,
           count(*) FILTER (WHERE c.embedding_status = 'processing') AS processing,
           count(*) FILTER (WHERE c.embedding_status = 'completed' AND (
             ('dense' = ANY(%(kinds)s) AND c.dense_vector_id IS DISTINCT FROM c.id || '_dense')
             OR ('sparse' = ANY(%(kinds)s) AND c.sparse_vector_id IS DISTINCT FROM c.id || '_sparse')
             OR ('multi' = ANY(%(kinds)s) AND c.multi_vector_id IS DISTINCT FROM c.id || '_multi'))) AS without_id
         FROM documents d LEFT JOIN document_chunks c ON c.document_id = d.id
         WHERE d.source_uuid = %(source)s GROUP BY d.id),
       reasons AS (
         SELECT kinds.*, CASE
           WHEN written AND (processing > 0 OR processing_status IN ('pending', 'processing')
             OR indexing_status IN ('pending', 'indexing')) THEN NULL
           WHEN processing > 0 OR processing_status = 'processing' OR indexing_status = 'indexing'
             THEN 'in progress, but no run is writing this source'
           WHEN processing_status = 'pending' THEN 'not chunked yet'
           WHEN indexing_status = 'pending' THEN 'not indexed yet'
           WHEN indexing_status = 'completed' AND completed < chunks
             THEN 'indexed, but only ' || completed || ' of ' || chunks || ' chunks are completed'
           WHEN indexing_status = 'completed' AND without_id > 0
             THEN without_id || ' completed chunks lack their vector id'
           WHEN indexing_status = 'completed' AND chunks = 0 THEN 'indexed, but without chunks'
           WHEN indexing_status = 'failed' AND processing_status = 'completed' AND completed = chunks
             THEN 'indexing failed, but every chunk is completed'
         END AS reason FROM kinds, writer)
       SELECT source_key, processing_status, indexing_status, reason FROM reasons
       WHERE reason IS NOT NULL ORDER BY source_key""",
)


@dg.asset_check(
    asset="document_chunks",
    description="What was deleted from document_chunks has left Milvus, or waits for it no longer than it may.",
    partitions_def=SOURCES,
)
def deleted_chunks_have_left_milvus(
    context: dg.AssetCheckExecutionContext, postgres: PostgresResource, limits: LimitsResource
) -> dg.AssetCheckResult:
    """Deletions of sources that were removed show at every source: they have no partition of their own."""
    seconds = limits.outbox_seconds

    def look(connection: Connection, name: str) -> dg.AssetCheckResult:
        waiting = waiting_deletions(connection, get_source(connection, name).id, seconds)
        overdue = sum(row[3] for row in waiting)
        return result(
            not overdue,
            f"{name}: {sum(row[2] for row in waiting)} deletions wait in the outbox, "
            f"{overdue} of them longer than {seconds:g} s.",
            columns=("source", "kind", "waiting", "overdue", "oldest"),
            rows=waiting,
            mend=f"{REPAIR} --source {name}",
        )

    return of_each_source(context, postgres, look)


TABLE_CHECKS: list[dg.AssetChecksDefinition] = [
    chunks_have_documents,
    chunk_positions_are_contiguous,
    deleted_chunks_have_left_milvus,
    statuses_agree,
]
