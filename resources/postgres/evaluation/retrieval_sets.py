"""Tables `retrieval_sets`, `retrieval_queries`, `retrieval_judgements`: what is asked, what should be found.

What was measured with them is in `evaluations`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag_assets.pipeline.relevance import Relevant
from rag_assets.pipeline.retrieval_sets import Judgement
from resources.errors import ConfigError
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection
from resources.postgres.registry.sources import SourceRow

#: Characters of a set's name.
MAX_NAME = 100

#: A chunk is that passage when they share this part of the shorter one.
OVERLAP = 0.5


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """`known_items`: drawn from the source's chunks. `by_passage`: passages are relevant, not whole documents."""

    id: uuid.UUID
    source_id: uuid.UUID
    source: str
    name: str
    known_items: bool
    queries: int
    by_passage: bool


def list_sets(
    connection: Connection, *, source: str | None = None, name: str | None = None
) -> list[RetrievalSet]:
    """Of every source or of one; all of them or the one of this name."""
    rows = connection.execute(
        """SELECT r.id, s.id, s.name, r.name, r.known_items,
             (SELECT count(*) FROM retrieval_queries q WHERE q.set_id = r.id),
             EXISTS (SELECT FROM retrieval_judgements j WHERE j.set_id = r.id AND j.passage IS NOT NULL)
           FROM retrieval_sets r JOIN sources s ON s.id = r.source_id
           WHERE (s.name = %(source)s OR %(source)s::text IS NULL)
             AND (r.name = %(name)s OR %(name)s::text IS NULL) ORDER BY r.name""",
        {"source": source, "name": name},
    )
    return [RetrievalSet(*row) for row in rows]


def get_set(connection: Connection, name: str) -> RetrievalSet:
    """Raises ConfigError when there is none of this name."""
    found = list_sets(connection, name=name)
    if not found:
        known = ", ".join(each.name for each in list_sets(connection)) or "none"
        raise ConfigError(
            f"There is no retrieval set {name!r}; known: {known}. Make one: rag eval build {name} --source SOURCE"
        )
    return found[0]


def add_set(
    connection: Connection,
    name: str,
    source: SourceRow,
    queries: Mapping[str, str],
    judgements: Sequence[Judgement],
) -> None:
    """Registers a set. Raises ConfigError that lists what its source does not have, or when the name is taken."""
    if any(each.span for each in judgements) and not all(each.span for each in judgements):
        raise ConfigError(f"Set {name!r}: expected start and end in every judgement, or in none.")
    with connection.transaction():
        copy_rows(
            connection,
            "judged",
            {"query": "text", "n": "int4", "document": "text", "score": "int4"}
            | {"lower": "int4", "upper": "int4"},
            (
                (each.query, n, each.document, each.score, *(each.span or (None, None)))
                for n, each in enumerate(judgements)
            ),
        )
        _expect_documents(connection, source)
        set_id = _insert(connection, name, source, queries, known_items=False)
        connection.execute(
            """INSERT INTO retrieval_judgements (set_id, query_id, position, document_key, passage, score)
               SELECT %s, j.query, j.n, j.document, substr(d.content, j.lower + 1, j.upper - j.lower), j.score
               FROM judged j LEFT JOIN documents d ON d.source_uuid = %s AND d.source_key = j.document
                 AND j.lower IS NOT NULL""",
            [set_id, source.id],
        )


def _expect_documents(connection: Connection, source: SourceRow) -> None:
    """That at least one judged document is there; and every passage, whose text is taken from it."""
    wrong = connection.execute(
        """SELECT DISTINCT j.document, j.lower, j.upper, char_length(d.content)
           FROM judged j LEFT JOIN documents d ON d.source_uuid = %(source)s AND d.source_key = j.document
           WHERE (j.lower IS NOT NULL AND (d.id IS NULL OR j.upper > char_length(d.content)))
             OR (d.id IS NULL AND NOT EXISTS (SELECT FROM judged k JOIN documents o ON o.source_key = k.document
                 WHERE o.source_uuid = %(source)s))
           ORDER BY 1, 2 LIMIT 11""",
        {"source": source.id},
    ).fetchall()
    if not wrong:
        return
    lines = [
        f"{key!r}: expected the key of a document of {source.name}, found none"
        if length is None
        else f"{key!r}: expected a passage within its {length} characters, found {lower} to {upper}"
        for key, lower, upper, length in wrong[:10]
    ]
    if len(wrong) > 10:
        lines.append("and more")
    some = connection.execute(
        "SELECT source_key FROM documents WHERE source_uuid = %s ORDER BY 1 LIMIT 3", [source.id]
    ).fetchall()
    has = ", ".join(repr(key) for (key,) in some) or "none yet; first: rag ingest"
    raise ConfigError(
        f"The judgements do not fit source {source.name} (its documents: {has} …):\n  "
        + "\n  ".join(lines)
    )


def add_known_items(
    connection: Connection, name: str, source: SourceRow, items: Sequence[tuple[uuid.UUID, str]]
) -> None:
    """Registers a set of questions (chunk, question), each of which its chunk answers."""
    with connection.transaction():
        copy_rows(connection, "asked", {"chunk": "uuid", "question": "text"}, items)
        queries = {str(chunk): question for chunk, question in items}
        set_id = _insert(connection, name, source, queries, known_items=True)
        connection.execute(
            """INSERT INTO retrieval_judgements (set_id, query_id, position, document_key, passage, score)
               SELECT %s, a.chunk::text, 0, d.source_key, c.content, 1
               FROM asked a JOIN document_chunks c ON c.id = a.chunk JOIN documents d ON d.id = c.document_id""",
            [set_id],
        )


def _insert(
    connection: Connection,
    name: str,
    source: SourceRow,
    queries: Mapping[str, str],
    *,
    known_items: bool,
) -> uuid.UUID:
    if not 1 <= len(name) <= MAX_NAME:
        raise ConfigError(
            f"A retrieval set's name: expected 1 to {MAX_NAME} characters, found {len(name)}."
        )
    row = connection.execute(
        """INSERT INTO retrieval_sets (source_id, name, known_items) VALUES (%s, %s, %s)
           ON CONFLICT (name) DO NOTHING RETURNING id""",
        [source.id, name, known_items],
    ).fetchone()
    if row is None:
        raise ConfigError(
            f"There is a retrieval set {name!r} already. See: rag eval list. To replace it: rag eval remove {name}"
        )
    copy_rows(connection, "asking", {"query": "text", "question": "text"}, queries.items())
    connection.execute("INSERT INTO retrieval_queries SELECT %s, query, question FROM asking", row)
    return row[0]


def remove_set(connection: Connection, name: str) -> None:
    """With what was measured with it."""
    connection.execute("DELETE FROM retrieval_sets WHERE id = %s", [get_set(connection, name).id])


def forget_judgements(connection: Connection, source_id: uuid.UUID, key: str) -> None:
    """Has no set ask for a document any more: a known item's question is a sentence of it."""
    connection.execute(
        """WITH gone AS (
             DELETE FROM retrieval_judgements j USING retrieval_sets s
             WHERE s.id = j.set_id AND s.source_id = %s AND j.document_key = %s
             RETURNING j.set_id, j.query_id, j.position)
           DELETE FROM retrieval_queries q USING gone g WHERE (q.set_id, q.query_id) = (g.set_id, g.query_id)
             AND NOT EXISTS (SELECT FROM retrieval_judgements j
               WHERE (j.set_id, j.query_id) = (q.set_id, q.query_id)
                 AND (j.set_id, j.query_id, j.position) NOT IN (SELECT set_id, query_id, position FROM gone))""",
        [source_id, key],
    )


def sample_texts(
    connection: Connection, source_id: uuid.UUID, limit: int
) -> list[tuple[uuid.UUID, str]]:
    """(chunk, text) of a source's distinct texts, the first ones in the order of their hashes: as good as chance, and
    the same each time."""
    return connection.execute(
        """SELECT DISTINCT ON (text_hash) id, content FROM document_chunks
           WHERE source_uuid = %s AND embedding_status = 'completed' ORDER BY text_hash, id LIMIT %s""",
        [source_id, limit],
    ).fetchall()


def queries_of(connection: Connection, set_id: uuid.UUID) -> list[tuple[str, str]]:
    """(id, text) of each query, in the order of a hash: the first ones are a sample."""
    return connection.execute(
        "SELECT query_id, text FROM retrieval_queries WHERE set_id = %s ORDER BY md5(query_id), query_id",
        [set_id],
    ).fetchall()


def relevant_of(
    connection: Connection, known: RetrievalSet, queries: Sequence[str]
) -> dict[str, list[Relevant]]:
    """query -> what should be found, of what the source has now. A query that nothing is left for is not there.

    Labels are keys of documents, or of passages the ids of the chunks that overlap them and of their equals.
    """
    found: dict[str, list[Relevant]] = {}
    rows = connection.execute(
        _RELEVANT_PASSAGES if known.by_passage else _RELEVANT_DOCUMENTS,
        {"set": known.id, "source": known.source_id, "queries": list(queries), "part": OVERLAP},
    )
    for query, score, labels in rows:
        found.setdefault(query, []).append(Relevant(frozenset(labels), score))
    return found


_RELEVANT_DOCUMENTS = """
SELECT j.query_id, j.score, ARRAY[j.document_key]
FROM retrieval_judgements j JOIN documents d ON d.source_uuid = %(source)s AND d.source_key = j.document_key
WHERE j.set_id = %(set)s AND j.query_id = ANY(%(queries)s)
  AND EXISTS (SELECT FROM document_chunks c WHERE c.document_id = d.id)
ORDER BY j.query_id, j.position"""

# Where a chunk is in its document is not recorded. One that repeats a table's header is found by being equal only.
_RELEVANT_PASSAGES = """
WITH wanted AS MATERIALIZED (
  SELECT j.query_id, j.position, j.score, j.passage, d.id AS document,
    strpos(d.content, j.passage) AS at, char_length(j.passage) AS length
  FROM retrieval_judgements j
  JOIN documents d ON d.source_uuid = %(source)s AND d.source_key = j.document_key
  WHERE j.set_id = %(set)s AND j.query_id = ANY(%(queries)s)),
placed AS MATERIALIZED (
  SELECT c.document_id, c.text_hash, c.content, strpos(d.content, c.content) AS at, char_length(c.content) AS length
  FROM documents d JOIN document_chunks c ON c.document_id = d.id
  WHERE d.id IN (SELECT document FROM wanted))
SELECT w.query_id, w.score, array_agg(DISTINCT e.id::text)
FROM wanted w
JOIN placed p ON p.document_id = w.document AND (p.content = w.passage OR (w.at > 0 AND p.at > 0
  AND least(w.at + w.length, p.at + p.length) - greatest(w.at, p.at) >= %(part)s * least(w.length, p.length)))
JOIN document_chunks e ON e.text_hash = p.text_hash AND e.source_uuid = %(source)s
GROUP BY w.query_id, w.position, w.score ORDER BY w.query_id, w.position"""
