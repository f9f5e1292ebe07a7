"""The embedded servers: started, found again, stopped, killed. Real servers, about one second per start."""

from __future__ import annotations

import os
import pkgutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import grpc
import psutil
import psycopg
import pytest

from resources.embedded import milvus_server
from resources.embedded.process import ended, find
from resources.embedded.stack import (
    MilvusEndpoint,
    PostgresEndpoint,
    running,
    start_milvus,
    start_postgres,
    stop,
)
from resources.errors import StackError
from resources.postgres.connection import Postgres
from tests.support.folders import servers_folder
from tests.support.suspension import suspend, suspended

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def folder() -> Iterator[Path]:
    with servers_folder("rag-test-") as folder:
        yield folder


@pytest.fixture
def own_home(folder: Path) -> Iterator[Path]:
    """A new home, beside that of the session's servers."""
    yield folder / "home"
    stop(folder / "home")


def start_both(home: Path) -> tuple[PostgresEndpoint, MilvusEndpoint]:
    with ThreadPoolExecutor(2) as pool:
        postgres, milvus = pool.submit(start_postgres, home), pool.submit(start_milvus, home)
        return postgres.result(), milvus.result()


def kill(*pids: int) -> None:
    processes = [psutil.Process(pid) for pid in pids]
    for process in processes:
        process.kill()
    assert all(ended(process, 5) for process in processes)


def fill(uri: str, rows: int) -> None:
    from pymilvus import MilvusClient

    client = MilvusClient(uri)
    client.create_collection("t", dimension=4, id_type="string", max_length=64)
    client.upsert("t", [{"id": f"{i:04x}", "vector": [0.1, 0.2, 0.3, i]} for i in range(rows)])
    client.close()


def count(uri: str) -> int:
    from pymilvus import MilvusClient

    client = MilvusClient(uri)
    client.load_collection("t")
    rows = client.query("t", filter='id >= "0"', output_fields=["id"])
    client.close()
    return len({row["id"] for row in rows})


def test_servers_with_long_paths_keep_their_data_through_a_stop_and_a_kill(
    folder: Path,
    home: Path,
    postgres_url: str,
    milvus_uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside the servers of another home, which keep running."""
    others = running(home)
    # Another test may have started Valkey too.
    assert others | {"postgres": postgres_url, "milvus": milvus_uri} == others
    own_home = folder / "長い\"'$x" / ("long, " * 30)
    try:
        assert_start_and_stop_are_idempotent(own_home, monkeypatch)
        assert_both_recover_from_a_kill(own_home)
        urls = running(own_home)
        assert urls.keys() == {"postgres", "milvus"} and not set(urls.values()) & set(
            others.values()
        )
        assert stop(own_home) == ["milvus", "postgres"]
    finally:
        stop(own_home)
    assert running(home) == others


def assert_start_and_stop_are_idempotent(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stop(home) == [] and running(home) == {} and not home.exists()
    postgres, milvus = start_both(home)
    assert postgres.started and milvus.started
    again, milvus_again = start_both(home)
    assert (again.url, again.pid, again.started) == (postgres.url, postgres.pid, False)
    assert (milvus_again.uri, milvus_again.pid, milvus_again.started) == (
        milvus.uri,
        milvus.pid,
        False,
    )
    began = time.perf_counter()
    assert running(home) == {"postgres": postgres.url, "milvus": milvus.uri}
    # 0.01 s: no server gets a request.
    assert time.perf_counter() - began < 1
    # The code of another checkout finds it, too.
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(
            milvus_server, "__file__", "/elsewhere/resources/embedded/milvus_server.py"
        )
        assert running(home)["milvus"] == milvus.uri

    with psycopg.connect(postgres.url) as connection:
        connection.execute("CREATE TABLE t AS SELECT 'ü漢' AS v")
        settings = {
            name: connection.execute(f"SHOW {name}").fetchone()
            for name in (
                "listen_addresses",
                "fsync",
                "synchronous_commit",
                "server_encoding",
                "TimeZone",
            )
        }
    assert settings == {
        "listen_addresses": ("",),
        "fsync": ("on",),
        "synchronous_commit": ("on",),
        "server_encoding": ("UTF8",),
        "TimeZone": ("UTC",),
    }
    fill(milvus.uri, 100)

    assert stop(home) == ["milvus", "postgres"]
    assert stop(home) == [] and running(home) == {}
    assert find(postgres.pid) is None and find(milvus.pid) is None
    # As a copy of the home folder is: other permissions, and root's files if root made it.
    (home / "postgres").chmod(0o755)
    if os.geteuid() == 0:
        for path in (home / "postgres", home / "postgres" / "PG_VERSION"):
            os.chown(path, 0, 0)
    with psycopg.connect(start_postgres(home).url) as connection:
        assert connection.execute("SELECT v FROM t").fetchone() == ("ü漢",)
    restarted = start_milvus(home)
    assert restarted.uri == milvus.uri
    assert count(restarted.uri) == 100


def assert_both_recover_from_a_kill(home: Path) -> None:
    postgres, milvus = start_both(home)
    with psycopg.connect(postgres.url) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT generate_series(1, 1000)")
    # A busy backend does not notice the death of its postmaster: it keeps the shared memory.
    busy = psycopg.connect(postgres.url)
    query = "DO $$ BEGIN FOR i IN 1..2000000000 LOOP END LOOP; END $$"
    with ThreadPoolExecutor(1) as pool:
        running_query = pool.submit(busy.execute, query)
        time.sleep(0.2)
        kill(postgres.pid, milvus.pid)
        assert running(home) == {}
        # After a reboot the pids belong to other processes, here to this test: no call may stop it or wait for it.
        for record in ("postgres/postmaster.pid", "run/milvus.json", "run/postgres.json"):
            text = (home / record).read_text()
            for pid in (postgres.pid, milvus.pid):
                text = text.replace(str(pid), str(os.getpid()))
            (home / record).write_text(text)
        assert running(home) == {} and stop(home) == []
        started, server = start_both(home)
        assert isinstance(running_query.exception(timeout=5), psycopg.OperationalError)
    assert started.started and started.pid != postgres.pid and started.url == postgres.url
    with psycopg.connect(started.url) as connection:
        assert connection.execute("SELECT count(*) FROM numbers").fetchone() == (1000,)
        victim = connection.info.backend_pid
        with pytest.raises(psycopg.OperationalError):
            kill(victim)
            connection.execute("SELECT 1")
    # PostgreSQL ended all of its sessions and recovers: a new session waits for that.
    with Postgres(started.url).connect() as connection:
        assert connection.execute("SELECT count(*) FROM numbers").fetchone() == (1000,)
    assert server.started and server.uri == milvus.uri
    assert count(server.uri) == 100


def test_concurrent_starters_get_one_server_that_outlives_them(own_home: Path) -> None:
    code = """
import sys; from pathlib import Path; from resources.embedded.stack import *
home = Path(sys.argv[1]); p, m = start_postgres(home), start_milvus(home)
print(p.pid, p.started, m.pid, m.started)
"""
    starters = [
        # Through a pipe: if a server inherited it, communicate() would not return.
        subprocess.Popen(
            [sys.executable, "-c", code, str(own_home)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    answers = [starter.communicate(timeout=30)[0].split() for starter in starters]
    assert len({(postgres, milvus) for postgres, _, milvus, _ in answers}) == 1
    assert [sum(answer[i] == "True" for answer in answers) for i in (1, 3)] == [1, 1]
    assert set(running(own_home)) == {"postgres", "milvus"}
    for pid in (int(answers[0][0]), int(answers[0][2])):
        assert os.getsid(pid) != os.getsid(0)


def test_a_taken_port_is_avoided_and_a_stalled_server_is_awaited(own_home: Path) -> None:
    first = start_milvus(own_home)
    stop(own_home)
    with socket.create_server(("127.0.0.1", int(first.uri.rsplit(":", 1)[1]))):
        second = start_milvus(own_home)
        assert second.uri != first.uri
        assert running(own_home) == {"milvus": second.uri}
    with suspended(second.pid):
        with pytest.raises(StackError, match="does not answer"):
            start_milvus(own_home, timeout=0.1)
    assert start_milvus(own_home).pid == second.pid
    assert_started_again(own_home, start_milvus)


def test_a_server_that_dies_during_the_wait_for_it_is_started_again(own_home: Path) -> None:
    """PostgreSQL; the test above has Milvus."""
    assert_started_again(own_home, start_postgres)


def assert_started_again(
    home: Path, start: Callable[[Path], MilvusEndpoint | PostgresEndpoint]
) -> None:
    dying = psutil.Process(start(home).pid)
    suspend(dying.pid)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(start, home)
        # Until it has found the server, which does not answer.
        time.sleep(0.3)
        dying.kill()
        again = waiting.result(timeout=60)
    assert again.started
    assert again.pid != dying.pid


def test_an_idle_client_that_pings_stays_connected(milvus_uri: str) -> None:
    """pymilvus pings every 10 s. At one ping per second, as here, gRPC's default limit is exceeded within 3 s."""
    target = milvus_uri.removeprefix("http://")
    options = {"grpc.keepalive_time_ms": 1000, "grpc.keepalive_permit_without_calls": 1}
    states = []
    with grpc.insecure_channel(target, list(options.items())) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        channel.subscribe(states.append)
        time.sleep(5)
    assert states == [grpc.ChannelConnectivity.READY]


def test_the_error_of_a_failed_start_contains_its_reason(own_home: Path) -> None:
    start_postgres(own_home)
    stop(own_home)
    (own_home / "postgres" / "postgresql.conf").write_text("nonsense = 1\n")
    with pytest.raises(StackError) as error:
        start_postgres(own_home, timeout=5)
    first, *reasons = str(error.value).splitlines()
    assert str(own_home / "logs" / "postgres.log") in first
    # The lines that name the reason, without those of the earlier start.
    assert len(reasons) == 2
    assert "nonsense" in reasons[0]
    assert reasons[1].startswith("  FATAL: ")


#: Below `milvus_lite`; the same names as in the docstring of `resources.embedded.milvus_lite_internals`.
PRIVATE_NAMES = (
    "adapter.grpc.servicer:MilvusServicer",
    "adapter.grpc.servicer:build_search_result_data",
    "adapter.grpc.translators.search:_decode_placeholder_group",
    "search.filter.eval:evaluate_python",
    "search.filter.eval:evaluate_hybrid",
    "search.filter.ast:And",
    "search.filter.ast:ArrayContainsOp",
    "search.filter.ast:FieldRef",
    "search.filter.ast:ListLit",
    "search.filter.ast:StringLit",
    "engine.collection:execute_search_with_index",
    "engine.collection:Collection._read_snapshot",
    "engine.collection:Collection._search_sparse",
    "engine.collection:Collection._compile_filter",
    "adapter.grpc.servicer:fields_data_to_records",
    "engine.collection:Collection.insert",
    "engine.collection:Collection.upsert",
    "storage.memtable:MemTable._build_data_table",
    "storage.memtable:MemTable.apply_insert",
    "storage.memtable:MemTable.apply_delete",
    "storage.delta_index:DeltaIndex.add_batch",
    "storage.delta_index:DeltaIndex.gc_below",
)


def test_every_private_part_of_milvus_lite_exists(tmp_path: Path) -> None:
    """Fails at the first upgrade without one of them. All uses are in or behind `milvus_lite_internals`."""
    advice = (
        f"milvus-lite {version('milvus-lite')}: repair resources/embedded/milvus_lite_internals.py"
    )
    for name in PRIVATE_NAMES:
        try:
            pkgutil.resolve_name(f"milvus_lite.{name}")
        except (ImportError, AttributeError):
            pytest.fail(f"{name} is missing. {advice}")
    from milvus_lite import CollectionSchema, DataType, FieldSchema, MilvusLite

    from resources.embedded import milvus_lite_internals as internals

    fields = [
        FieldSchema("id", DataType.VARCHAR, is_primary=True),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=2),
    ]
    with MilvusLite(str(tmp_path)) as database:
        collection = database.create_collection("t", CollectionSchema(fields))
        collection.insert([{"id": name, "vector": [1.0, 2.0]} for name in "ab"])
        try:
            ids = internals.ids_in_memory(collection)
        except AttributeError as error:
            pytest.fail(f"{error}. {advice}")
        assert sorted(ids) == ["a", "b"], advice
        assert internals.has_logs(tmp_path), advice
        collection.create_index("vector", {"index_type": "HNSW", "metric_type": "L2", "params": {}})
        collection.flush()
        collection.load()
        assert internals.ids_in_memory(collection) == [], advice
        assert not internals.has_logs(tmp_path), advice
        # The index is built in the background.
        deadline = time.monotonic() + 60
        while not internals.index_files(Path(collection.data_dir)):
            assert time.monotonic() < deadline, advice
            time.sleep(0.05)
