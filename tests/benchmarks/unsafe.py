"""`rag` without its consistency mechanisms, for `ingestion`: `python -m tests.benchmarks.unsafe ingest …`.

No advisory lock, no epochs, no outbox and no read-back; the rest is the product. Instead, this process does what a
script would do: it remembers the deleted chunks, and deletes their rows in the stage of the vectors.
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

#: Deleted chunks whose rows are not yet deleted.
_gone: set[uuid.UUID] = set()


def prepare(home: Path) -> None:
    """Disable the trigger of the outbox in a home whose database runs."""
    with psycopg.connect(running(home)["postgres"], autocommit=True) as connection:
        connection.execute("ALTER TABLE document_chunks DISABLE TRIGGER document_chunks_deleted")


def verify(home: Path) -> None:
    """Check that no safety mechanism was active, and that Milvus has as many rows as there are chunks."""
    from pymilvus import MilvusClient

    with psycopg.connect(running(home)["postgres"]) as connection:
        row = connection.execute(
            """SELECT (SELECT count(*) FROM partition_writers), (SELECT count(*) FROM vector_deletions),
                 (SELECT count(*) FROM document_chunks)"""
        ).fetchone()
    assert row is not None
    client: Any = MilvusClient(running(home)["milvus"])
    (counted,) = client.query("dense_collection", filter="", output_fields=["count(*)"])
    client.close()
    if row != (0, 0, counted["count(*)"]):
        raise SystemExit(
            f"expected 0 writers, 0 in the outbox, as many chunks as rows; found {row}, {counted}"
        )


@contextmanager
def _writers(
    self: Postgres, partitions: Sequence[str], *, patience: float | None = None, run: str = ""
) -> Iterator[list[Writer]]:
    with self.connect(autocommit=True) as connection:
        connection.execute("SELECT set_config('rag.run', %s, false)", [run])
        yield [Writer(connection, name, 0, lambda: connection, self) for name in partitions]


def main() -> None:
    from rag_assets.cli.main import main as rag
    from rag_assets.ingestion import index, split
    from resources.milvus.store import MilvusStore
    from resources.postgres.vectors.collections import collections

    write = split.write_chunks

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

    def drain(writer: Writer, store: MilvusStore, scope: SyncScope, kind: Any) -> int:
        deleted = len(_gone)
        for collection in collections(writer.connection, kind=kind) if deleted else ():
            store.delete_chunks(collection.name, kind, dict.fromkeys(_gone))
        _gone.clear()
        return deleted

    with ExitStack() as stack:
        for owner, name, replacement in (
            (Postgres, "writers", _writers),
            (Writer, "_check_epoch", lambda *_: None),
            (MilvusStore, "_read_back", lambda *_: None),
            (split, "write_chunks", write_chunks),
            (index, "drain", drain),
        ):
            stack.enter_context(patch.object(owner, name, replacement))
        rag()


if __name__ == "__main__":
    main()
