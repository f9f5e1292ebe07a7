"""Every fault point: its number in the protocol, its name in the code, its place, and how often the work passes it.

`many` is three times or more: the first, middle and last passage are three cells of the sweep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Point:
    number: int
    name: str
    where: str
    passages: Literal["once", "twice", "many"] = "many"
    work: Literal["sync", "repair", "rebuild", "forget", "compact", "milvus"] = "sync"


POINTS = (
    Point(1, "entry-read", "source_documents: after an entry is read, before its record is written"),
    Point(2, "documents-written", "documents: after a batch is written, before COMMIT"),
    Point(3, "chunks-written", "document_chunks: after a batch is written, before COMMIT"),
    Point(4, "chunks-committed", "document_chunks: after the COMMIT of chunks and outbox"),
    Point(5, "texts-embedded", "chunk_embeddings: after a batch is embedded, before Parquet"),
    Point(6, "file-written", "files: after the temporary file is written, before fsync"),
    Point(7, "file-synced", "files: after fsync, before the rename"),
    Point(8, "file-renamed", "files: after the rename, before the fsync of the folder"),
    Point(9, "file-in-place", "chunk_embeddings: after the file is durable, before PostgreSQL records it"),
    Point(10, "file-recorded", "chunk_embeddings: after PostgreSQL records the file"),
    Point(11, "deletions-claimed", "outbox: after a batch is claimed, before the request to Milvus"),
    Point(12, "upsert-answered", "milvus: after an upsert, before the next one"),
    Point(13, "batch-upserted", "vectors: after Milvus acknowledges a batch, before PostgreSQL records it"),
    Point(14, "upsert-sent", "milvus: during an upsert; the server dies, the client lives"),
    Point(15, "batch-recorded", "vectors: after a batch is recorded, before the next one"),
    Point(16, "deletions-done", "outbox: after Milvus acknowledges a deletion, before COMMIT"),
    Point(17, "flush", "Milvus Lite: at a step of a flush", work="milvus"),
    Point(18, "maintenance", "Milvus Lite: at a step of a compaction or an index build", work="milvus"),
    Point(19, "collection-loaded", "publishing: after a collection is filled, before the alias", "twice", "rebuild"),
    Point(20, "alias-moved", "publishing: after the alias moves, before PostgreSQL records it", "twice", "rebuild"),
    Point(21, "collection-dropping", "publishing: after Milvus drops it, before PostgreSQL does", "twice", "rebuild"),
    Point(22, "rebuild-batch", "rebuild: after Milvus acknowledges a batch, before COMMIT", "many", "rebuild"),
    Point(22, "forget-vectors", "forget: after the rows are deleted from Milvus", "once", "forget"),
    Point(22, "forget-drained", "forget: after the outbox of the source is drained", "once", "forget"),
    Point(22, "forget-rewritten", "forget: after a file is written without the texts, before COMMIT", "many", "forget"),
    Point(22, "forget-parquet", "forget: after every file is rewritten, before the raw store", "once", "forget"),
    Point(22, "compaction-written", "compaction: after a file is written, before COMMIT", "once", "compact"),
    Point(23, "deletions-allowed", "source_documents: after the guard allows the deletions, before them", "once"),
    Point(24, "repair-planned", "repair: after the findings are known", "once", "repair"),
    Point(24, "repair-half-done", "repair: after rows are voided or deleted, before any is written", "once", "repair"),
    Point(24, "repair-done", "repair: after all is written and compared, before the report", "once", "repair"),
)  # fmt: skip
