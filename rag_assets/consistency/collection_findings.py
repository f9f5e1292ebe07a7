"""Findings about a collection as a whole: its fields and index are the declared ones, and the alias points at it."""

from __future__ import annotations

from collections.abc import Iterable

from rag_assets.consistency.check_target import CheckTarget
from rag_assets.consistency.finding import Finding, conclude
from resources.milvus.collections import ALIASES, Comparison
from resources.postgres.vectors.collections import Collection

_COLUMNS = ("field", "declared", "actual", "agrees")


def index_is_as_declared(target: CheckTarget) -> Finding:
    """Compare fields, dimension, index and load state. Facts that this server does not report are listed, and pass."""
    facts = target.stores.milvus.compare(target.name, target.layout)
    wrong = [fact for fact in facts if fact.differs]
    unknown = sum(fact.actual is None for fact in facts)
    sentence = f"{target.name}: {len(facts)} facts compared, {len(wrong)} differ"
    sentence += f"; {unknown} are not reported by this server" if unknown else ""
    sentence += "".join(
        f"; {fact.fact}: expected {fact.declared}, found {fact.actual}" for fact in wrong
    )
    return conclude(
        "failed" if wrong else "passed",
        sentence + ".",
        source=target.source.name,
        remedy="rebuild" if _needs_new_collection(wrong) else "repair",
        key=[f"{target.name} {fact.fact} {fact.declared} {fact.actual}" for fact in wrong],
        inconsistency="index_issues",
        columns=_COLUMNS,
        rows=[
            (
                fact.fact,
                fact.declared,
                "not reported by this server" if fact.actual is None else fact.actual,
                "unknown" if fact.actual is None else "no" if fact.differs else "yes",
            )
            for fact in sorted(facts, key=lambda fact: not fact.differs)
        ],
        metadata={"facts": len(facts), "differ": len(wrong), "not_reported": unknown},
    )


def _needs_new_collection(wrong: Iterable[Comparison]) -> bool:
    """Return whether a fact differs that is fixed at creation. A sync creates a collection that does not exist."""
    return any(
        fact.part in ("collection", "fields") and fact.fact != "collection" for fact in wrong
    )


def awaits_publication(recorded: Collection | None, alias_target: str | None) -> bool:
    """Return whether another collection serves until the publication step replaces it: no repair moves that alias."""
    return (
        recorded is not None
        and recorded.state == "building"
        and alias_target not in (None, recorded.name)
    )


def alias_points_to_current_model(target: CheckTarget) -> Finding:
    """Compare the alias and PostgreSQL's record with the current model's collection."""
    recorded, alias, milvus = target.recorded, ALIASES[target.kind], target.stores.milvus
    facts = [
        (f"{alias} points at", target.name, milvus.alias_target(target.kind) or "nothing"),
        ("recorded state", "serving", recorded.state if recorded else "not recorded"),
    ]
    if recorded is not None and (identity := milvus.identity(target.name)) is not None:
        facts.append(("identity of the collection", recorded.milvus_id, identity))
    wrong = [fact for fact in facts if fact[1] != fact[2]]
    waits = awaits_publication(recorded, milvus.alias_target(target.kind))
    sentence = f"{alias}: {len(facts)} facts compared, {len(wrong)} differ" + "".join(
        f"; {fact}: expected {expected}, found {actual}" for fact, expected, actual in wrong
    )
    return conclude(
        "failed" if wrong else "passed",
        f"{sentence}; it waits for publish_collections." if waits else f"{sentence}.",
        source=target.source.name,
        remedy="person" if waits else "repair",
        command="rag ingest" if waits else "",
        key=[" ".join(fact) for fact in wrong],
        inconsistency="index_issues",
        columns=_COLUMNS,
        rows=[(*fact, "yes" if fact[1] == fact[2] else "no") for fact in facts],
        metadata={"facts": len(facts), "differ": len(wrong)},
    )
