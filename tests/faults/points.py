"""Every fault point: its number in the protocol, its name in the code, where, and how often a sync passes it.

`many`: three times and more, so that its first, middle and last passage are three cells of the sweep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Point:
    number: int
    name: str
    where: str
    passed: Literal["once", "twice", "many"] = "many"
    by: Literal["sync", "repair", "rebuild", "forget", "compact", "milvus"] = "sync"


POINTS = (
    Point(1, "entry-read", "source_documents: an entry was read, its record is not written"),
    Point(2, "documents-written", "documents: a batch is written, before COMMIT"),
    Point(3, "chunks-written", "document_chunks: a batch is written, before COMMIT"),
    Point(4, "chunks-committed", "document_chunks: after the COMMIT of chunks and outbox"),
    Point(5, "texts-embedded", "chunk_embeddings: a batch is embedded, before Parquet"),
    Point(6, "file-written", "files: the temporary file is written, before fsync"),
    Point(7, "file-synced", "files: before the rename"),
    Point(8, "file-renamed", "files: before the fsync of the folder"),
    Point(9, "file-in-place", "chunk_embeddings: the file is durable, PostgreSQL does not know it"),
    Point(10, "file-recorded", "chunk_embeddings: PostgreSQL knows the file"),
    Point(11, "deletions-claimed", "outbox: a batch is claimed, Milvus is not asked yet"),
    Point(12, "upsert-answered", "milvus: between two upserts"),
    Point(13, "batch-upserted", "vectors: Milvus acknowledged a batch, PostgreSQL has no record"),
    Point(14, "upsert-sent", "milvus: inside an upsert, the server dies and the client lives"),
    Point(15, "batch-recorded", "vectors: a batch is recorded, before the next one"),
    Point(16, "deletions-done", "outbox: Milvus acknowledged a deletion, before COMMIT"),
    Point(17, "flush", "Milvus Lite: a step of a flush", by="milvus"),
    Point(18, "maintenance", "Milvus Lite: a step of compaction or index build", by="milvus"),
    Point(19, "collection-loaded", "publishing: a whole new collection, before the alias moves", "twice", "rebuild"),
    Point(20, "alias-moved", "publishing: the alias moved, PostgreSQL does not know", "twice", "rebuild"),
    Point(21, "collection-dropping", "publishing: Milvus dropped it, PostgreSQL knows it still", "twice", "rebuild"),
    Point(22, "rebuild-batch", "rebuild: Milvus acknowledged a batch, before COMMIT", "many", "rebuild"),
    Point(22, "forget-vectors", "forget: the rows are deleted from Milvus", "once", "forget"),
    Point(22, "forget-drained", "forget: what the source owes to Milvus is done", "once", "forget"),
    Point(22, "forget-rewritten", "forget: a file is written without the texts, before COMMIT", "many", "forget"),
    Point(22, "forget-parquet", "forget: every file is rewritten, before the raw store", "once", "forget"),
    Point(22, "compaction-written", "compaction: a file is written, before COMMIT", "once", "compact"),
    Point(23, "deletions-allowed", "source_documents: the guard said yes, before deletions", "once"),
    Point(24, "repair-planned", "repair: what is wrong is known", "once", "repair"),
    Point(24, "repair-half-done", "repair: rows are voided or deleted, not written", "once", "repair"),
    Point(24, "repair-done", "repair: all is written and compared, before it says so", "once", "repair"),
)  # fmt: skip
