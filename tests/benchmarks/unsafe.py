"""`rag` without what keeps its stores equal: `python -m tests.benchmarks.unsafe ingest …`. For `ingestion` only.

No advisory lock, no epochs, no outbox and no read-back; the rest is the product. What a script would do instead is
done: chunks that go are remembered in this process, and their rows deleted when the vectors' turn comes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg

from resources.embedded.stack import running
from resources.postgres.connection import Connection, Postgres, Writer
from resources.postgres.scope import SyncScope

#: Chunks that were deleted since their rows were.
_gone: set[uuid.UUID] = set()


def prepare(home: Path) -> None:
    """Takes the outbox's trigger from a home whose database is up."""
    with psycopg.connect(running(home)["postgres"], autocommit=True) as connection:
        connection.execute("ALTER TABLE document_chunks DISABLE TRIGGER document_chunks_deleted")


def verify(home: Path) -> None:
    """Nothing of the safety was at work, and yet as many rows are in Milvus as there are chunks."""
    from pymilvus import MilvusClient

    with psycopg.connect(running(home)["postgres"]) as connection:
        row = connection.execute(
            """SELECT (SELECT count(*) FROM partition_writers), (SELECT count(*) FROM vector_deletions),
                 (SELECT count(*) FROM document_chunks)"""
        ).fetchone()
    assert row is not None
    client: Any = MilvusClient(running(home)["milvus"])
    (found,) = client.query("dense_collection", filter="", output_fields=["count(*)"])
    client.close()
    if row != (0, 0, found["count(*)"]):
        raise SystemExit(
            f"expected 0 writers, 0 in the outbox, as many chunks as rows; found {row}, {found}"
        )


@contextmanager
def _writers(
    self: Postgres, partitions: Sequence[str], *, patience: float | None = None, run: str = ""
) -> Iterator[list[Writer]]:
    with self.connect(autocommit=True) as connection:
        connection.execute("SELECT set_config('rag.run', %s, false)", [run])
        yield [Writer(connection, name, 0, lambda: connection, self) for name in partitions]


def main() -> None:
    from rag_assets.assets import document_chunks, vectors
    from rag_assets.cli.main import main as rag
    from resources.milvus.store import MilvusStore
    from resources.postgres.vectors.collections import collections

    write = document_chunks.write_chunks

    def write_chunks(
        connection: Connection, batch: int, rows: Iterable[Sequence[Any]], chunker: str
    ) -> Any:
        rows = list(rows)
        before = connection.execute(
            """SELECT c.id FROM pg_temp.todo t JOIN document_chunks c ON c.document_id = t.id
               WHERE t.batch = %s""",
            [batch],
        ).fetchall()
        _gone.update({chunk for (chunk,) in before} - {row[0] for row in rows})
        return write(connection, batch, rows, chunker)

    def drain(writer: Writer, store: MilvusStore, part: SyncScope, kind: Any) -> int:
        deleted = len(_gone)
        for collection in collections(writer.connection, kind=kind) if deleted else ():
            store.delete_chunks(collection.name, kind, dict.fromkeys(_gone))
        _gone.clear()
        return deleted

    with ExitStack() as stack:
        for owner, name, instead in (
            (Postgres, "writers", _writers),
            (Writer, "_check_epoch", lambda *_: None),
            (MilvusStore, "_read_back", lambda *_: None),
            (document_chunks, "write_chunks", write_chunks),
            (vectors, "drain", drain),
        ):
            stack.enter_context(patch.object(owner, name, instead))
        rag()


if __name__ == "__main__":
    main()
