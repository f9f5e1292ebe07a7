"""Checks between PostgreSQL and Milvus, on each of the three vector assets."""

import uuid
from collections.abc import Mapping

import dagster as dg

from rag_assets.assets.vectors import dense_vectors, multi_vectors, sparse_vectors
from rag_assets.checks.consistency import compare_collection
from rag_assets.checks.evidence import COLUMNS, evidence
from rag_assets.checks.results import of_each_source, result
from rag_assets.partitions import SOURCES
from rag_assets.pipeline.drift import Drift
from rag_assets.pipeline.vectors import Kind
from resources.configured import EmbedderResource, MilvusResource, PostgresResource
from resources.milvus.collections import ALIASES
from resources.milvus.store import MilvusStore
from resources.postgres.check_results import REPAIR
from resources.postgres.collections import collections
from resources.postgres.connection import Connection
from resources.postgres.sources import get_source

ASSETS: Mapping[Kind, dg.AssetsDefinition] = {
    "dense": dense_vectors,
    "sparse": sparse_vectors,
    "multi": multi_vectors,
}


def _vectors_match(kind: Kind) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=ASSETS[kind],
        name=f"{kind}_vectors_match_postgres",
        description="Milvus holds exactly the rows that PostgreSQL says, with the right row_fingerprint, each once.",
        partitions_def=SOURCES,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        postgres: PostgresResource,
        milvus: MilvusResource,
        embedder: EmbedderResource,
    ) -> dg.AssetCheckResult:
        store = milvus.open()
        with postgres.open().connect(autocommit=True) as connection:
            return of_each_source(
                context, lambda name: _compare(connection, store, embedder, kind, name)
            )

    return check


def _compare(
    connection: Connection, store: MilvusStore, embedder: EmbedderResource, kind: Kind, name: str
) -> dg.AssetCheckResult:
    source = get_source(connection, name)
    drift, rows = Drift(), []
    for collection in collections(connection, kind=kind):
        found = compare_collection(connection, store, collection, source)
        rows += evidence(connection, store, collection, found)
        drift.add(found)
    sentence = f"{source.name} in {ALIASES[kind]}: {drift}"
    unwritten = (
        _unwritten(connection, source.id, embedder.collection(connection, kind))
        if embedder.wants(kind)
        else 0
    )
    if unwritten:
        sentence += f"; {unwritten} chunks are not acknowledged yet"
    return result(
        drift.verdict == "consistent" and not unwritten,
        sentence + ".",
        columns=COLUMNS,
        rows=rows,
        mend=f"{REPAIR} --source {source.name}",
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


def _index_is_declared(kind: Kind) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=ASSETS[kind],
        name=f"{kind}_index_is_as_declared",
        description="The collection has the declared dimension; its index is the declared one, finished and loaded.",
        partitions_def=SOURCES,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        postgres: PostgresResource,
        milvus: MilvusResource,
        embedder: EmbedderResource,
    ) -> dg.AssetCheckResult:
        with postgres.open().connect(autocommit=True) as connection:
            known = {item.name for item in collections(connection, kind=kind)}
            name = embedder.collection(connection, kind)
        found = _index(known, name, milvus, embedder, kind)
        return of_each_source(context, lambda _: found)  # the sources share the collection

    return check


def _index(
    known: set[str], name: str, milvus: MilvusResource, embedder: EmbedderResource, kind: Kind
) -> dg.AssetCheckResult:
    if not embedder.wants(kind):
        return result(
            True,
            f"{kind} is not among RAG_VECTORS={','.join(embedder.kinds)}: nothing is declared.",
        )
    store = milvus.open()
    found = store.differences(name, milvus.layout(kind, embedder.open()))
    serving = store.alias_target(kind)
    if serving != name:
        found.append(f"{ALIASES[kind]}: expected to point at {name}, found {serving}")
    if name not in known:
        found.append(f"{name}: expected to be recorded in vector_collections, found nothing")
    said = "the index is as declared, finished and loaded." if not found else "; ".join(found) + "."
    return result(
        not found,
        f"{name}: {said}",
        columns=("difference",),
        rows=[(difference,) for difference in found],
        mend="rag ingest",
    )


VECTOR_CHECKS: list[dg.AssetChecksDefinition] = [
    make(kind)
    for kind in ("dense", "sparse", "multi")
    for make in (_vectors_match, _index_is_declared)
]
