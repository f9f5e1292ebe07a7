"""Milvus servers that do not answer, and the repairs of a killed Milvus Lite at its next start."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from rag_assets.settings.search import EMBEDDED_INDEX
from resources.embedded import milvus_server
from resources.embedded.stack import MilvusEndpoint, start_milvus, stop
from resources.errors import StoreUnavailable
from resources.milvus.store import MilvusStore
from tests.support.extent import only_in_soak
from tests.support.folders import servers_folder
from tests.support.milvus_rows import DENSE, fields, scanned, vectors
from tests.support.suspension import suspended

ROWS = fields(40)
IDS = [f"{row.chunk_id}_dense" for row in ROWS]


@pytest.fixture
def own_home() -> Iterator[Path]:
    with servers_folder("rag-milvus-") as home:
        yield home
        stop(home)


def kill(server: MilvusEndpoint) -> None:
    process = psutil.Process(server.pid)
    process.kill()
    process.wait(5)


def test_a_server_that_died_or_hangs_is_unavailable_within_the_timeout(own_home: Path) -> None:
    server = start_milvus(own_home)
    store = MilvusStore(server.uri, timeout=1)
    store.ensure_collection("a", DENSE)
    calls = [
        lambda: scanned(store, "a"),
        lambda: store.upsert_dense("a", fields(2), vectors(2)),
        lambda: store.has_collection("a"),
        lambda: store.compare("a", DENSE),
    ]
    with suspended(server.pid):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="could not look for a"):
            store.has_collection("a")
        assert time.monotonic() - began < 10
    kill(server)
    for call in calls:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=server.uri):
            call()
        assert time.monotonic() - began < 10
    with pytest.raises(StoreUnavailable, match="connect"):
        MilvusStore(server.uri, timeout=1).has_collection("a")


@pytest.fixture(scope="module")
def killed_in_a_flush() -> Iterator[Path]:
    """The data after such a kill: rows are in a segment, and their log and a newer log still exist."""
    with servers_folder("rag-milvus-") as home:
        server = start_milvus(home)
        store = MilvusStore(server.uri)
        store.ensure_collection("a", DENSE)
        store.upsert_dense("a", ROWS[:20], vectors(20))
        logs = {path: path.read_bytes() for path in (home / "milvus").rglob("wal/*.arrow")}
        store.client.flush("a")
        store.upsert_dense("a", ROWS[20:], vectors(20))
        store.delete_ids("a", IDS[20:22])
        kill(server)
        store.close()
        for path, data in logs.items():
            path.write_bytes(data)
        yield home / "milvus"


@pytest.mark.parametrize("crash", ["unknown", *only_in_soak("known"), "known, and another one"])
def test_a_start_repairs_the_duplicate_rows_of_a_kill_in_a_flush(
    own_home: Path, killed_in_a_flush: Path, crash: str
) -> None:
    """A start that knows of the crash repairs the rows before it serves, even if it is killed and started again."""
    shutil.copytree(killed_in_a_flush, own_home / "milvus")
    if crash == "unknown":
        (own_home / "milvus" / milvus_server.RUNNING).unlink()
    if "another" in crash:
        kill(start_milvus(own_home))
    store = MilvusStore(start_milvus(own_home).uri)
    if crash == "unknown":
        store.client.flush("a")
        # The duplicates exist without the repair.
        assert max(Counter(scanned(store, "a")).values()) == 2
        return
    live = [*IDS[:20], *IDS[22:]]
    assert Counter(scanned(store, "a")) == dict.fromkeys(live, 1)
    assert store.copies("a", IDS) == dict.fromkeys(live, 1)
    assert store.fingerprints("a", IDS) == dict.fromkeys(live, "a" * 32)
    assert store.count("a") == len(live)
    assert not (own_home / "milvus" / milvus_server.REPLAYED).exists()
    store.close()


@pytest.fixture(scope="module")
def killed_with_indexes() -> Iterator[Path]:
    """The data of a killed server with two indexed collections, `a` and `b`."""
    with servers_folder("rag-milvus-") as home:
        store = MilvusStore(start_milvus(home).uri)
        rows = fields(300)
        for name in ("a", "b"):
            store.ensure_collection(name, replace(DENSE, index=EMBEDDED_INDEX))
            store.upsert_dense(name, rows, vectors(300))
            store.client.flush(name)
        stop(home)
        store.close()
        kill(start_milvus(home))
        yield home / "milvus"


@pytest.mark.parametrize("crash", ["kill", "power cut"])
def test_an_incomplete_index_file_is_rebuilt(
    own_home: Path, killed_with_indexes: Path, crash: str
) -> None:
    """After a kill complete files are kept, since a build takes seconds; after a power cut no file is trusted."""
    shutil.copytree(killed_with_indexes, own_home / "milvus")
    incomplete, complete = sorted((own_home / "milvus").rglob("partitions/*/indexes/*.idx"))
    content = complete.read_bytes()
    incomplete.write_bytes(incomplete.read_bytes()[:-1])
    os.utime(complete, (1, 1))
    if crash == "power cut":
        (own_home / "milvus" / milvus_server.RUNNING).write_text("another boot")
    store = MilvusStore(start_milvus(own_home).uri)
    for name in ("a", "b"):
        vector = vectors(300)[7].tolist()
        hits = store.client.search(name, [vector], limit=1, output_fields=["id"])
        assert hits[0][0]["id"] == f"{fields(300)[7].chunk_id}_dense"
    assert incomplete.stat().st_size == len(content) == complete.stat().st_size
    assert (complete.stat().st_mtime == 1) == (crash == "kill")
    store.close()


def test_a_load_without_enough_memory_keeps_the_index(tmp_path: Path) -> None:
    index = tmp_path / "a" / "partitions" / "p" / "indexes" / "vector.idx"
    index.parent.mkdir(parents=True)
    index.touch()

    class Collection:
        """A collection on a machine without free memory."""

        load_state, data_dir = "released", str(tmp_path / "a")

        def load(self) -> None:
            raise MemoryError

    class Database:
        def list_databases(self) -> list[str]:
            return ["default"]

        def list_collections(self, _: str) -> list[str]:
            return ["a"]

        def get_collection(self, *_: str) -> Collection:
            return Collection()

    milvus_server._load_and_repair(Database(), tmp_path / milvus_server.REPLAYED)
    assert index.exists()
