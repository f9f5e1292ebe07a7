"""Which collection serves: the alias in Milvus and PostgreSQL's word on it, moved together after a full comparison and
a look at what is found in it.

How a collection is filled is not known here: by syncs with another model, or by a rebuild.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rag_assets.consistency.comparison import compare_collection
from rag_assets.evaluation.evaluator import EXACT_QUERIES, Evaluator, measuring_searcher
from rag_assets.evaluation.quality import LEAST_ANN_RECALL, lost_items, poor_indexes
from rag_assets.pipeline.vectors import Kind
from resources.dagster_resources import EmbedderResource, MilvusResource
from resources.errors import ConfigError
from resources.fault_injection import fault_point
from resources.files import FileStore
from resources.milvus.collections import Layout
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection, Writer, if_idle
from resources.postgres.evaluation.evaluations import latest_and_accepted
from resources.postgres.evaluation.retrieval_sets import RetrievalSet, list_sets
from resources.postgres.registry.sources import SourceRow, list_sources
from resources.postgres.vectors.collections import (
    UNSETTLED,
    WRITTEN,
    Collection,
    collections,
    forget_collection,
    mark_serving,
    uncovered_chunks,
    void_collection,
)

#: Held by whoever rebuilds: no partition of a source can have this name.
REBUILD = "/rebuild"


def settle(writer: Writer, store: MilvusStore, kind: Kind) -> None:
    """Finishes what a crash interrupted, before anything is written: `agree`, and drop what is half-built."""
    agree(writer, store, kind)
    if abandoned := collections(writer.connection, kind=kind, states=("rebuilding",)):
        with if_idle(writer.connection, REBUILD) as idle:
            if idle:
                drop(writer, store, abandoned)


def agree(writer: Writer, store: MilvusStore, kind: Kind) -> None:
    """Has both stores agree on what serves, and drops what was replaced.

    An alias that was moved before PostgreSQL knew stays where it is: it moved after the full comparison, and whatever
    writes comes through here first. One that was lost goes back to what PostgreSQL says serves.
    """
    known = collections(writer.connection, kind=kind, states=(*WRITTEN, "rebuilding"))
    target = store.alias_target(kind)
    with writer.transaction() as connection:
        for item in known:
            if item.name == target and item.state in ("building", "rebuilding"):
                mark_serving(connection, item)
            if target is None and item.state == "serving" and store.has_collection(item.name):
                store.point_alias(kind, item.name)
    drop(writer, store, collections(writer.connection, kind=kind, states=("retired",)))


def is_settled(connection: Connection, kind: Kind) -> bool:
    """Whether `settle` finds nothing to do, by what PostgreSQL says."""
    return not collections(connection, kind=kind, states=UNSETTLED)


def serves(connection: Connection, store: MilvusStore, name: str, layout: Layout) -> bool:
    """Whether the collection is there as it was registered, and serves in both stores."""
    known = {item.name: item for item in collections(connection, kind=layout.kind)}.get(name)
    return (
        known is not None
        and known.state == "serving"
        and store.alias_target(layout.kind) == name
        and store.ensure_collection(name, layout) == known.milvus_id
    )


def refusal(
    connection: Connection,
    store: MilvusStore,
    collection: Collection,
    sources: Iterable[SourceRow],
) -> str:
    """Why this collection must not serve; empty when it holds exactly what it must of every source."""
    if missing := uncovered_chunks(connection, collection):
        return f"{collection.name} does not hold {missing} chunks that are searchable now"
    for source in sources:
        drift = compare_collection(connection, store, collection, source, strict=True)
        if drift.verdict != "consistent":
            return f"{collection.name}, {source.name}: {drift}"
    return ""


def unfit(
    writer: Writer,
    store: MilvusStore,
    files: FileStore,
    milvus: MilvusResource,
    embedder: EmbedderResource,
    collection: Collection,
) -> str:
    """Why retrieval from this collection is not good enough to serve; empty when the checks of evaluations would pass:
    it has the known items that were found, and finds exact neighbours. Where no retrieval set is, nothing is asked."""
    kind = collection.kind
    options: dict[str, Any] = {"kinds": (kind,), "collections": {kind: collection.name}}
    with measuring_searcher(writer.database, store, milvus, embedder, **options) as searcher:
        evaluator = Evaluator(writer.connection, searcher, files)
        for source in list_sources(writer.connection):
            for known in list_sets(writer.connection, source=source.name):
                if reason := _unfit(evaluator, known):
                    return f"{collection.name}, retrieval set {known.name}: {reason}"
    return ""


def _unfit(evaluator: Evaluator, known: RetrievalSet) -> str:
    pairs = latest_and_accepted(evaluator.connection, known.source, set_name=known.name)
    if not pairs:
        return ""
    _, accepted = pairs[0]
    limit = None if known.known_items else EXACT_QUERIES
    try:
        results, _ = evaluator.evaluate(known, limit)
    except ConfigError as error:
        return str(error)
    found = {each.mode: each for each in results}
    for kind, value in poor_indexes(found):
        return f"of the exact neighbours its {kind} index finds {value:.3f}, expected {LEAST_ANN_RECALL}"
    for lost in lost_items(accepted.modes, found) if known.known_items else ():
        if lost.too_many:
            return (
                f"{len(lost.queries)} of {lost.known} known items that were found are not found in it; "
                f"if it is meant to be so: rag eval remove {known.name}"
            )
    return ""


def serve(writer: Writer, store: MilvusStore, collection: Collection) -> None:
    """Points the alias at the collection, and says so in PostgreSQL. What served before is retired, to be dropped."""
    fault_point("collection-loaded")
    store.point_alias(collection.kind, collection.name)
    fault_point("alias-moved")
    with writer.transaction() as connection:
        mark_serving(connection, collection)


def drop(writer: Writer, store: MilvusStore, out: Iterable[Collection]) -> None:
    """Drops collections. What Milvus acknowledged of them is void first, and PostgreSQL knows of them until they are
    gone."""
    for collection in out:
        with writer.transaction() as connection:
            void_collection(connection, collection.name)
        store.drop_collection(collection.name)
        fault_point("collection-dropping")
        with writer.transaction() as connection:
            forget_collection(connection, collection.name)
