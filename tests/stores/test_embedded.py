"""The embedded servers: started, found again, stopped, killed. Real servers, about one second a start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
from tests.support.folders import servers_folder

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def folder() -> Iterator[Path]:
    with servers_folder("rag-test-") as folder:
        yield folder


@pytest.fixture
def home(folder: Path) -> Iterator[Path]:
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
    found = client.query("t", filter='id >= "0"', output_fields=["id"])
    client.close()
    return len({row["id"] for row in found})


def test_start_and_stop_are_idempotent_and_keep_the_data(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    assert time.perf_counter() - began < 1  # 0.01 s: no server is asked
    with monkeypatch.context() as elsewhere:  # the code of another checkout finds it, too
        elsewhere.setattr(
            milvus_server, "__file__", "/elsewhere/resources/embedded/milvus_server.py"
        )
        assert running(home)["milvus"] == milvus.uri

    with psycopg.connect(postgres.url) as connection:
        connection.execute("CREATE TABLE t AS SELECT 'ü漢' AS v")
        shown = {
            name: connection.execute(f"SHOW {name}").fetchone()
            for name in (
                "listen_addresses",
                "fsync",
                "synchronous_commit",
                "server_encoding",
                "TimeZone",
            )
        }
    assert shown == {
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
    with psycopg.connect(start_postgres(home).url) as connection:
        assert connection.execute("SELECT v FROM t").fetchone() == ("ü漢",)
    restarted = start_milvus(home)
    assert restarted.uri == milvus.uri
    assert count(restarted.uri) == 100


def test_survives_kill_of_both(home: Path) -> None:
    postgres, milvus = start_both(home)
    with psycopg.connect(postgres.url) as connection:
        connection.execute("CREATE TABLE t AS SELECT generate_series(1, 1000)")
    fill(milvus.uri, 100)
    # A backend that computes does not notice that its postmaster died: it holds the shared memory.
    busy = psycopg.connect(postgres.url)
    query = "DO $$ BEGIN FOR i IN 1..2000000000 LOOP END LOOP; END $$"
    with ThreadPoolExecutor(1) as pool:
        running_query = pool.submit(busy.execute, query)
        time.sleep(0.2)
        kill(postgres.pid, milvus.pid)
        assert running(home) == {}
        # After a reboot their pids belong to others, here to this test: it must not be stopped or waited for.
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
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1000,)
    assert server.started and server.uri == milvus.uri
    assert count(server.uri) == 100


def test_long_paths_and_two_homes_at_once(folder: Path) -> None:
    homes = [folder / f"{name} 長い\"'$x" / ("long, " * 30) for name in "ab"]
    try:
        with ThreadPoolExecutor(4) as pool:
            postgres = list(pool.map(start_postgres, homes))
            milvus = list(pool.map(start_milvus, homes))
        assert len({e.url for e in postgres}) == len({e.uri for e in milvus}) == 2
        for index, home in enumerate(homes):
            with psycopg.connect(postgres[index].url) as connection:
                # Were both the same server, the second CREATE would fail.
                connection.execute("CREATE TABLE only_once ()")
            assert running(home) == {"postgres": postgres[index].url, "milvus": milvus[index].uri}
        assert stop(homes[0]) == ["milvus", "postgres"]
        assert len(running(homes[1])) == 2
    finally:
        for home in homes:
            stop(home)


def test_processes_that_start_at_once_get_one_server_which_outlives_them(home: Path) -> None:
    code = """
import sys; from pathlib import Path; from resources.embedded.stack import *
home = Path(sys.argv[1]); p, m = start_postgres(home), start_milvus(home)
print(p.pid, p.started, m.pid, m.started)
"""
    starters = [
        # Through a pipe: were a server to inherit it, communicate() would not return.
        subprocess.Popen(
            [sys.executable, "-c", code, str(home)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    answers = [starter.communicate(timeout=30)[0].split() for starter in starters]
    assert len({(postgres, milvus) for postgres, _, milvus, _ in answers}) == 1
    assert [sum(answer[i] == "True" for answer in answers) for i in (1, 3)] == [1, 1]
    assert set(running(home)) == {"postgres", "milvus"}
    for pid in (int(answers[0][0]), int(answers[0][2])):
        assert os.getsid(pid) != os.getsid(0)


def _suspend(pid: int) -> None:
    """Returns when each thread has stopped: on a busy machine one goes on for a while."""
    os.kill(pid, signal.SIGSTOP)
    for thread in psutil.Process(pid).threads():
        status = Path(f"/proc/{pid}/task/{thread.id}/stat")
        while status.read_text().rsplit(")", 1)[1].split()[0] != "T":
            time.sleep(0.01)


def test_a_taken_port_is_left_to_its_owner_and_a_stalled_server_waited_for(home: Path) -> None:
    first = start_milvus(home)
    stop(home)
    with socket.create_server(("127.0.0.1", int(first.uri.rsplit(":", 1)[1]))):
        second = start_milvus(home)
        assert second.uri != first.uri
        assert running(home) == {"milvus": second.uri}
    _suspend(second.pid)
    try:
        with pytest.raises(StackError, match="does not answer"):
            start_milvus(home, timeout=0.1)
    finally:
        os.kill(second.pid, signal.SIGCONT)
    assert start_milvus(home).pid == second.pid


@pytest.mark.parametrize("start", [start_milvus, start_postgres])
def test_a_server_that_dies_while_it_is_waited_for_is_started_anew(
    home: Path, start: Callable[[Path], MilvusEndpoint | PostgresEndpoint]
) -> None:
    dying = psutil.Process(start(home).pid)
    _suspend(dying.pid)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(start, home)
        time.sleep(0.3)  # it has found the server, which does not answer
        dying.kill()
        again = waiting.result(timeout=60)
    assert again.started
    assert again.pid != dying.pid


def test_a_client_that_idles_and_pings_is_not_cut_off(home: Path) -> None:
    """pymilvus pings every ten seconds; so often that gRPC's own limit is passed within three."""
    target = start_milvus(home).uri.removeprefix("http://")
    options = {"grpc.keepalive_time_ms": 1000, "grpc.keepalive_permit_without_calls": 1}
    states = []
    with grpc.insecure_channel(target, list(options.items())) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        channel.subscribe(states.append)
        time.sleep(5)
    assert states == [grpc.ChannelConnectivity.READY]


def test_a_server_that_cannot_start_says_why(home: Path) -> None:
    start_postgres(home)
    stop(home)
    (home / "postgres" / "postgresql.conf").write_text("nonsense = 1\n")
    with pytest.raises(StackError, match="nonsense"):
        start_postgres(home, timeout=5)
