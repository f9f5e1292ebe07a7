"""Reads the folder, PostgreSQL, Parquet and Milvus by itself and says what is wrong. Shares no code with the product.

The formula of the row fingerprint is written down a second time here, on purpose. `disagreements` compares the two
stores; `violations` adds the other invariants that hold once a sync has ended; `lies` holds at any moment.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import psycopg.rows
from pymilvus import MilvusClient


def _row_fingerprint(model: str, row: dict) -> str:
    def counted(text: str) -> str:
        return f"{len(text.encode())}:{text}"

    said = (
        counted(model)
        + counted(row["text_hash"])
        + str(row["document_id"])
        + counted(row["source_type"])
        + counted(row["name"])
        + (row["language"] or "  ")
        + f"{row['position']}:{row['created']}"
    )
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _text_hash(text: str) -> str:
    data = text.encode()
    return hashlib.sha256(b"%d:" % len(data) + data).hexdigest()[:32]


def disagreements(
    postgres_url: str, milvus_uri: str, kinds: tuple[str, ...] = ("dense", "sparse")
) -> list[str]:
    """Every way in which Milvus differs from the live chunks, as sentences. Empty: equal sets, equal fingerprints."""
    found: list[str] = []
    with psycopg.connect(postgres_url) as connection:
        cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
        rows = cursor.execute(
            """SELECT c.id, c.content, c.text_hash, c.document_id, c.position, c.embedding_status, d.source_type,
                 d.language, s.name, floor(extract(epoch FROM d.created_at))::bigint AS created
               FROM document_chunks c JOIN documents d ON d.id = c.document_id JOIN sources s ON s.id = d.source_uuid"""
        ).fetchall()
        waiting = cursor.execute("SELECT count(*) AS n FROM vector_deletions").fetchone()
    assert waiting is not None
    if waiting["n"]:
        found.append(f"{waiting['n']} deletions wait in the outbox")
    for row in rows:
        if row["embedding_status"] != "completed":
            found.append(f"chunk {row['id']} is {row['embedding_status']}")
        if row["text_hash"] != _text_hash(row["content"]):
            found.append(f"chunk {row['id']}: text_hash is not that of its content")
    client = MilvusClient(milvus_uri)
    try:
        for kind in kinds:
            found += _compare(client, kind, rows)
    finally:
        client.close()
    return found


def _compare(client: MilvusClient, kind: str, rows: list[dict]) -> list[str]:
    collection = client.describe_alias(f"{kind}_collection")["collection_name"]
    model = collection.rsplit("__", 1)[1]
    wanted = {f"{row['id']}_{kind}": _row_fingerprint(model, row) for row in rows}
    scanned = _scan(client, collection)
    if kind == "multi":  # a row a token: fold them into their chunk
        scanned = sorted(
            {(f"{row_id.split('_')[0]}_multi", fingerprint) for row_id, fingerprint in scanned}
        )
    times = Counter(row_id for row_id, _ in scanned)
    actual = dict(scanned)
    return [
        *(f"{kind}: {row_id} is missing" for row_id in wanted.keys() - actual.keys()),
        *(f"{kind}: {row_id} is an orphan" for row_id in actual.keys() - wanted.keys()),
        *(f"{kind}: {row_id} is there {n} times" for row_id, n in times.items() if n > 1),
        *(
            f"{kind}: {row_id} is stale"
            for row_id in wanted.keys() & actual.keys()
            if wanted[row_id] != actual[row_id]
        ),
    ]


def _scan(client: MilvusClient, collection: str) -> list[tuple[str, str]]:
    """(id, row_fingerprint) of every row, an id that is there twice comes twice."""
    scanned: list[tuple[str, str]] = []
    edges = ["", *(f"{n:02x}" for n in range(0, 256, 8)), ""]
    for lower, upper in pairwise(edges):
        conditions = [f'id >= "{lower}"'] + ([f'id < "{upper}"'] if upper else [])
        batch = client.query(
            collection,
            filter=" and ".join(conditions),
            output_fields=["id", "row_fingerprint"],
            limit=16384,
        )
        scanned += [(row["id"], row["row_fingerprint"]) for row in batch]
    return scanned


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
    ids = sorted({row_id for row_id, _ in _scan(client, collection)})
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


def lies(postgres_url: str, milvus_uri: str) -> list[str]:
    """What Milvus acknowledged by PostgreSQL's word and has otherwise. Holds at any moment, also after a crash."""
    client = MilvusClient(milvus_uri)
    found = []
    try:
        with psycopg.connect(postgres_url) as connection:
            said = connection.execute(
                """SELECT r.collection, r.chunk_id || '_' || v.kind, r.row_fingerprint
                   FROM vector_rows r JOIN vector_collections v ON v.name = r.collection
                   WHERE r.row_count > 0 AND v.kind <> 'multi'"""
            ).fetchall()
        for collection in {name for name, *_ in said}:
            actual = dict(_scan(client, collection))
            found += [
                f"{collection}: {row_id} was acknowledged, found {actual.get(row_id)}"
                for name, row_id, fingerprint in said
                if name == collection and actual.get(row_id) != fingerprint
            ]
    finally:
        client.close()
    return found


def epochs(postgres_url: str) -> dict[str, int]:
    """10: of each partition's writers, and of each acknowledged row. None may ever become less."""
    with psycopg.connect(postgres_url) as connection:
        return dict(
            connection.execute(
                """SELECT partition, epoch FROM partition_writers
                   UNION ALL SELECT collection || '/' || chunk_id, epoch FROM vector_rows"""
            ).fetchall()
        )


def traces(postgres_url: str) -> str:
    """13: changes with any row written to the tables of documents, chunks, embeddings and vectors."""
    tables = ("source_entries", "documents", "document_chunks", "embeddings", "embedding_files",
              "vector_collections", "vector_rows", "vector_deletions")  # fmt: skip
    with psycopg.connect(postgres_url) as connection:
        rows = "count(*), coalesce(bit_xor(hashtextextended(ctid::text || xmin::text, 0)), 0)"
        counted = (
            connection.execute(f"SELECT {rows} FROM {table}".encode()).fetchone()
            for table in tables
        )
        return str(dict(zip(tables, counted)))


if __name__ == "__main__":
    import sys

    problems = disagreements(
        sys.argv[1], sys.argv[2], tuple((sys.argv[3:] or ["dense,sparse"])[0].split(","))
    )
    print("\n".join(problems[:20]) or "equal")
    sys.exit(bool(problems))
