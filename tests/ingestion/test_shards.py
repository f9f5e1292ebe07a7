"""A source in shards: it is listed once, leaves the same rows as one sync, and is synced when all shards are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import dagster as dg
import psycopg
import pytest

from rag_assets.assets.vectors import dense_vectors
from rag_assets.partitions import SYNC_TAG
from rag_assets.pipeline.shards import Shard
from resources.errors import ConfigError, StoreUnavailable
from resources.partition_keys import shard_keys, shard_of, source_name
from resources.postgres.registry import sources
from resources.postgres.registry.sources import get_source, update_source
from resources.postgres.vectors.collections import register_collection, written_collection
from tests.support.extent import only_in_soak
from tests.support.rows import collection_of
from tests.support.stored import assert_consistent
from tests.support.texts import ENGLISH, long_text
from tests.support.world import Dagster, World


def tags_of_sync(sync_id: str) -> dict[str, str]:
    """The tags that the runs of one sync's shards have in common."""
    return {SYNC_TAG: sync_id}


def stored_rows(world: World) -> list[Any]:
    """The rows that a sync leaves, without times and run ids."""
    return [
        world.connection.execute(query).fetchall()
        for query in (
            "SELECT id, source_key, content, raw_hash, version, indexed_as FROM documents ORDER BY id",
            "SELECT id, document_id, position, text_hash, embedding_status FROM document_chunks ORDER BY id",
            "SELECT collection, chunk_id, row_count FROM vector_rows ORDER BY 1, 2",
            "SELECT model_fingerprint, text_hash, kinds FROM embeddings ORDER BY 1, 2",
            "SELECT total_documents, successful_documents, failed_documents, sync_status FROM sources",
        )
    ]


def split_into_shards(world: World, shards: int) -> None:
    row = get_source(world.connection, "docs")
    world.connection.execute(
        """UPDATE sources SET connection_config = connection_config || jsonb_build_object('shards', %s::int)
           WHERE id = %s""",
        [shards, row.id],
    )
    world.instance.add_dynamic_partitions("sources", shard_keys("docs", shards))


def status(world: World) -> str:
    return world.one("SELECT sync_status FROM sources")


@pytest.mark.parametrize("shards", [2, *only_in_soak(3)])
def test_shards_leave_the_rows_of_one_sync_and_list_once(world: World, shards: int) -> None:
    world.write({f"{n}.md": long_text(f"house {n % 5}", 3) for n in range(12)})
    world.add()
    world.fill()
    before = stored_rows(world)

    # The same source from the beginning, in shards.
    split_into_shards(world, shards)
    world.connection.execute("DELETE FROM source_entries")
    world.connection.execute("DELETE FROM documents")
    world.connection.execute("DELETE FROM embedding_files")
    keys = shard_keys("docs", shards)
    plans = []
    for done, key in enumerate([keys[-1], *keys[:-1]]):
        assert status(world) == ("running" if done else "completed")
        plans.append(world.sync(key, tags_of_sync("first")))
    assert stored_rows(world) == before
    assert [plan["source_documents"]["inserted"] for plan in plans] == [12, *[0] * (shards - 1)]
    sizes = [plan["documents"]["inserted"] for plan in plans]
    assert sum(sizes) == 12
    assert all(size > 0 for size in sizes)
    chunks = sum(plan["dense_vectors"]["inserted"] for plan in plans)
    assert chunks == world.one("SELECT count(*) FROM document_chunks")
    assert_consistent(world)

    # An edit and a deletion cost only their changes, each in its shard, in any order.
    world.write({"1.md": ENGLISH})
    (world.folder / "docs" / "2.md").unlink()
    plans = [world.sync(key, tags_of_sync("second")) for key in reversed(keys)]
    assert sum(plan["documents"]["replaced"] for plan in plans) == 1
    assert sum(plan["documents"]["deleted"] for plan in plans) == 1
    assert sum(plan["chunk_embeddings"]["inserted"] for plan in plans) == 1
    assert status(world) == "completed"
    assert_consistent(world)
    # A sync of the whole source has nothing left to do.
    assert all(plan["inserted"] + plan["deleted"] == 0 for plan in world.fill().values())


def test_a_source_is_synced_when_all_of_its_shards_are(world: World) -> None:
    world.write({f"{n}.md": long_text(f"house {n}", 1) for n in range(6)})
    world.add(shards=2)
    first, second = shard_keys("docs", 2)
    world.sync(first, tags_of_sync("a"))
    assert status(world) == "running"
    missing = world.folder / "docs"
    missing.rename(world.folder / "away")
    failed = world.run("sync_source", second, tags=tags_of_sync("b"), raise_on_error=False)
    assert not failed.success
    assert status(world) == "failed"
    # So does Dagster execute a run over both again from a failure in its last step: nothing was listed.
    for key in (first, second):
        dg.materialize(
            [dense_vectors],
            instance=world.instance,
            resources=world.resources,
            partition_key=key,
            tags=tags_of_sync("b"),
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        assert status(world) == "failed"
    # A shard of the earlier sync that ends now does not change the status.
    world.sync(second, tags_of_sync("a"))
    assert status(world) == "failed"
    (world.folder / "away").rename(missing)
    world.sync(second, tags_of_sync("c"))
    assert status(world) == "running"
    world.sync(first, tags_of_sync("c"))
    assert status(world) == "completed"
    assert_consistent(world)


def test_the_number_of_shards_cannot_change_while_a_shard_is_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "RESHARDING_SECONDS", 0.2)
    world.write({"a.md": ENGLISH})
    row = world.add(shards=2)
    more = replace(row, config={**row.config, "shards": 3})
    (key, _) = shard_keys("docs", 2)
    with world.postgres.writer(key), pytest.raises(StoreUnavailable, match="docs is being written"):
        update_source(world.connection, more)
    update_source(world.connection, more)
    failed = world.run("sync_source", key, raise_on_error=False)
    (event,) = [event for event in failed.all_events if event.is_step_failure]
    assert "which has 3 shards" in str(event.step_failure_data.user_failure_data)


def test_concurrent_shards_list_the_source_once(world: World) -> None:
    world.write({f"{n}.md": long_text(f"house {n}", 1) for n in range(12)})
    world.add(shards=2)
    keys = shard_keys("docs", 2)
    # One waits for the other's listing, on a busy machine longer than a test usually may.
    settings = world.settings.model_copy(update={"lock_timeout": 60})

    def sync(key: str) -> dict[str, dict[str, int]]:
        # Threads cannot share an instance in memory: it is one SQLite session.
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions("sources", keys)
            own = World(settings, world.folder, Dagster(instance=instance), world.connection)
            return own.sync(key, tags_of_sync("one"))

    with ThreadPoolExecutor(len(keys)) as pool:
        plans = list(pool.map(sync, keys))
    assert sorted(plan["source_documents"]["inserted"] for plan in plans) == [0, 12]
    assert sum(plan["documents"]["inserted"] for plan in plans) == 12
    assert status(world) == "completed"
    assert_consistent(world)


def test_syncs_that_begin_together_write_one_new_collection(world: World) -> None:
    collection = collection_of("dense")

    class Overtaken(psycopg.Cursor[Any]):
        """Another sync records the collection after the first query."""

        def execute(self, *args: Any, **options: Any) -> Any:
            found = super().execute(*args, **options)
            register_collection(world.connection, collection)
            return found

    with psycopg.connect(world.settings.postgres_url, cursor_factory=Overtaken) as late:
        name = written_collection(late, collection.alias, collection.model)
    assert name == collection.name
    register_collection(world.connection, replace(collection, name=name))
    assert world.one("SELECT count(*) FROM vector_collections") == 1


@pytest.mark.parametrize("of", [2, 3, 7, 256])
def test_every_document_is_in_one_shard(of: int) -> None:
    shards = [Shard(number, of) for number in range(1, of + 1)]
    ends = [(shard.first.int, shard.last.int) for shard in shards]
    assert ends[0][0] == 0
    assert ends[-1][1] == 2**128 - 1
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(ends))
    keys = shard_keys("docs", of)
    assert [shard_of(key) for key in keys] == shards
    assert {source_name(key) for key in keys} == {"docs"}
    assert shard_of("docs") is None


def test_an_invalid_number_of_shards_is_rejected_or_read_as_one(world: World) -> None:
    with pytest.raises(ConfigError, match="shards"):
        world.add(shards=0)
    world.add("other", shards=2)
    world.connection.execute(
        'UPDATE sources SET connection_config = connection_config || \'{"shards": "many"}\''
    )
    assert get_source(world.connection, "other").shards == 1
