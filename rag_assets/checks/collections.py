"""Checks of a collection as a whole: it and its index are as declared, and readers' alias points at it."""

import dagster as dg

from rag_assets.checks.kinds import Subject
from rag_assets.checks.results import result
from resources.milvus.collections import ALIASES, REBUILD

_COLUMNS = ("field", "declared", "actual", "agrees")


def index_as_declared(subject: Subject) -> dg.AssetCheckResult:
    """Fact by fact: fields, dimension, index, load state. What this server does not report is said, and passes."""
    facts = subject.store.compare(subject.name, subject.layout)
    wrong = [fact for fact in facts if fact.differs]
    unknown = sum(fact.actual is None for fact in facts)
    said = f"; {unknown} are not reported by this server" if unknown else ""
    sentence = f"{subject.name}: {len(facts)} facts compared, {len(wrong)} differ{said}"
    sentence += "".join(
        f"; {fact.fact}: expected {fact.declared}, found {fact.actual}" for fact in wrong
    )
    return result(
        not wrong,
        sentence + ".",
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
        # What is settled when a collection is made takes a new one; one that is not there is made by any sync.
        mend=REBUILD
        if any(
            fact.part in ("collection", "fields") and fact.fact != "collection" for fact in wrong
        )
        else subject.mend,
    )


def alias_on_current_model(subject: Subject) -> dg.AssetCheckResult:
    """Milvus and PostgreSQL agree that the current model's collection serves, and that it is the one recorded."""
    recorded, alias = subject.recorded, ALIASES[subject.kind]
    facts = [
        (f"{alias} points at", subject.name, subject.store.alias_target(subject.kind) or "nothing"),
        ("recorded state", "serving", recorded.state if recorded else "not recorded"),
    ]
    if recorded is not None and (identity := subject.store.identity(subject.name)) is not None:
        facts.append(("identity of the collection", recorded.milvus_id, identity))
    wrong = [fact for fact in facts if fact[1] != fact[2]]
    return result(
        not wrong,
        f"{alias}: {len(facts)} facts compared, {len(wrong)} differ"
        + "".join(
            f"; {what}: expected {declared}, found {found}" for what, declared, found in wrong
        )
        + ".",
        columns=_COLUMNS,
        rows=[(*fact, "yes" if fact[1] == fact[2] else "no") for fact in facts],
        mend=subject.mend,
    )
