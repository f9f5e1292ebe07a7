"""Which collection serves: the alias in Milvus and its record in PostgreSQL, moved together.

A kind's first collection serves at once. A later one, of another model, is published by a step of its own: after a full
comparison of every source and a measurement of retrieval. Syncs and rebuilds fill the collections.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rag_assets.consistency.comparison import compare_collection
from rag_assets.pipeline.vectors import Kind
from resources.errors import ConfigError
from resources.fault_injection import fault_point
from resources.milvus.collections import Layout
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Connection, Postgres, Writer, try_partition_lock
from resources.postgres.evaluation.evaluations import latest_and_accepted
from resources.postgres.evaluation.retrieval_sets import RetrievalSet, list_sets
from resources.postgres.identity.audit_chain import append_operation
from resources.postgres.registry.sources import SourceRow, list_sources
from resources.postgres.vectors.collections import (
    TRANSIENT,
    WRITTEN,
    Collection,
    collections,
    forget_collection,
    mark_serving,
    uncovered_chunks,
    void_collection,
)
from resources.vector_stores import ModelTarget, VectorStores

if TYPE_CHECKING:
    from rag_assets.evaluation.evaluator import Evaluator

#: Locks of a rebuild and of a publication; no partition of a source can have such a name.
REBUILD, PUBLISH = "/rebuild", "/publish"

# Recovery after a crash -------------------------------------------------------------------------------------------


def recover_publication(writer: Writer, store: MilvusStore, kind: Kind) -> None:
    """Finish what a crash interrupted: reconcile the alias, and drop half-built collections unless a rebuild runs."""
    reconcile_alias(writer, store, kind)
    if abandoned := collections(writer.connection, kind=kind, states=("rebuilding",)):
        with try_partition_lock(writer.connection, REBUILD) as idle:
            if idle:
                drop(writer, store, abandoned)


def reconcile_alias(writer: Writer, store: MilvusStore, kind: Kind) -> None:
    """Make both stores name the same serving collection, and drop the replaced ones.

    An alias that moved before PostgreSQL recorded it stays: it moved after the gate passed, and every writer reconciles
    first. A lost alias is set to the collection that PostgreSQL records as serving.
    """
    recorded = collections(writer.connection, kind=kind, states=(*WRITTEN, "rebuilding"))
    target = store.alias_target(kind)
    served: list[Collection] = []
    with writer.transaction() as connection:
        for collection in recorded:
            if collection.name == target and collection.state in ("building", "rebuilding"):
                mark_serving(connection, collection)
                served.append(collection)
            lost = target is None and collection.state == "serving"
            if lost and store.has_collection(collection.name):
                store.point_alias(kind, collection.name)
        _audit(connection, served)
    drop(writer, store, collections(writer.connection, kind=kind, states=("retired",)))


def is_recovered(connection: Connection, kind: Kind) -> bool:
    """Return whether `recover_publication` has nothing to do, by PostgreSQL's records."""
    return not collections(connection, kind=kind, states=TRANSIENT)


def is_serving(connection: Connection, store: MilvusStore, name: str, layout: Layout) -> bool:
    """Return whether the collection exists as registered and serves in both stores."""
    recorded = {item.name: item for item in collections(connection, kind=layout.kind)}.get(name)
    return (
        recorded is not None
        and recorded.state == "serving"
        and store.alias_target(layout.kind) == name
        and store.ensure_collection(name, layout) == recorded.milvus_id
    )


# A sync's part ----------------------------------------------------------------------------------------------------


def serve_or_request(writer: Writer, store: MilvusStore, kind: Kind, name: str) -> str:
    """Let a kind's first collection serve; for a later one return a sentence that states the requested publication.

    Also moves back an alias that points elsewhere although PostgreSQL records this collection as serving.
    """
    current = store.alias_target(kind)
    collection = _recorded(writer.connection, kind, name)
    if current == name and collection.state == "serving":
        return ""
    if current in (None, name) or collection.state == "serving":
        serve(writer, store, collection)
        drop(writer, store, collections(writer.connection, kind=kind, states=("retired",)))
        return ""
    return f"{current} serves until publish_collections replaces it with {name}"


def _recorded(connection: Connection, kind: Kind, name: str) -> Collection:
    return next(item for item in collections(connection, kind=kind) if item.name == name)


# Publication ------------------------------------------------------------------------------------------------------


@dataclass
class Publication:
    """The result of one publication.

    `published`: alias -> the collection that serves now. `waiting`: alias -> why it cannot be published yet. `blocked`:
    why the gate refused; then no alias moved.
    """

    published: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    blocked: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def unpublished_collections(connection: Connection, model: ModelTarget) -> list[Collection]:
    """Return the collections of the configured model that are written but do not serve, by PostgreSQL's records."""
    return [
        collection
        for collection in collections(connection, states=("building",))
        if model.keeps(collection.kind) and collection.model == model.fingerprint
    ]


def requested_collections(connection: Connection, model: ModelTarget) -> list[Collection]:
    """Return the unpublished collections that contain every chunk that is searchable now."""
    return [
        collection
        for collection in unpublished_collections(connection, model)
        if not uncovered_chunks(connection, collection)
    ]


def publish_collections(
    postgres: Postgres, stores: VectorStores, log: logging.Logger
) -> Publication:
    """Publish the configured model's collections if the gate passes for all of them; killed anywhere, the next
    publication or sync goes on."""
    report = Publication()
    with postgres.writer(PUBLISH) as writer:
        for kind in stores.kinds:
            reconcile_alias(writer, stores.milvus, kind)
        unpublished = unpublished_collections(writer.connection, stores.model)
        for collection in unpublished:
            if missing := uncovered_chunks(writer.connection, collection):
                report.waiting[collection.alias] = (
                    f"{collection.name} does not contain {missing} chunks that are searchable now"
                )
        if report.waiting or not unpublished:
            return report
        sources = list_sources(writer.connection)
        report.blocked = next(_blockers(writer, stores, unpublished, sources), "")
        if report.blocked:
            return report
        for collection in unpublished:
            serve(writer, stores.milvus, collection)
            report.published[collection.alias] = collection.name
            log.info(f"{collection.alias} now points at {collection.name}")
        drop(writer, stores.milvus, collections(writer.connection, states=("retired",)))
    return report


def _blockers(
    writer: Writer,
    stores: VectorStores,
    unpublished: Sequence[Collection],
    sources: Sequence[SourceRow],
) -> Iterator[str]:
    """Yield each reason against publication; the cheaper gate first."""
    for collection in unpublished:
        if reason := consistency_blockers(writer.connection, stores.milvus, collection, sources):
            yield reason
    for collection in unpublished:
        if reason := quality_blockers(writer, stores, collection):
            yield reason


# The gate ---------------------------------------------------------------------------------------------------------


def consistency_blockers(
    connection: Connection,
    store: MilvusStore,
    collection: Collection,
    sources: Iterable[SourceRow],
) -> str:
    """Return why this collection must not serve; empty if it contains exactly the expected rows of every source."""
    if missing := uncovered_chunks(connection, collection):
        return f"{collection.name} does not contain {missing} chunks that are searchable now"
    for source in sources:
        drift = compare_collection(connection, store, collection, source, strict=True)
        if drift.verdict != "consistent":
            return f"{collection.name}, {source.name}: {drift}"
    return ""


def quality_blockers(writer: Writer, stores: VectorStores, collection: Collection) -> str:
    """Return why retrieval from this collection is too poor to serve; empty if the checks of evaluations would pass:
    it finds the known items that were found before, and its index finds exact neighbours.

    Without a retrieval set nothing is measured.
    """
    # 0.1 s, and each sync imports this module.
    from rag_assets.evaluation.evaluator import Evaluator, measuring_searcher

    kind = collection.kind
    with measuring_searcher(
        writer.database, stores, kinds=(kind,), collections={kind: collection.name}
    ) as searcher:
        evaluator = Evaluator(writer.connection, searcher, stores.files)
        for source in list_sources(writer.connection):
            for retrieval_set in list_sets(writer.connection, source=source.name):
                if reason := _set_blockers(evaluator, retrieval_set):
                    return f"{collection.name}, retrieval set {retrieval_set.name}: {reason}"
    return ""


def _set_blockers(evaluator: Evaluator, retrieval_set: RetrievalSet) -> str:
    from rag_assets.evaluation.evaluator import EXACT_QUERIES
    from rag_assets.evaluation.quality import LEAST_ANN_RECALL, lost_items, poor_indexes

    pairs = latest_and_accepted(
        evaluator.connection, retrieval_set.source, set_name=retrieval_set.name
    )
    if not pairs:
        return ""
    _, accepted = pairs[0]
    limit = None if retrieval_set.known_items else EXACT_QUERIES
    try:
        results, _ = evaluator.evaluate(retrieval_set, limit)
    except ConfigError as error:
        return str(error)
    by_mode: Mapping[str, Any] = {result.mode: result for result in results}
    for kind, recall in poor_indexes(by_mode):
        return f"its {kind} index finds {recall:.3f} of the exact neighbours, expected {LEAST_ANN_RECALL}"
    for lost in lost_items(accepted.modes, by_mode) if retrieval_set.known_items else ():
        if lost.too_many:
            return (
                f"{len(lost.queries)} of {lost.known} known items that were found before are not found in it; "
                f"if that is intended: rag eval remove {retrieval_set.name}"
            )
    return ""


# The move ---------------------------------------------------------------------------------------------------------


def serve(
    writer: Writer, store: MilvusStore, collection: Collection, *, audited: bool = True
) -> None:
    """Point the alias at the collection, and record it in PostgreSQL. The previous one is retired, to be dropped.

    `audited`: False if the transaction around this call adds the record to the audit, at its end.
    """
    fault_point("collection-loaded")
    store.point_alias(collection.kind, collection.name)
    fault_point("alias-moved")
    with writer.transaction() as connection:
        mark_serving(connection, collection)
        if audited:
            _audit(connection, [collection])


def _audit(connection: Connection, served: Sequence[Collection]) -> None:
    for collection in served:
        append_operation(connection, "collection.publish", f"collection:{collection.name}")


def drop(writer: Writer, store: MilvusStore, dropped: Iterable[Collection]) -> None:
    """Drop collections: void their acknowledgements, drop them in Milvus, then forget them in PostgreSQL."""
    for collection in dropped:
        with writer.transaction() as connection:
            void_collection(connection, collection.name)
        store.drop_collection(collection.name)
        fault_point("collection-dropping")
        with writer.transaction() as connection:
            forget_collection(connection, collection.name)


def drop_unpublished_collections(postgres: Postgres, store: MilvusStore, model: str) -> list[str]:
    """Drop the collections of a model that are written but do not serve. Returns their names."""
    with postgres.writer(PUBLISH) as writer:
        unpublished = [
            item
            for item in collections(writer.connection, states=("building",))
            if item.model == model
        ]
        drop(writer, store, unpublished)
    return [item.name for item in unpublished]
