"""What holds once a sync has ended, beside equal stores: files, chunks, Parquet, statuses, aliases and searches.

Reads everything by itself, as oracle.py does, and shares no code with the product. Numbers are those of the protocol.
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

#: Rows whose own vector is searched for; of more rows a sample.
SEARCHED = 2_000
#: Seconds for which a Parquet file may be on its way into PostgreSQL.
GRACE = 24 * 3600


def violations(
    postgres_url: str,
    milvus_uri: str,
    folder: Path,
    storage: Path,
    kinds: tuple[str, ...] = ("dense", "sparse"),
) -> list[str]:
    """Every invariant that does not hold between runs, as sentences: nothing is at work, everything was synced."""
    found = disagreements(postgres_url, milvus_uri, kinds)
    client = MilvusClient(milvus_uri)
    try:
        with psycopg.connect(postgres_url) as connection:
            found += _documents(connection, folder)
            found += _files(connection, storage)
            found += _progress(connection)
            found += _aliases(connection, client)
        for kind in kinds:
            found += _vectors(client, kind)
    finally:
        client.close()
    return found


def remembered(postgres_url: str, milvus_uri: str, storage: Path) -> list[str]:
    """What any store still has of a document that was forgotten, and that no other document has."""
    with psycopg.connect(postgres_url) as connection:
        forgotten = connection.execute(
            """SELECT document_id::text, f.text_hashes, f.raw_hashes FROM forgotten f"""
        ).fetchall()
        rows = connection.execute(
            """SELECT 'document', id::text FROM documents UNION ALL SELECT 'text', text_hash FROM document_chunks
               UNION ALL SELECT 'raw', raw_hash FROM documents
               UNION ALL SELECT 'version', document_id::text FROM document_versions
               UNION ALL SELECT 'embedding', text_hash FROM embeddings"""
        ).fetchall()
    kinds = ("document", "version", "text", "raw", "embedding")
    has: dict[str, set[str]] = {kind: set() for kind in kinds}
    for what, value in rows:
        has[what].add(value)
    documents = {document for document, *_ in forgotten}
    texts = {text for _, texts, _ in forgotten for text in texts} - has["text"]
    raws = {raw for *_, raws in forgotten for raw in raws} - has["raw"]
    assert documents
    assert texts
    assert raws
    found = [f"document {each} is there" for each in documents & has["document"]]
    found += [f"a version of {each} is there" for each in documents & has["version"]]
    found += [f"PostgreSQL knows an embedding of {each}" for each in texts & has["embedding"]]
    for path in (storage / "embeddings").rglob("*.parquet"):
        held = texts & set(pq.read_table(path, columns=["text_hash"])["text_hash"].to_pylist())
        found += [f"{path} has an embedding of {text}" for text in held]
    found += [f"{path} is there" for path in (storage / "raw").rglob("*") if path.name in raws]
    client = MilvusClient(milvus_uri)
    try:
        names: Any = client.list_collections()
        for name in names:
            held = client.query(
                name, f"document_id in {sorted(documents)}", output_fields=["id"], limit=100
            )
            found += [f"{name} has {row['id']}" for row in held]
    finally:
        client.close()
    return found


def _documents(connection: psycopg.Connection, folder: Path) -> list[str]:
    """1: a document for each file, made of its bytes, complete, and no text of it lost on its way into chunks."""
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
    known = {key: digest for key, digest, *_ in documents}
    return [
        *(f"{key} has no document" for key in files.keys() - known.keys()),
        *(f"{key} is gone, its document is not" for key in known.keys() - files.keys()),
        *(f"{key} is of other bytes" for key in files.keys() & known if files[key] != known[key]),
        *(
            f"{key} is {processing}/{indexing}"
            for key, _, processing, indexing, *_ in documents
            if (processing, indexing) != ("completed", "completed")
        ),
        *(
            f"{key}: its chunks do not hold its text"
            for key, *_, content, chunks in documents
            if "".join(content.split()) != "".join((chunks or "").split())
        ),
    ]


def _files(connection: psycopg.Connection, storage: Path) -> list[str]:
    """8: recorded Parquet files are there and whole; what nobody recorded is young."""
    recorded = dict(connection.execute("SELECT path, checksum FROM embedding_files").fetchall())
    found = []
    for name, checksum in recorded.items():
        path = storage / name
        if not path.exists():
            found.append(f"{name} is recorded, but gone")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            found.append(f"{name} has another checksum")
    for path in (storage / "embeddings").rglob("*"):
        if not path.is_file() or path.relative_to(storage).as_posix() in recorded:
            continue
        if time.time() - path.stat().st_mtime > GRACE:
            found.append(f"{path} is nobody's")
    return found


def _progress(connection: psycopg.Connection) -> list[str]:
    """9 and 10: nothing is in progress, nobody holds a partition, no acknowledgement is of the future."""
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
    """11: each alias points at the collection that PostgreSQL calls serving, and Milvus has no other."""
    collections = connection.execute("SELECT name, alias, state FROM vector_collections").fetchall()
    found = []
    for alias in {alias for _, alias, _ in collections}:
        serving = [name for name, a, state in collections if a == alias and state == "serving"]
        target = client.describe_alias(alias)["collection_name"]
        if serving != [target]:
            found.append(f"{alias} points at {target}, PostgreSQL says {serving}")
    there: Any = client.list_collections()
    unknown = set(there) - {name for name, *_ in collections}
    return [*found, *(f"{name} is in Milvus, PostgreSQL does not know it" for name in unknown)]


def _vectors(client: MilvusClient, kind: str) -> list[str]:
    """5, 6 and 7: each vector is sound, and a search for it finds its own row, or an equal one, and only live rows."""
    collection = f"{kind}_collection"
    ids = sorted({row_id for row_id, _ in scan(client, collection)})
    sample = set(random.Random(0).sample(ids, min(SEARCHED, len(ids))))
    found = []
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        rows = client.get(collection, part, output_fields=["id", "vector"])
        vectors = {row["id"]: row["vector"] for row in rows}
        found += [
            f"{kind}: {row_id} {problem}"
            for row_id in part
            if (problem := _unsound(kind, vectors.get(row_id)))
        ]
        searched = [row_id for row_id in part if row_id in sample and vectors.get(row_id)]
        found += _searches(client, collection, kind, vectors, searched, set(ids))
    return found


def _unsound(kind: str, vector: Any) -> str:
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
    found = []
    for start in range(0, len(searched), 100):
        part = searched[start : start + 100]
        answers = client.search(
            collection,
            [vectors[row_id] for row_id in part],
            limit=3,
            anns_field="vector",
            output_fields=["id"],  # Milvus Lite sends all, if not told
            search_params={"metric_type": "IP", "params": {} if kind == "sparse" else {"ef": 256}},
        )
        for row_id, hits in zip(part, answers):
            vector = vectors[row_id]
            own = sum(v * v for v in (vector.values() if kind == "sparse" else vector))
            if not hits or hits[0]["distance"] < own - 1e-3:
                found.append(f"{kind}: a search for the vector of {row_id} does not find it")
            found += [
                f"{kind}: a search shows {hit['id']}, which the scan does not"
                for hit in hits
                if hit["id"] not in live
            ]
    return found
