"""The deviations from the schema that other services rely on. A test finds every difference that can be compared."""

from __future__ import annotations

from dataclasses import dataclass

from tests.docs.reference.markdown import table


@dataclass(frozen=True)
class Deviation:
    """`differences`: those of `contract` that this explains; none if the deviation cannot be compared."""

    where: str
    reference: str
    here: str
    reason: str
    differences: frozenset[str] = frozenset()


def _of(*differences: str) -> frozenset[str]:
    return frozenset(differences)


_ROWS = "dense_collection", "sparse_collection", "multi_collection"

DEVIATIONS = (
    Deviation(
        "documents.source_id",
        "VARCHAR(255), the document's key",
        "TEXT, `<source>/<key>`; the key itself is source_key",
        "a path or URL may be longer, and two sources may have the same key",
        _of("documents.source_id: varchar(255)"),
    ),
    Deviation(
        "documents.language",
        "default `ja`",
        "the same default for rows of other writers; a sync writes the detected language, or NULL",
        "a wrong language is worse than none",
    ),
    Deviation(
        "documents.created_at",
        "any time",
        "finite (a check constraint)",
        "rows in Milvus have it in seconds",
    ),
    Deviation(
        "documents, document_chunks, sources: counts, statuses, flags and times",
        "nullable where not stated",
        "NOT NULL with a default, hierarchy_level with 1",
        "no reader has to handle NULL",
    ),
    Deviation(
        "documents and document_chunks: partitions",
        "range partitions by month for growth",
        "only the history, document_versions, is partitioned; documents and document_chunks are not",
        "both are read by id, which a partition by time would look for in every month",
    ),
    Deviation(
        "updated_at under plain SQL",
        "changes with the row",
        "a trigger sets it, unless the statement does; not for search_count and last_search_score",
        "a search does not change a chunk",
    ),
    Deviation(
        "document_chunks.parent_chunk_id",
        "a foreign key",
        "ON DELETE SET NULL, deferred",
        "the chunks of a section may be deleted in any order",
    ),
    Deviation(
        "document_chunks.content",
        "any statement may change it",
        "only with its document: an UPDATE of it or of text_hash is an error",
        "a search would find the new text by the vector of the old one",
    ),
    Deviation(
        "sources.name",
        "unique with source_type",
        "also unique alone, and 1 to 100 letters, digits, `.`, `_`, `-` and spaces",
        "the name is the partition in Dagster",
    ),
    Deviation(
        "outbox (vector_deletions)",
        "the vector ids of deleted chunks",
        "the id of the chunk, its kinds and the number of its rows",
        "the ids in Milvus follow from these",
    ),
    Deviation(
        "indexes on big tables",
        "CONCURRENTLY",
        "with their tables, in the migration's transaction; former_texts (migration 0013) is locked while its is built",
        "no other index was added to a big table; a migration is applied as a whole or not at all",
    ),
    Deviation(
        "TRUNCATE",
        "not stated",
        "deletes the rows one by one, so that their vectors leave Milvus",
        "TRUNCATE fires no DELETE triggers",
    ),
    Deviation(
        "api_keys.usage_count",
        "INTEGER",
        "BIGINT",
        "a key of a busy program makes 2 billion requests in some months",
        _of("api_keys.usage_count: integer"),
    ),
    Deviation(
        "Redis: search_cache, embedding_cache",
        "caches of results and of query vectors",
        "not in this version; the server counts requests for their limits",
        "each process keeps the vectors of recent queries in its memory",
    ),
    Deviation(
        "chatbot collections",
        "a collection for each account",
        "not in this version",
        "the service answers from the three collections",
        _of("chatbot collections: collection"),
    ),
    Deviation(
        "vector of dense_collection and multi_collection",
        "FLOAT_VECTOR(1024)",
        "FLOAT_VECTOR(dimension of the model): 1024, but 128 in multi_collection with the lexical embedder",
        "other models have other dimensions",
        _of("multi_collection.vector: FLOAT_VECTOR(1024)"),
    ),
    Deviation(
        "source_type of all collections",
        "VARCHAR(50)",
        "VARCHAR(255)",
        "Milvus counts bytes, PostgreSQL characters; a field cannot be widened later",
        _of(*(f"{name}.source_type: VARCHAR(50)" for name in _ROWS)),
    ),
    Deviation(
        "fields of all collections",
        "as listed there",
        "also source, author, category, tags, chunk_type and row_fingerprint; multi_collection language and chunk_id",
        "searches filter by them, and row_fingerprint tells a stale row from a right one",
    ),
    Deviation(
        "names of collections",
        "dense_collection and so on",
        "aliases of `<alias>__<model fingerprint>`",
        "a new model's collection is filled while the old one serves",
    ),
    Deviation(
        "language of rows",
        "two letters",
        "empty if undetermined, and a chunk's own language if it differs from its document's",
        "Milvus of all versions has no NULL",
    ),
    Deviation(
        "index of dense_collection and multi_collection",
        "HNSW, IP, M 16, efConstruction 256",
        "the same; on Milvus Lite IVF_FLAT, IP, nlist 128",
        "its HNSW is built for minutes and loses rows among equal ones: [decisions](../explanation/decisions.md)",
    ),
    Deviation(
        "search of an IVF index",
        "nprobe 16",
        "nprobe 64 (`RAG_DENSE_SEARCH`); ef 128 with HNSW as there",
        "with 16 of 128 lists a search misses more of the nearest neighbours",
    ),
    Deviation(
        "multi_collection",
        "one row per chunk",
        "one row per token, with the id `{chunk}_multi_00000` and so on",
        "only Milvus 2.6.4 or newer searches arrays of vectors: [decisions](../explanation/decisions.md)",
    ),
    Deviation(
        "normalisation",
        "L2 for every vector",
        "dense and multi-vectors; sparse ones keep their weights",
        "the length of a sparse vector is part of its score",
    ),
    Deviation(
        "consistency level",
        "Strong for checked writes",
        "Strong for writes and checks; searches have `RAG_SEARCH_CONSISTENCY`, Bounded",
        "a Strong search waits 0.2 s",
    ),
)  # fmt: skip

INTRODUCTION = """\
## Deviations from the reference schema
The data model has a reference: the tables, columns and collections that other services rely on. Columns and tables
beyond it are additions, not deviations."""


def section() -> str:
    rows = [(item.where, item.reference, item.here, item.reason) for item in DEVIATIONS]
    return INTRODUCTION + "\n\n" + table(("where", "reference", "here", "reason"), rows)
