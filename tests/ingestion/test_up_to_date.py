"""Whether a sync has anything to do, decided without it: the answer is held to what the sync then does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import LiteralString

import psycopg
import pytest

from rag_assets.ingestion import parse
from rag_assets.ingestion.up_to_date import CHECKS, UpToDate, find_up_to_date
from rag_assets.pipeline import chunking
from resources.errors import StoreUnavailable
from resources.postgres.connection import Connection
from resources.postgres.registry.sources import get_source
from resources.sources.signs import FINE_TICK
from tests.ingestion.test_sync import ASSETS as STAGES
from tests.support.stored import assert_stores_match
from tests.support.texts import ENGLISH, JAPANESE, long_text
from tests.support.world import World, job_named

#: Kind of change in PostgreSQL -> the statement. A sync takes up each of them, or decides what became of it.
CHANGES: Mapping[str, LiteralString] = {
    "a document that could not be fetched": (
        "UPDATE source_entries SET error = 'away', content_hash = NULL WHERE key = 'a.md'"
    ),
    "a document that was read before its last change": (
        "UPDATE source_entries SET content_hash = repeat('0', 64) WHERE key = 'a.md'"
    ),
    "an entry that is not recorded": "DELETE FROM source_entries WHERE key = 'a.md'",
    "an edited text": "UPDATE documents SET content = 'Other words.' WHERE source_key = 'a.md'",
    "an edited field": "UPDATE documents SET language = 'de' WHERE source_key = 'a.md'",
    "a deleted document": "DELETE FROM documents WHERE source_key = 'a.md'",
    "a document to parse again": "UPDATE documents SET parser_fingerprint = NULL WHERE source_key = 'a.md'",
    "a document to split again": "UPDATE documents SET chunker_fingerprint = NULL WHERE source_key = 'a.md'",
    "a document without a signature": "DELETE FROM document_signatures",
    "vectors that are not acknowledged": "UPDATE documents SET indexing_status = 'indexing'",
    "vectors of other kinds": "UPDATE documents SET indexed_as = 'another'",
    "a deletion that waits for Milvus": "DELETE FROM document_chunks WHERE position = 0",
    "a chunk of another source": """WITH other AS (INSERT INTO sources (name, source_type, connection_config)
        VALUES ('other', 'folder', '{}') RETURNING id) UPDATE document_chunks SET source_uuid = other.id FROM other""",
    "a sync that failed": "UPDATE sources SET sync_status = 'failed', error_count = 1, last_error = 'away'",
    "a sync that was interrupted": "UPDATE sources SET sync_status = 'running'",
    "a sync that waits": "UPDATE sources SET sync_status = 'pending'",
    "documents that are held back": "UPDATE sources SET held_back = 'many turned into one'",
    "a document that was left": """INSERT INTO left_documents (source_id, key, document_id, reason)
        SELECT source_id, key, document_id, 'is being written' FROM source_entries WHERE key = 'a.md'""",
    "a check of the sync that failed": """INSERT INTO check_results (source_id, asset, check_name, form, outcome,
          sentence, remedy, command, since, checked_at, run_id)
        SELECT id, 'document_chunks', 'chunks_have_documents', 'full', 'failed', '', 'repair', '', now(), now(), ''
        FROM sources""",
    "another language": """UPDATE sources SET connection_config = connection_config || '{"language": "fr"}'""",
    "fewer files": """UPDATE sources SET connection_config = connection_config || '{"exclude": ["a.md"]}'""",
    "another folder": """UPDATE sources SET connection_config = connection_config || '{"path": "/nowhere"}'""",
    "a collection to drop": """INSERT INTO vector_collections (name, alias, kind, model_fingerprint, dimension,
          milvus_id, state) SELECT 'old', alias, kind, model_fingerprint, dimension, '', 'retired'
        FROM vector_collections WHERE kind = 'dense'""",
    "a collection that was created again": "UPDATE vector_collections SET milvus_id = '0' WHERE kind = 'sparse'",
    "a collection that does not serve": "UPDATE vector_collections SET state = 'building' WHERE kind = 'dense'",
}


def up_to_date(world: World, connection: Connection | None = None) -> dict[str, UpToDate]:
    connection = connection or world.connection
    stores, resources = world.stores, world.resources
    with closing(stores.milvus):
        return find_up_to_date(
            connection,
            {"docs": get_source(connection, "docs")},
            resources["parsing"].limits(),
            resources["chunking"].config(),
            stores,
            logging.getLogger("test"),
        )


@contextmanager
def undone(connection: Connection, statement: LiteralString) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        assert connection.execute(statement).rowcount
        yield


@pytest.fixture
def synced(world: World) -> World:
    world.write({"a.md": ENGLISH, "b.md": JAPANESE, "c.md": long_text("c", 3), "empty.md": ""})
    world.add()
    # A younger file is read once more by the next sync.
    time.sleep(2 * FINE_TICK)
    world.fill()
    return world


def test_each_change_in_postgres_or_in_the_settings_is_left_to_the_sync(
    synced: World, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = synced.one("SELECT last_sync_at FROM sources")
    synced.connection.execute("UPDATE sources SET next_sync_at = 'infinity'::date - 1")
    found = up_to_date(synced)
    assert set(found["docs"].outcomes) == STAGES
    plans = {asset: outcome.plan.as_dict() for asset, outcome in found["docs"].outcomes.items()}
    assert plans == synced.fill() | {"chunk_embeddings": plans["chunk_embeddings"]}
    assert synced.one("SELECT last_sync_at FROM sources") > before

    wrong = []
    for name, statement in CHANGES.items():
        with undone(synced.connection, statement):
            wrong += [name] if up_to_date(synced) else []
    assert wrong == []

    others = {
        "smaller chunks": {"chunk_max_chars": 500},
        "fewer kinds": {"vectors": ("dense",)},
        "more kinds": {"vectors": ("dense", "sparse", "multi")},
        "another model": {"embedder": "bge-m3"},
    }
    assert [
        name for name, values in others.items() if up_to_date(synced.configured(**values))
    ] == []
    for module, version in ((parse, "PARSER_VERSION"), (chunking, "CHUNKER_VERSION")):
        with monkeypatch.context() as patched:
            patched.setattr(module, version, "another")
            assert not up_to_date(synced), version

    # A source that another session writes, as a whole or one of its shards.
    with psycopg.connect(postgres_url, autocommit=True) as session:
        for partition in ("docs", "docs/01-of-02"):
            with synced.postgres.writer(partition):
                assert not up_to_date(synced, session), partition
    with undone(
        synced.connection,
        """UPDATE sources SET connection_config = connection_config || '{"shards": 2}'""",
    ):
        assert up_to_date(synced)
    assert up_to_date(synced)


def test_each_change_that_a_sync_takes_up_is_left_to_it(synced: World) -> None:
    root, store = synced.folder / "docs", synced.store

    def drop_collection() -> None:
        name = store.alias_target("sparse")
        assert name is not None
        store.client.drop_alias("sparse_collection")
        store.drop_collection(name)

    changes: dict[str, Callable[[], object]] = {
        "a new file": lambda: (root / "new.md").write_text(long_text("new", 2)),
        "a changed file": lambda: (root / "a.md").write_text(ENGLISH + "\nA café.\n"),
        "a renamed file": lambda: (root / "b.md").rename(root / "moved.md"),
        "a deleted file": lambda: (root / "new.md").unlink(),
        "a dropped collection": drop_collection,
    }
    for name, change in changes.items():
        assert up_to_date(synced), name
        change()
        assert not up_to_date(synced), name
        time.sleep(2 * FINE_TICK)
        plans = synced.fill()
        assert any(plan[n] for plan in plans.values() for n in ("inserted", "replaced", "deleted"))
    store.client.drop_alias("dense_collection")
    assert not up_to_date(synced)
    synced.fill()
    assert up_to_date(synced)
    assert_stores_match(synced)

    with pytest.raises(StoreUnavailable):
        up_to_date(synced.configured(milvus_uri="http://127.0.0.1:1", milvus_timeout=0.5))


def test_the_checks_and_stages_are_those_of_the_job() -> None:
    layer = job_named("sync_source").asset_layer
    assert {key.name for key in layer.asset_graph.asset_check_keys} == set(CHECKS)
    assert {key.to_user_string() for key in layer.executable_asset_keys} == STAGES
