"""Checks of the rows of one source in Milvus: that they are those of PostgreSQL, sound, and found by search."""

import json
import uuid
from collections.abc import Mapping

import dagster as dg

from rag_assets.checks.collections import alias_on_current_model, index_as_declared
from rag_assets.checks.kinds import Look, Subject, check_of_kind
from rag_assets.checks.results import EVIDENCE_ROWS, result
from rag_assets.consistency.comparison import compare_collection
from rag_assets.consistency.evidence import COLUMNS, evidence, evidence_of_rows, mend_rows
from rag_assets.consistency.vector_sampling import (
    Findability,
    Soundness,
    inspect_vectors,
    search_for_themselves,
)
from rag_assets.pipeline.drift import Drift
from rag_assets.pipeline.vectors import KINDS, NORM_TOLERANCE
from resources.postgres.connection import Connection
from resources.postgres.vectors.collections import collections

#: An index that leaves no row out, however many equal ones there are (measured: docs/decisions.md).
REACHES_ALL = {"index_type": "IVF_FLAT", "metric_type": "IP", "params": {"nlist": 1024}}
#: The share of rows that a graph index (HNSW) may leave out of every search's reach without this being said loudly.
UNREACHED_SHARE = 0.01


def _match(subject: Subject) -> dg.AssetCheckResult:
    connection, store, source = subject.connection, subject.store, subject.source
    drift, rows, known = Drift(), [], collections(connection, kind=subject.kind)
    for collection in known:
        found = compare_collection(connection, store, collection, source)
        rows += evidence(connection, store, collection, found)
        drift.add(found)
    sentence = f"{subject.title}: {drift}"
    unwritten = (
        _unwritten(subject.connection, source.id, subject.name)
        if subject.embedder.wants(subject.kind)
        else 0
    )
    if unwritten:
        sentence += f"; {unwritten} chunks are not acknowledged yet"
    return result(
        drift.verdict == "consistent" and not unwritten,
        sentence + ".",
        columns=COLUMNS,
        rows=rows,
        mend=mend_rows(store, known, source) if drift.verdict == "drifted" else subject.mend,
        warning=drift.verdict == "undetermined",
        metadata={"verdict": drift.verdict, "rows_compared": drift.checked, **drift.counts},
    )


def _unwritten(connection: Connection, source_id: uuid.UUID, collection: str) -> int:
    """Chunks said to be completed that the current model's collection never acknowledged."""
    row = connection.execute(
        """SELECT count(*) FROM documents d JOIN document_chunks c ON c.document_id = d.id
           LEFT JOIN vector_rows r ON r.collection = %s AND r.chunk_id = c.id
           WHERE d.source_uuid = %s AND c.embedding_status = 'completed' AND r.chunk_id IS NULL""",
        [collection, source_id],
    ).fetchone()
    assert row is not None
    return row[0]


def _evidence(subject: Subject, found: Mapping[str, str], name: str) -> list[tuple[object, ...]]:
    """Rows of evidence for row -> reason; `name`: their class."""
    collection = subject.recorded
    named = [(row, name, reason) for row, reason in sorted(found.items())[:EVIDENCE_ROWS]]
    if collection is None or not named:
        return []
    return evidence_of_rows(subject.connection, subject.store, collection, named)


def _sound(subject: Subject) -> dg.AssetCheckResult:
    collection = subject.recorded
    found = inspect_vectors(subject.place(collection)) if collection else Soundness()
    if found.claimed and not subject.store.has_collection(subject.name):
        return _nothing_there(subject, found.claimed)
    like = f", of norm 1 ± {NORM_TOLERANCE}" if subject.kind != "sparse" else ", above 0"
    return result(
        not found.flaws,
        f"{subject.title}: {len(found.flaws)} unsound among {_of(found.read, found.claimed)}; expected finite numbers"
        f"{like}, and for the {found.compared} compared with Parquet the vector of their text.",
        columns=COLUMNS,
        rows=_evidence(subject, found.flaws, "unsound"),
        mend=subject.mend,
        metadata={
            "rows": found.claimed,
            "rows_read": found.read,
            "rows_compared": found.compared,
            "unsound": len(found.flaws),
        },
    )


def _found(subject: Subject) -> dg.AssetCheckResult:
    """A graph index leaves rows out where others are exact copies: that is said, and fails only where it is much."""
    collection, index = subject.recorded, subject.layout.index["index_type"]
    params = subject.milvus.search_params(subject.kind)
    found = (
        search_for_themselves(subject.place(collection), index, params)
        if collection
        else Findability()
    )
    if found.claimed and not subject.store.has_collection(subject.name):
        return _nothing_there(subject, found.claimed)
    many = len(found.unreached) > max(1, found.searched * UNREACHED_SHARE)
    sentence = (
        f"{subject.title}: {found.searched - len(found.unreached)} of {found.searched} rows searched for"
        f"{'' if found.searched >= found.claimed else f' (of {found.claimed}, at random)'} found themselves or"
        f" an equal vector first"
    )
    if found.wide:
        sentence += f", {len(found.wide)} of them by a wider search only"
    if found.unreached and not found.lost:
        sentence += f"; up to {UNREACHED_SHARE:.0%} may be out of the reach of an {index} index"
    reason = "a search for its vector finds neither it nor an equal one"
    other = f"RAG_DENSE_INDEX='{json.dumps(REACHES_ALL)}' {subject.mend}"
    return result(
        not found.lost and not many,
        sentence + ".",
        columns=COLUMNS,
        rows=_evidence(subject, dict.fromkeys(found.unreached, reason), "unreached"),
        mend=subject.mend if found.lost else other,
        warning=not found.lost,
        metadata={
            "rows": found.claimed,
            "rows_searched": found.searched,
            "wider_search": len(found.wide),
            "unreached": len(found.unreached),
        },
    )


def _of(looked: int, claimed: int) -> str:
    chosen = "all" if looked >= claimed else "at random"
    return f"{looked} of {claimed} rows ({chosen})"


def _nothing_there(subject: Subject, claimed: int) -> dg.AssetCheckResult:
    return result(
        False,
        f"{subject.title}: there is no such collection, so none of the {claimed} rows that it acknowledged "
        "could be looked at.",
        mend=subject.mend,
        warning=True,
    )


_CHECKS: tuple[tuple[str, str, Look], ...] = (
    (
        "{kind}_vectors_match_postgres",
        "Milvus holds exactly the rows that PostgreSQL says, with the right row_fingerprint, each once.",
        _match,
    ),
    (
        "{kind}_vectors_are_sound",
        "Stored vectors are finite, of the declared dimension and norm, and those of their texts in Parquet.",
        _sound,
    ),
    (
        "{kind}_vectors_are_found_by_search",
        "A search for the vector of a row finds this row, or an equal one, first.",
        _found,
    ),
    (
        "{kind}_index_is_as_declared",
        "The collection's fields, dimension and index are the declared ones; it is finished and loaded.",
        index_as_declared,
    ),
    (
        "{kind}_alias_points_to_current_model",
        "The alias that readers use points at the collection of the current model, and PostgreSQL knows.",
        alias_on_current_model,
    ),
)

VECTOR_CHECKS: list[dg.AssetChecksDefinition] = [
    check_of_kind(kind, name, fact, look, unwanted_too=look is _match)
    for kind in KINDS
    for name, fact, look in _CHECKS
]
