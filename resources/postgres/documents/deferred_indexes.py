"""Indexes that a large first load builds after its rows, at a fifth of the cost of indexes that grow with them.

A chunk is written twice, as pending and as completed, and each time it would enter all of its indexes.

Nothing records that a load deferred them: each sync that ends builds those that are missing. A load that was killed at
any moment leaves them to the next sync.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import LiteralString

import psycopg

from resources.postgres.connection import Connection, Writer
from resources.postgres.queries import scalar, scalars

#: Index -> its definition, as the migrations make it. A first load reads none of them. Those that it needs stay: the
#: keys, `document_chunks_position`, `documents_to_index`.
DEFERRED: Mapping[LiteralString, LiteralString] = {
    "documents_search": "documents USING gin (search_vector) WITH (gin_pending_list_limit = 262144)",
    "document_chunks_search": "document_chunks USING gin (search_vector) WITH (gin_pending_list_limit = 262144)",
    "document_chunks_embedding_status": "document_chunks (embedding_status)",
    "document_chunks_vector_ids": "document_chunks (dense_vector_id, sparse_vector_id)",
    "document_chunks_section": "document_chunks (hierarchy_level, section_title)",
    "document_chunks_text_hash": "document_chunks (text_hash)",
    "document_chunks_done": """document_chunks (embedding_status, document_id, position)
      WHERE embedding_status = 'completed'""",
}

#: SQL: whether this role may drop and make indexes of the two tables. A role that is not their owner leaves them.
_IS_OWNER: LiteralString = """(
    SELECT bool_and(pg_has_role(relowner, 'USAGE') AND has_schema_privilege(relnamespace, 'CREATE'))
    FROM pg_class WHERE oid IN ('documents'::regclass, 'document_chunks'::regclass))"""

_IS_EMPTY: LiteralString = (
    "NOT EXISTS (SELECT FROM documents) AND NOT EXISTS (SELECT FROM document_chunks)"
)


def defer_indexes(writer: Writer) -> bool:
    """Drop the indexes if their tables are empty, and this role owns them. Returns whether it dropped them.

    Keeps them while another session uses a table: a load with indexes is slower, not wrong.
    """
    try:
        with writer.transaction() as connection:
            if not scalar(connection, f"SELECT {_IS_OWNER} AND {_IS_EMPTY}"):
                return False
            connection.execute("SET LOCAL lock_timeout = '200ms'")
            connection.execute("LOCK TABLE documents, document_chunks IN ACCESS EXCLUSIVE MODE")
            # Another source may have got its first rows meanwhile.
            if not scalar(connection, f"SELECT {_IS_EMPTY}"):
                return False
            for name in DEFERRED:
                connection.execute(f"DROP INDEX IF EXISTS {name}")
            return True
    except psycopg.errors.LockNotAvailable:
        return False


def build_deferred_indexes(connection: Connection, sources: Sequence[uuid.UUID]) -> list[str]:
    """Build the indexes that are missing, once no sync of these sources runs. Returns their names.

    Writers of the tables wait meanwhile: two seconds for 20,000 chunks. The next sync builds those that another session
    builds now, or whose table a writer keeps for longer than five seconds.
    """
    missing = scalars(
        connection,
        f"""SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NULL AND {_IS_OWNER}
              AND NOT EXISTS (SELECT FROM sources WHERE id = ANY(%s) AND sync_status = 'running')""",
        [list(DEFERRED), list(sources)],
    )
    if not missing:
        return []
    try:
        with connection.transaction():
            if not scalar(
                connection,
                "SELECT pg_try_advisory_xact_lock(hashtextextended('rag-assets indexes', 0))",
            ):
                return []
            connection.execute("SET LOCAL lock_timeout = '5s'")
            for name, definition in DEFERRED.items():
                if name in missing:
                    connection.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {definition}")
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        return []
    return missing
