"""Tables `retrieval_sets`, `retrieval_queries` and `retrieval_judgements`: the queries, and their relevant answers.

The measurements with them are in `evaluations`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString, NamedTuple

from rag_assets.pipeline.relevance import Relevant
from rag_assets.pipeline.retrieval_sets import Judgement
from resources.errors import ConfigError
from resources.postgres.bulk_copy import copy_rows
from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_all, scalar, scalars
from resources.postgres.registry.sources import SourceRow

#: Maximum characters of a set's name.
MAX_NAME = 100

#: A chunk counts as a passage if they share this part of the shorter one.
OVERLAP = 0.5


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """`known_items`: drawn from the source's chunks. `by_passage`: the relevant answers are passages, not documents."""

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
    """Return the sets of every source or of one; all of them, or the one with this name."""
    return fetch_all(
        connection,
        RetrievalSet,
        """SELECT r.id, s.id AS source_id, s.name AS source, r.name, r.known_items,
             (SELECT count(*) FROM retrieval_queries q WHERE q.set_id = r.id) AS queries,
             EXISTS (SELECT FROM retrieval_judgements j WHERE j.set_id = r.id AND j.passage IS NOT NULL) AS by_passage
           FROM retrieval_sets r JOIN sources s ON s.id = r.source_id
           WHERE (normalize(s.name) = normalize(%(source)s) OR %(source)s::text IS NULL)
             AND (r.name = %(name)s OR %(name)s::text IS NULL) ORDER BY r.name""",
        {"source": source, "name": name},
    )


def get_set(connection: Connection, name: str) -> RetrievalSet:
    """Raises ConfigError if no set has this name."""
    matching = list_sets(connection, name=name)
    if not matching:
        names = ", ".join(retrieval_set.name for retrieval_set in list_sets(connection)) or "none"
        raise ConfigError(
            f"There is no retrieval set {name!r}; known: {names}. Make one: rag eval build {name} --source SOURCE"
        )
    return matching[0]


_JUDGEMENT_COLUMNS: Mapping[str, LiteralString] = {
    "query": "text",
    "n": "int4",
    "document": "text",
    "score": "int4",
    "lower": "int4",
    "upper": "int4",
}


def add_set(
    connection: Connection,
    name: str,
    source: SourceRow,
    queries: Mapping[str, str],
    judgements: Sequence[Judgement],
) -> None:
    """Register a set. Raises ConfigError if the name is taken, or with a list of all that its source lacks."""
    with_span = [judgement.span is not None for judgement in judgements]
    if any(with_span) and not all(with_span):
        raise ConfigError(f"Set {name!r}: expected start and end in every judgement, or in none.")
    with connection.transaction():
        copy_rows(
            connection,
            "judged",
            _JUDGEMENT_COLUMNS,
            (
                (
                    judgement.query,
                    n,
                    judgement.document,
                    judgement.score,
                    *(judgement.span or (None, None)),
                )
                for n, judgement in enumerate(judgements)
            ),
        )
        _require_documents(connection, source)
        set_id = _insert(connection, name, source, queries, known_items=False)
        connection.execute(
            """INSERT INTO retrieval_judgements (set_id, query_id, position, document_key, passage, score)
               SELECT %s, j.query, j.n, j.document, substr(d.content, j.lower + 1, j.upper - j.lower), j.score
               FROM judged j LEFT JOIN documents d ON d.source_uuid = %s AND d.source_key = j.document
                 AND j.lower IS NOT NULL""",
            [set_id, source.id],
        )


class _WrongJudgement(NamedTuple):
    document: str
    lower: int | None
    upper: int | None
    length: int | None


def _require_documents(connection: Connection, source: SourceRow) -> None:
    """Raises ConfigError unless the source has at least one judged document, and every passage."""
    wrong = fetch_all(
        connection,
        _WrongJudgement,
        """SELECT DISTINCT j.document, j.lower, j.upper, char_length(d.content) AS length
           FROM judged j LEFT JOIN documents d ON d.source_uuid = %(source)s AND d.source_key = j.document
           WHERE (j.lower IS NOT NULL AND (d.id IS NULL OR j.upper > char_length(d.content)))
             OR (d.id IS NULL AND NOT EXISTS (SELECT FROM judged k JOIN documents o ON o.source_key = k.document
                 WHERE o.source_uuid = %(source)s))
           ORDER BY 1, 2 LIMIT 11""",
        {"source": source.id},
    )
    if not wrong:
        return
    lines = [
        f"{item.document!r}: expected the key of a document of {source.name}, found none"
        if item.length is None
        else f"{item.document!r}: expected a passage within its {item.length} characters, "
        f"found {item.lower} to {item.upper}"
        for item in wrong[:10]
    ]
    if len(wrong) > 10:
        lines.append("and more")
    some_keys = scalars(
        connection,
        "SELECT source_key FROM documents WHERE source_uuid = %s ORDER BY 1 LIMIT 3",
        [source.id],
    )
    shown = ", ".join(map(repr, some_keys)) or "none yet; first: rag ingest"
    raise ConfigError(
        f"The judgements do not fit source {source.name} (its documents: {shown} …):\n  "
        + "\n  ".join(lines)
    )


def add_known_items(
    connection: Connection, name: str, source: SourceRow, items: Sequence[tuple[uuid.UUID, str]]
) -> None:
    """Register a set of (chunk, question): the chunk is the answer to the question."""
    with connection.transaction():
        copy_rows(connection, "known_items", {"chunk": "uuid", "question": "text"}, items)
        queries = {str(chunk): question for chunk, question in items}
        set_id = _insert(connection, name, source, queries, known_items=True)
        connection.execute(
            """INSERT INTO retrieval_judgements (set_id, query_id, position, document_key, passage, score)
               SELECT %s, a.chunk::text, 0, d.source_key, c.content, 1
               FROM known_items a JOIN document_chunks c ON c.id = a.chunk JOIN documents d ON d.id = c.document_id""",
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
    set_id = scalar(
        connection,
        """INSERT INTO retrieval_sets (source_id, name, known_items) VALUES (%s, %s, %s)
           ON CONFLICT (name) DO NOTHING RETURNING id""",
        [source.id, name, known_items],
    )
    if set_id is None:
        raise ConfigError(
            f"There is a retrieval set {name!r} already. See: rag eval list. To replace it: rag eval remove {name}"
        )
    copy_rows(connection, "new_queries", {"query": "text", "question": "text"}, queries.items())
    connection.execute(
        "INSERT INTO retrieval_queries SELECT %s, query, question FROM new_queries", [set_id]
    )
    return set_id


def remove_set(connection: Connection, name: str) -> None:
    """Delete a set and its evaluations."""
    connection.execute("DELETE FROM retrieval_sets WHERE id = %s", [get_set(connection, name).id])


def sample_texts(
    connection: Connection, source_id: uuid.UUID, limit: int
) -> list[tuple[uuid.UUID, str]]:
    """Return (chunk, text) of a source's distinct texts, the first ones by hash: as good as random, and repeatable."""
    return connection.execute(
        """SELECT DISTINCT ON (text_hash) id, content FROM document_chunks
           WHERE source_uuid = %s AND embedding_status = 'completed' ORDER BY text_hash, id LIMIT %s""",
        [source_id, limit],
    ).fetchall()


def queries_of(connection: Connection, set_id: uuid.UUID) -> list[tuple[str, str]]:
    """Return (id, text) of each query in the order of a hash: the first ones are a sample."""
    return connection.execute(
        "SELECT query_id, text FROM retrieval_queries WHERE set_id = %s ORDER BY md5(query_id), query_id",
        [set_id],
    ).fetchall()


class _RelevantLabels(NamedTuple):
    query_id: str
    score: int
    labels: list[str]


def relevant_of(
    connection: Connection, retrieval_set: RetrievalSet, queries: Sequence[str]
) -> dict[str, list[Relevant]]:
    """Return query -> its relevant answers that the source has now. A query without any is left out.

    Labels are keys of documents or, for passages, the ids of the chunks that overlap them and of their equals.
    """
    relevant: dict[str, list[Relevant]] = {}
    for row in fetch_all(
        connection,
        _RelevantLabels,
        _RELEVANT_PASSAGES if retrieval_set.by_passage else _RELEVANT_DOCUMENTS,
        {
            "set": retrieval_set.id,
            "source": retrieval_set.source_id,
            "queries": list(queries),
            "part": OVERLAP,
        },
    ):
        answer = Relevant(frozenset(row.labels), row.score)
        relevant.setdefault(row.query_id, []).append(answer)
    return relevant


_RELEVANT_DOCUMENTS = """
SELECT j.query_id, j.score, ARRAY[j.document_key] AS labels
FROM retrieval_judgements j JOIN documents d ON d.source_uuid = %(source)s AND d.source_key = j.document_key
WHERE j.set_id = %(set)s AND j.query_id = ANY(%(queries)s)
  AND EXISTS (SELECT FROM document_chunks c WHERE c.document_id = d.id)
ORDER BY j.query_id, j.position"""

# A chunk's offset in its document is not recorded. A chunk that repeats a table's header is found only if it is equal.
_RELEVANT_PASSAGES = """
WITH passages AS MATERIALIZED (
  SELECT j.query_id, j.position, j.score, j.passage, d.id AS document,
    strpos(d.content, j.passage) AS at, char_length(j.passage) AS length
  FROM retrieval_judgements j
  JOIN documents d ON d.source_uuid = %(source)s AND d.source_key = j.document_key
  WHERE j.set_id = %(set)s AND j.query_id = ANY(%(queries)s)),
placed AS MATERIALIZED (
  SELECT c.document_id, c.text_hash, c.content, strpos(d.content, c.content) AS at, char_length(c.content) AS length
  FROM documents d JOIN document_chunks c ON c.document_id = d.id
  WHERE d.id IN (SELECT document FROM passages))
SELECT w.query_id, w.score, array_agg(DISTINCT e.id::text) AS labels
FROM passages w
JOIN placed p ON p.document_id = w.document AND (p.content = w.passage OR (w.at > 0 AND p.at > 0
  AND least(w.at + w.length, p.at + p.length) - greatest(w.at, p.at) >= %(part)s * least(w.length, p.length)))
JOIN document_chunks e ON e.text_hash = p.text_hash AND e.source_uuid = %(source)s
GROUP BY w.query_id, w.position, w.score ORDER BY w.query_id, w.position"""
