"""An independent comparison of PostgreSQL with Milvus, which shares no code with the product.

It repeats the formula of the row fingerprint on purpose. `disagreements` must be empty after a sync, `lies` at any
moment. invariants.py has the invariants beyond the equality of the two stores.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from itertools import pairwise

import psycopg
import psycopg.rows
from pymilvus import MilvusClient

#: Maximum number of rows in one answer of Milvus.
ROWS = 16_384


def _row_fingerprint(model: str, row: dict) -> str:
    def with_length(text: str) -> str:
        return f"{len(text.encode())}:{text}"

    fields = (
        with_length(model)
        + with_length(row["text_hash"])
        + str(row["document_id"])
        + with_length(row["source_type"])
        + with_length(row["name"])
        + (row["language"] or "  ")
        + f"{row['position']}:{row['created']}:"
        + with_length(row["chunk_type"])
        + with_length(row["author"] or "")
        + with_length(row["category"] or "")
        + json.dumps(_row_tags(row["tags"]), ensure_ascii=False, separators=(",", ":"))
    )
    return hashlib.sha256(fields.encode()).hexdigest()[:32]


def _row_tags(tags: list[str] | None) -> list[str]:
    """Return the tags that a row in Milvus has."""
    return [tag[:100] for tag in tags or [] if tag][:64]


def _text_hash(text: str) -> str:
    data = text.encode()
    return hashlib.sha256(b"%d:" % len(data) + data).hexdigest()[:32]


def disagreements(
    postgres_url: str, milvus_uri: str, kinds: tuple[str, ...] = ("dense", "sparse")
) -> list[str]:
    """Return every difference between Milvus and the live chunks as a sentence. None: equal ids and fingerprints."""
    differences: list[str] = []
    with psycopg.connect(postgres_url) as connection:
        cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
        rows = cursor.execute(
            """SELECT c.id, c.content, c.text_hash, c.document_id, c.position, c.embedding_status, d.source_type,
                 c.chunk_type, d.author, d.category, d.tags, coalesce(c.language, d.language) AS language, s.name,
                 floor(extract(epoch FROM d.created_at))::bigint AS created
               FROM document_chunks c JOIN documents d ON d.id = c.document_id JOIN sources s ON s.id = d.source_uuid"""
        ).fetchall()
        waiting = cursor.execute("SELECT count(*) AS n FROM vector_deletions").fetchone()
    assert waiting is not None
    if waiting["n"]:
        differences.append(f"{waiting['n']} deletions wait in the outbox")
    for row in rows:
        if row["embedding_status"] != "completed":
            differences.append(f"chunk {row['id']} is {row['embedding_status']}")
        if row["text_hash"] != _text_hash(row["content"]):
            differences.append(f"chunk {row['id']}: text_hash is not that of its content")
    client = MilvusClient(milvus_uri)
    try:
        for kind in kinds:
            differences += _compare(client, kind, rows)
    finally:
        client.close()
    return differences


def _compare(client: MilvusClient, kind: str, rows: list[dict]) -> list[str]:
    collection = client.describe_alias(f"{kind}_collection")["collection_name"]
    model = collection.rsplit("__", 1)[1]
    expected = {f"{row['id']}_{kind}": _row_fingerprint(model, row) for row in rows}
    scanned = scan(client, collection)
    # One row a token: fold them into their chunk.
    if kind == "multi":
        scanned = sorted(
            {(f"{row_id.split('_')[0]}_multi", fingerprint) for row_id, fingerprint in scanned}
        )
    times = Counter(row_id for row_id, _ in scanned)
    actual = dict(scanned)
    return [
        *(f"{kind}: {row_id} is missing" for row_id in expected.keys() - actual.keys()),
        *(f"{kind}: {row_id} is an orphan" for row_id in actual.keys() - expected.keys()),
        *(f"{kind}: {row_id} is there {n} times" for row_id, n in times.items() if n > 1),
        *(
            f"{kind}: {row_id} is stale"
            for row_id in expected.keys() & actual.keys()
            if expected[row_id] != actual[row_id]
        ),
    ]


def scan(client: MilvusClient, collection: str) -> list[tuple[str, str]]:
    """Return (id, row_fingerprint) of every row; an id that is there twice comes twice."""
    rows = _between(client, collection, "", "")
    if len(rows) < ROWS:
        return rows
    edges = pairwise(["", *(f"{n:02x}" for n in range(0, 256, 8)), ""])
    return [row for lower, upper in edges for row in _between(client, collection, lower, upper)]


def _between(
    client: MilvusClient, collection: str, lower: str, upper: str
) -> list[tuple[str, str]]:
    conditions = [f'id >= "{lower}"'] + ([f'id < "{upper}"'] if upper else [])
    fields = ["id", "row_fingerprint"]
    rows = client.query(
        collection, filter=" and ".join(conditions), output_fields=fields, limit=ROWS
    )
    return [(row["id"], row["row_fingerprint"]) for row in rows]


def lies(postgres_url: str, milvus_uri: str) -> list[str]:
    """Return the acknowledged rows that Milvus lacks or has with another fingerprint. Empty at any moment, even after a
    crash."""
    client = MilvusClient(milvus_uri)
    wrong = []
    try:
        with psycopg.connect(postgres_url) as connection:
            acknowledged = connection.execute(
                """SELECT r.collection, r.chunk_id || '_' || v.kind, r.row_fingerprint
                   FROM vector_rows r JOIN vector_collections v ON v.name = r.collection
                   WHERE r.row_count > 0 AND v.kind <> 'multi'"""
            ).fetchall()
        for collection in {name for name, *_ in acknowledged}:
            actual = dict(scan(client, collection))
            wrong += [
                f"{collection}: {row_id} was acknowledged, found {actual.get(row_id)}"
                for name, row_id, fingerprint in acknowledged
                if name == collection and actual.get(row_id) != fingerprint
            ]
    finally:
        client.close()
    return wrong


def epochs(postgres_url: str) -> dict[str, int]:
    """Invariant 10: return the epoch of each partition and of each acknowledged row. None may ever become less."""
    with psycopg.connect(postgres_url) as connection:
        return dict(
            connection.execute(
                """SELECT partition, epoch FROM partition_writers
                   UNION ALL SELECT collection || '/' || chunk_id, epoch FROM vector_rows"""
            ).fetchall()
        )


def traces(postgres_url: str) -> str:
    """Invariant 13: return a digest that changes with any row written to documents, chunks, embeddings or vectors."""
    tables = ("source_entries", "documents", "document_chunks", "embeddings", "embedding_files",
              "vector_collections", "vector_rows", "vector_deletions")  # fmt: skip
    with psycopg.connect(postgres_url) as connection:
        rows = "count(*), coalesce(bit_xor(hashtextextended(ctid::text || xmin::text, 0)), 0)"
        digests = (
            connection.execute(f"SELECT {rows} FROM {table}".encode()).fetchone()
            for table in tables
        )
        return str(dict(zip(tables, digests)))


if __name__ == "__main__":
    import sys

    problems = disagreements(
        sys.argv[1], sys.argv[2], tuple((sys.argv[3:] or ["dense,sparse"])[0].split(","))
    )
    print("\n".join(problems[:20]) or "equal")
    sys.exit(bool(problems))
