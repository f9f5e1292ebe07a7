"""Invariants after a sync, besides equal stores: files, chunks, Parquet, statuses, aliases and searches.

Like oracle.py, this shares no code with the product. The numbers are those of the protocol's invariants.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow.parquet as pq
from pymilvus import MilvusClient

from tests.support.oracle import disagreements, scan

#: Maximum number of rows whose own vector is searched for; of more rows, a sample.
SEARCHED = 2_000
#: Seconds for which a Parquet file may be unrecorded.
GRACE = 24 * 3600


def violations(
    postgres_url: str,
    milvus_uri: str,
    folder: Path,
    storage: Path,
    kinds: tuple[str, ...] = ("dense", "sparse"),
) -> list[str]:
    """Return every violated invariant as a sentence. To call between runs, when everything is synced."""
    problems = disagreements(postgres_url, milvus_uri, kinds)
    client = MilvusClient(milvus_uri)
    try:
        with psycopg.connect(postgres_url) as connection:
            problems += _documents(connection, folder)
            problems += _files(connection, storage)
            problems += _progress(connection)
            problems += _aliases(connection, client)
        for kind in kinds:
            problems += _vectors(client, kind)
    finally:
        client.close()
    return problems


def remains_of_erasures(postgres_url: str, milvus_uri: str, storage: Path) -> list[str]:
    """Return the remains of erased documents in any store, apart from data that other documents share."""
    with psycopg.connect(postgres_url) as connection:
        erasures = connection.execute(
            """SELECT document_id::text, f.text_hashes, f.raw_hashes FROM forgotten f"""
        ).fetchall()
        rows = connection.execute(
            """SELECT 'document', id::text FROM documents UNION ALL SELECT 'text', text_hash FROM document_chunks
               UNION ALL SELECT 'raw', raw_hash FROM documents
               UNION ALL SELECT 'version', document_id::text FROM document_versions
               UNION ALL SELECT 'embedding', text_hash FROM embeddings"""
        ).fetchall()
    kinds = ("document", "version", "text", "raw", "embedding")
    stored: dict[str, set[str]] = {kind: set() for kind in kinds}
    for kind, value in rows:
        stored[kind].add(value)
    documents = {document for document, *_ in erasures}
    texts = {text for _, texts, _ in erasures for text in texts} - stored["text"]
    raws = {raw for *_, raws in erasures for raw in raws} - stored["raw"]
    assert documents
    assert texts
    assert raws
    remains = [f"document {document} is there" for document in documents & stored["document"]]
    remains += [f"a version of {document} is there" for document in documents & stored["version"]]
    remains += [
        f"PostgreSQL records an embedding of {text}" for text in texts & stored["embedding"]
    ]
    for path in (storage / "embeddings").rglob("*.parquet"):
        embedded = texts & set(pq.read_table(path, columns=["text_hash"])["text_hash"].to_pylist())
        remains += [f"{path} has an embedding of {text}" for text in embedded]
    remains += [f"{path} is there" for path in (storage / "raw").rglob("*") if path.name in raws]
    client = MilvusClient(milvus_uri)
    try:
        names: Any = client.list_collections()
        for name in names:
            left = client.query(
                name, f"document_id in {sorted(documents)}", output_fields=["id"], limit=100
            )
            remains += [f"{name} has {row['id']}" for row in left]
    finally:
        client.close()
    return remains


def _documents(connection: psycopg.Connection, folder: Path) -> list[str]:
    """Invariant 1: each file has a document, made of its bytes and complete, and its chunks lose none of its text."""
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
    documents = connection.execute(
        """SELECT d.source_key, d.raw_hash, d.processing_status, d.indexing_status, d.content,
             (SELECT string_agg(c.content, ' ' ORDER BY c.position) FROM document_chunks c WHERE c.document_id = d.id)
           FROM documents d"""
    ).fetchall()
    raw_hashes = {key: digest for key, digest, *_ in documents}
    return [
        *(f"{key} has no document" for key in files.keys() - raw_hashes.keys()),
        *(f"{key} is gone, its document is not" for key in raw_hashes.keys() - files.keys()),
        *(
            f"{key} has other bytes than its document"
            for key in files.keys() & raw_hashes
            if files[key] != raw_hashes[key]
        ),
        *(
            f"{key} is {processing}/{indexing}"
            for key, _, processing, indexing, *_ in documents
            if (processing, indexing) != ("completed", "completed")
        ),
        *(
            f"{key}: its chunks do not contain its text"
            for key, *_, content, chunks in documents
            if "".join(content.split()) != "".join((chunks or "").split())
        ),
    ]


def _files(connection: psycopg.Connection, storage: Path) -> list[str]:
    """Invariant 8: recorded Parquet files are there and whole; unrecorded ones are young."""
    recorded = dict(connection.execute("SELECT path, checksum FROM embedding_files").fetchall())
    problems = []
    for name, checksum in recorded.items():
        path = storage / name
        if not path.exists():
            problems.append(f"{name} is recorded, but gone")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            problems.append(f"{name} has another checksum")
    for path in (storage / "embeddings").rglob("*"):
        if not path.is_file() or path.relative_to(storage).as_posix() in recorded:
            continue
        if time.time() - path.stat().st_mtime > GRACE:
            problems.append(f"{path} is not recorded")
    return problems


def _progress(connection: psycopg.Connection) -> list[str]:
    """Invariants 9 and 10: nothing is in progress, no partition is locked, no acknowledgement has a future epoch."""
    rows = connection.execute(
        """SELECT 'documents in progress', count(*) FROM documents
             WHERE processing_status = 'processing' OR indexing_status = 'indexing'
           UNION ALL SELECT 'chunks in progress', count(*) FROM document_chunks WHERE embedding_status = 'processing'
           UNION ALL SELECT 'sources in progress', count(*) FROM sources WHERE sync_status = 'running'
           UNION ALL SELECT 'advisory locks', count(*) FROM pg_locks WHERE locktype = 'advisory'
           UNION ALL SELECT 'transactions left open', count(*) FROM pg_stat_activity
             WHERE state LIKE 'idle in transaction%' AND datname = current_database()
           UNION ALL SELECT 'acknowledgements of an epoch that never was', count(*) FROM vector_rows
             WHERE epoch > (SELECT max(epoch) FROM partition_writers)"""
    )
    return [f"{count} {what}" for what, count in rows if count]


def _aliases(connection: psycopg.Connection, client: MilvusClient) -> list[str]:
    """Invariant 11: each alias points at the collection that PostgreSQL records as serving; Milvus has no other."""
    collections = connection.execute("SELECT name, alias, state FROM vector_collections").fetchall()
    problems = []
    for alias in {alias for _, alias, _ in collections}:
        serving = [name for name, a, state in collections if a == alias and state == "serving"]
        target = client.describe_alias(alias)["collection_name"]
        if serving != [target]:
            problems.append(f"{alias} points at {target}, PostgreSQL records {serving}")
    existing: Any = client.list_collections()
    unknown = set(existing) - {name for name, *_ in collections}
    return [*problems, *(f"{name} is in Milvus, PostgreSQL does not know it" for name in unknown)]


def _vectors(client: MilvusClient, kind: str) -> list[str]:
    """Invariants 5, 6 and 7: each vector is valid; a search for it finds its row or an equal one, and live rows."""
    collection = f"{kind}_collection"
    ids = sorted({row_id for row_id, _ in scan(client, collection)})
    sample = set(random.Random(0).sample(ids, min(SEARCHED, len(ids))))
    problems = []
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        rows = client.get(collection, part, output_fields=["id", "vector"])
        vectors = {row["id"]: row["vector"] for row in rows}
        problems += [
            f"{kind}: {row_id} {problem}"
            for row_id in part
            if (problem := _problem_of_vector(kind, vectors.get(row_id)))
        ]
        searched = [row_id for row_id in part if row_id in sample and vectors.get(row_id)]
        problems += _searches(client, collection, kind, vectors, searched, set(ids))
    return problems


def _problem_of_vector(kind: str, vector: Any) -> str:
    if not vector:
        return "has no vector"
    values = np.array(list(vector.values()) if kind == "sparse" else vector, np.float64)
    if not np.isfinite(values).all():
        return "is not finite"
    norm = float(np.linalg.norm(values))
    return f"has norm {norm}" if kind != "sparse" and abs(norm - 1) > 1e-3 else ""


def _searches(
    client: MilvusClient,
    collection: str,
    kind: str,
    vectors: dict[str, Any],
    searched: Sequence[str],
    live: set[str],
) -> list[str]:
    problems = []
    for start in range(0, len(searched), 100):
        part = searched[start : start + 100]
        answers = client.search(
            collection,
            [vectors[row_id] for row_id in part],
            limit=3,
            anns_field="vector",
            # Milvus Lite sends all fields by default.
            output_fields=["id"],
            search_params={"metric_type": "IP", "params": {} if kind == "sparse" else {"ef": 256}},
        )
        for row_id, hits in zip(part, answers):
            vector = vectors[row_id]
            own = sum(v * v for v in (vector.values() if kind == "sparse" else vector))
            if not hits or hits[0]["distance"] < own - 1e-3:
                problems.append(f"{kind}: a search for the vector of {row_id} does not find it")
            problems += [
                f"{kind}: a search shows {hit['id']}, which the scan does not"
                for hit in hits
                if hit["id"] not in live
            ]
    return problems
