"""What each key of an explanation reads, and calls that name a source: under an access scope, in `three_sources`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from rag_assets.operations.lineage import explain, explain_at
from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.filters import Filters
from rag_assets.search.request import SearchRequest
from resources.errors import ConfigError
from resources.postgres.documents.lineage import (
    find_document,
    read_chunks,
    read_document,
    read_entry,
    read_erasure_time,
    read_left,
    read_same_content,
    read_vectors,
    read_version_at,
    read_versions,
)
from resources.postgres.documents.near_duplicates import similar_documents
from resources.postgres.registry.visible_sources import require_sources
from tests.support.three_sources import (
    QUERY,
    document,
    lineage,
)
from tests.support.world import World


def found(world: World, name: str, source: str | None, scope: AccessScope) -> bool:
    try:
        return bool(find_document(world.connection, name, source, scope))
    except ConfigError:
        return False


def model(world: World) -> str:
    return world.stores.model.fingerprint


def dense(world: World) -> str:
    return world.one("SELECT name FROM vector_collections WHERE kind = 'dense'")


#: Each reads from a document of `vault` what an explanation shows under this key.
READS: Mapping[str, Callable[[World, uuid.UUID, AccessScope], object]] = {
    "document_id": lambda world, id, scope: found(world, str(id), None, scope),
    "key": lambda world, id, scope: found(world, "treasure.md", None, scope),
    "source": lambda world, id, scope: found(world, "vault/treasure.md", None, scope),
    "state": lambda world, id, scope: read_erasure_time(
        world.connection, erased_document(world), scope
    ),
    "entry": lambda world, id, scope: read_entry(world.connection, id, scope),
    "left": lambda world, id, scope: left(world, id, scope),
    "raw": lambda world, id, scope: read_entry(world.connection, id, scope),
    "document": lambda world, id, scope: read_document(world.connection, id, scope),
    "reading": lambda world, id, scope: read_document(world.connection, id, scope),
    "chunks": lambda world, id, scope: read_chunks(world.connection, id, model(world), scope),
    "vectors": lambda world, id, scope: read_vectors(
        world.connection, id, dense(world), model(world), scope
    ),
    "versions": lambda world, id, scope: read_versions(world.connection, id, scope),
    "same_content": lambda world, id, scope: read_same_content(
        world.connection, uuid.uuid4(), content_hash(world, id), scope
    ),
    "near_duplicates": lambda world, id, scope: similar_documents(
        world.connection, document(world, "near.md"), scope
    ),
    "runs": lambda world, id, scope: read_versions(world.connection, id, scope),
}
#: The same of the explanation of a moment, whose `at` is the question.
READS_AT: Mapping[str, Callable[[World, uuid.UUID, AccessScope], object]] = {
    **{key: READS[key] for key in ("document_id", "key", "source")},
    **{
        key: lambda world, id, scope: read_version_at(
            world.connection, id, first_version(world, id), scope
        )
        for key in ("document", "valid_to", "ended_by", "runs")
    },
}


def erased_document(world: World) -> uuid.UUID:
    return world.one("SELECT document_id FROM forgotten WHERE source = 'vault'")


def first_version(world: World, id: uuid.UUID) -> datetime:
    return world.one(
        "SELECT valid_from FROM document_versions WHERE document_id = %s ORDER BY valid_from", id
    )


def left(world: World, id: uuid.UUID, scope: AccessScope) -> object:
    """Read the reason why a sync left the document as it was, after one was recorded."""
    world.connection.execute(
        """INSERT INTO left_documents (source_id, key, document_id, reason)
           SELECT source_uuid, source_key, id, 'being written' FROM documents WHERE id = %s ON CONFLICT DO NOTHING""",
        [id],
    )
    return read_left(world.connection, id, scope)


def content_hash(world: World, id: uuid.UUID) -> str:
    return world.one("SELECT content_hash FROM source_entries WHERE document_id = %s", id)


#: Each names a source that may be unknown.
MISTAKES: Mapping[str, Callable[[World, str, AccessScope], object]] = {
    "a filter": lambda world, name, scope: world.searcher().search(
        SearchRequest(QUERY, filters=Filters(source=(name,))), scope
    ),
    "explain SOURCE/KEY": lambda world, name, scope: explain(
        lineage(world), f"{name}/hours.md", None, scope
    ),
    "explain --source": lambda world, name, scope: explain(lineage(world), "hours.md", name, scope),
    "explain --at": lambda world, name, scope: explain_at(
        lineage(world), f"{name}/hours.md", None, datetime.now(UTC), scope
    ),
    "near-duplicates of a source": lambda world, name, scope: require_sources(
        world.connection, [name], scope
    ),
}
