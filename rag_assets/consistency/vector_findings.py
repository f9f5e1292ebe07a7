"""Findings about the rows of one source in Milvus: they are PostgreSQL's rows, sound, and found by search."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rag_assets.consistency.check_target import CheckTarget
from rag_assets.consistency.comparison import compare_collection
from rag_assets.consistency.evidence import (
    COLUMNS,
    OUTCOMES,
    drift_evidence,
    drift_key,
    inconsistency_of_drift,
    remedy_of_drift,
    rows_evidence,
)
from rag_assets.consistency.finding import (
    EVIDENCE_ROWS,
    Finding,
    command_for,
    conclude,
    not_applicable,
)
from rag_assets.consistency.vector_sampling import (
    Findability,
    Soundness,
    inspect_vectors,
    search_for_themselves,
)
from rag_assets.pipeline.drift import Drift
from rag_assets.pipeline.vectors import NORM_TOLERANCE
from resources.milvus.rows import row_ids
from resources.postgres.consistency.table_checks import unacknowledged_chunks
from resources.postgres.vectors.collections import collections

#: An index that leaves no row out, however many are equal (measured: docs/explanation/index-reachability.md).
REACHES_ALL = {"index_type": "IVF_FLAT", "metric_type": "IP", "params": {"nlist": 1024}}
#: Share of unreached rows above which a graph index (HNSW) is reported.
UNREACHED_SHARE = 0.01


def vectors_match_postgres(target: CheckTarget) -> Finding:
    """Compare every row of the source with PostgreSQL, in each collection of the kind."""
    connection, milvus = target.connection, target.stores.milvus
    drift, rows, key = Drift(), [], set[str]()
    compared = collections(connection, kind=target.kind)
    if not compared and not target.stores.model.keeps(target.kind):
        return not_applicable(f"{target.kind} is not among RAG_VECTORS, and has no collection.")
    for collection in compared:
        part = compare_collection(connection, milvus, collection, target.source)
        rows += drift_evidence(connection, milvus, collection, part)
        key |= drift_key(collection, part)
        drift.add(part)
    sentence = f"{target.title}: {drift}"
    unacknowledged = []
    if target.stores.model.keeps(target.kind):
        unacknowledged = unacknowledged_chunks(connection, target.source.id, target.name)
    if unacknowledged:
        sentence += f"; {len(unacknowledged)} chunks are not acknowledged yet"
        key |= {f"{target.name} unacknowledged {chunk}" for chunk, _ in unacknowledged}
        rows += [
            (
                row_ids(chunk, target.kind, 1)[0],
                "unacknowledged",
                document,
                chunk,
                "not written yet",
            )
            for chunk, document in unacknowledged[:EVIDENCE_ROWS]
        ]
    outcome = OUTCOMES[drift.verdict]
    return conclude(
        "failed" if unacknowledged and outcome == "passed" else outcome,
        sentence + ".",
        source=target.source.name,
        remedy=remedy_of_drift(milvus, compared, drift),
        key=key,
        inconsistency="missing_vectors" if unacknowledged else inconsistency_of_drift(drift),
        columns=COLUMNS,
        rows=rows,
        metadata={"verdict": drift.verdict, "rows_compared": drift.checked, **drift.counts},
    )


def vectors_are_sound(target: CheckTarget) -> Finding:
    """Validate a sample of the stored vectors, and compare it with Parquet."""
    collection = target.recorded
    soundness = inspect_vectors(target.view(collection)) if collection else Soundness()
    if soundness.claimed and not target.stores.milvus.has_collection(target.name):
        return _missing_collection(target, soundness.claimed)
    norm = f", of norm 1 ± {NORM_TOLERANCE}" if target.kind != "sparse" else ", above 0"
    sampled = "all" if soundness.read >= soundness.claimed else "at random"
    return conclude(
        "failed" if soundness.flaws else "passed",
        f"{target.title}: {len(soundness.flaws)} unsound among {soundness.read} of {soundness.claimed} rows "
        f"({sampled}); expected finite numbers{norm}, and for the {soundness.compared} compared with Parquet the "
        "vector of their text.",
        source=target.source.name,
        key=[f"{target.name} {row_id}" for row_id in soundness.flaws],
        columns=COLUMNS,
        rows=_evidence(target, soundness.flaws, "unsound"),
        metadata={
            "rows": soundness.claimed,
            "rows_read": soundness.read,
            "rows_compared": soundness.compared,
            "unsound": len(soundness.flaws),
        },
    )


def vectors_are_found_by_search(target: CheckTarget) -> Finding:
    """Search for a sample of rows. A graph index leaves rows out beside exact copies: only many are reported."""
    collection = target.recorded
    findability = search_for_themselves(target.view(collection)) if collection else Findability()
    if findability.claimed and not target.stores.milvus.has_collection(target.name):
        return _missing_collection(target, findability.claimed)
    searched, unreached = findability.searched, findability.unreached
    too_many = len(unreached) > max(1, searched * UNREACHED_SHARE)
    sample = "" if searched >= findability.claimed else f" (of {findability.claimed}, at random)"
    sentence = (
        f"{target.title}: {searched - len(unreached)} of {searched} rows searched for{sample} found themselves or an"
        " equal vector first"
    )
    if findability.wide:
        sentence += f", {len(findability.wide)} of them only by a wider search"
    if unreached and not findability.lost:
        index_type = target.layout.index["index_type"]
        sentence += (
            f"; up to {UNREACHED_SHARE:.0%} may be out of the reach of an {index_type} index"
        )
    repair = command_for("repair", target.source.name)
    other_index = f"RAG_DENSE_INDEX='{json.dumps(REACHES_ALL)}' {repair}"
    reason = "a search for its vector finds neither it nor an equal one"
    return conclude(
        "failed" if findability.lost else "undetermined" if too_many else "passed",
        sentence + ".",
        source=target.source.name,
        remedy="repair" if findability.lost else "person",
        command="" if findability.lost else other_index,
        key=[f"{target.name} {row_id}" for row_id in unreached],
        inconsistency="index_issues",
        columns=COLUMNS,
        rows=_evidence(target, dict.fromkeys(unreached, reason), "unreached"),
        metadata={
            "rows": findability.claimed,
            "rows_searched": searched,
            "wider_search": len(findability.wide),
            "unreached": len(unreached),
        },
    )


def _evidence(
    target: CheckTarget, reasons: Mapping[str, str], name: str
) -> list[tuple[object, ...]]:
    """Return rows of evidence for row -> reason. `name`: the class of the rows."""
    collection = target.recorded
    classified = [(row, name, reason) for row, reason in sorted(reasons.items())[:EVIDENCE_ROWS]]
    if collection is None or not classified:
        return []
    return rows_evidence(target.connection, target.stores.milvus, collection, classified)


def _missing_collection(target: CheckTarget, claimed: int) -> Finding:
    return conclude(
        "undetermined",
        f"{target.title}: the collection does not exist, so none of its {claimed} acknowledged rows could be read.",
        source=target.source.name,
        key=[target.name],
        inconsistency="missing_vectors",
    )
