"""The floors of a first load: the time of a script that only reads, splits, copies, writes Parquet and upserts.

`python -m tests.benchmarks.floors POSTGRES_URL MILVUS_URI FOLDER` prints one line of JSON: the seconds of each step.
The steps run one after the other in this process, for the rows that `rag ingest` makes of the folder's *.md, in batches
of its size. The work between them (ids, hashes, the free embedder) does not count. Nothing is planned or recorded.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
from psycopg import sql
from pymilvus import MilvusClient

from rag_assets.pipeline.chunking import ChunkingConfig, split
from rag_assets.pipeline.identity import chunk_id, document_id, text_hash
from rag_assets.settings.search import EMBEDDED_INDEX
from resources.embedding_files import ROW_GROUP_ROWS, to_table
from resources.milvus.collections import VECTOR_FIELD, Layout, create
from resources.milvus.rows import RowFields
from resources.milvus.writes import UPSERT_ROWS, UPSERTS
from tests.benchmarks.free_embedder import FreeEmbedder
from tests.benchmarks.workload import MAX_CHARS, NAME, markdown_files, until_quiet

FLOORS = ("read", "split", "COPY", "Parquet", "Milvus")
#: Texts per embedding call, at least a row group.
TEXTS = 1024


class Timed(dict[str, float]):
    """Step -> seconds."""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self[name] = self.get(name, 0.0) + time.perf_counter() - started


def main(postgres_url: str, milvus_uri: str, folder: Path) -> dict[str, Any]:
    quiet, timed = until_quiet(), Timed()
    with timed.part("read"):
        texts = {
            path.relative_to(folder).as_posix(): path.read_bytes().decode(errors="replace")
            for path in markdown_files(folder)
        }
    with timed.part("split"):
        config = ChunkingConfig(MAX_CHARS)
        chunks = {key: split(text, markdown=True, config=config) for key, text in texts.items()}
    source = uuid.uuid4()
    documents = [(document_id(source, key), key, text) for key, text in texts.items()]
    rows = [
        (
            chunk_id(document, digest := text_hash(chunk.content), chunk.position),
            document,
            chunk.content,
            chunk.chunk_type,
            chunk.position,
            chunk.section_title,
            chunk.token_count,
            digest,
        )
        for document, key, _ in documents
        for chunk in chunks[key]
    ]
    copy_both(postgres_url, documents, rows, timed)
    distinct = {digest: content for _, _, content, *_, digest in rows}
    vectors = write_parquet(folder.with_suffix(".parquet"), distinct, timed)
    upsert(milvus_uri, rows, vectors, timed)
    return {
        **timed,
        "floors": sum(timed[name] for name in FLOORS),
        "chunks": len(rows),
        "quiet": quiet,
    }


def copy_both(
    url: str, documents: Sequence[Sequence[Any]], rows: Sequence[Sequence[Any]], timed: Timed
) -> None:
    """Copy documents and chunks into tables without indexes, in one transaction."""
    columns = {
        "floor_documents": "id uuid, key text, content text",
        "floor_chunks": "id uuid, document_id uuid, content text, chunk_type text, position int4, section_title text,"
        " token_count int4, text_hash text",
    }
    with psycopg.connect(url) as connection, timed.part("COPY"):
        for (table, definition), records in zip(columns.items(), (documents, rows)):
            name = sql.Identifier(table)
            connection.execute(
                sql.SQL("CREATE TABLE {} ({})").format(name, sql.SQL(definition))  # pyright: ignore[reportArgumentType]
            )
            statement = sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(name)
            with connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.set_types([column.split()[1] for column in definition.split(",")])
                for record in records:
                    copy.write_row(record)
        connection.commit()


def write_parquet(path: Path, texts: dict[str, str], timed: Timed) -> dict[str, Any]:
    """Write one file of the distinct texts' vectors and sync it to disk. Returns hash -> vector."""
    model, vectors, writer = FreeEmbedder(), {}, None
    hashes = list(texts)
    with path.open("wb") as file:
        for start in range(0, len(hashes), TEXTS):
            batch = hashes[start : start + TEXTS]
            embedded = model.embed([texts[digest] for digest in batch], ["dense"])
            assert embedded.dense is not None
            vectors.update(zip(batch, embedded.dense))
            with timed.part("Parquet"):
                table = to_table(batch, embedded)
                writer = writer or pq.ParquetWriter(
                    file, table.schema, use_dictionary=False, compression="none", write_statistics=False
                )  # fmt: skip
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        with timed.part("Parquet"):
            if writer is not None:
                writer.close()
            file.flush()
            os.fsync(file.fileno())
    return vectors


def upsert(uri: str, rows: Sequence[Sequence[Any]], vectors: dict[str, Any], timed: Timed) -> None:
    """Upsert the rows into a collection of the project's layout, with its batch size and concurrency."""
    client: Any = MilvusClient(uri)
    create(client, NAME, Layout("dense", FreeEmbedder.dimension, EMBEDDED_INDEX), 30)

    def fields(row: Sequence[Any]) -> dict[str, Any]:
        row_fields = RowFields(
            row[0], row[-1][:32], row[1], "folder", NAME, "en", row[4], 0, "text", None, None, []
        )
        return {**row_fields.as_row(f"{row[0]}_dense"), VECTOR_FIELD: vectors[row[-1]]}

    def send(start: int) -> None:
        client.upsert(NAME, [fields(row) for row in rows[start : start + UPSERT_ROWS]])

    with timed.part("Milvus"), ThreadPoolExecutor(UPSERTS) as pool:
        list(pool.map(send, range(0, len(rows), UPSERT_ROWS)))
    client.close()


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
