"""The process of the embedded Milvus Lite: `python milvus_server.py DATA_FOLDER RECORD PORT...`.

`python -m milvus_lite server` is not used: it ends on SIGTERM without writing its memory to disk, lets ten threads into
an engine that takes one writer (see `turns`), closes the database while requests still run, shares its port with any
other server that asks (SO_REUSEPORT), copies every vector for a filter on an array (see `array_filters`), and runs
Python for every row in each search (see `fast_search`) and for every number in each upsert and flush (see
`fast_upsert`). It reaches the private parts of Milvus Lite through `milvus_lite_internals` only.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

#: Identifies this boot of the machine; systems without the file use the boot time.
LINUX_BOOT = Path("/proc/sys/kernel/random/boot_id")

#: Files in the data folder. The first two contain the machine's boot, which reveals a power cut.
#: RUNNING: the database is open. FLUSHED: it was open, all rows are written, and only its close is unfinished.
#: REPLAYED: ids of rows that were replayed from a log after a crash, until they are repaired.
RUNNING, FLUSHED, REPLAYED = "rag-running", "rag-flushed", "rag-replayed.json"

#: Environment variable: searches run on Milvus Lite's own executor, one by one. For the benchmark of searches alone.
ORIGINAL_SEARCH = "RAG_BENCHMARK_ORIGINAL_SEARCH"

#: Rows rewritten at a time during a repair.
REPAIR_ROWS = 1000

#: Threads of requests; `turns` decides which of them run.
WORKERS = 16

#: Seconds after which a thread that runs Python lets another one run. By default 5 ms: a search that returns from faiss
#: waited that long for one that makes records.
SWITCH_INTERVAL = 0.0005

#: Maximum bytes of a gRPC message, as in Milvus and in Milvus Lite's own server.
MESSAGE_LIMIT = 256 << 20

#: Seconds without a request after which rows in memory are flushed. Memory has no index and is scanned row by row:
#: a search of 20,000 rows took 1.6 s before a flush and 0.04 s after it; the flush takes 2 to 6 s.
IDLE = 1.0

#: Seconds in which requests already received must finish.
GRACE = 10


def main(data: Path, record: Path, ports: list[int]) -> None:
    # Read when NumPy and faiss are loaded. Requests use one thread each, and a thread that waits for others must not
    # use a processor for it: beside other processes, such threads took more time than the searches.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _defer_pymilvus()
    import grpc
    from milvus_lite import MilvusLite
    from pymilvus.grpc_gen.milvus_pb2_grpc import add_MilvusServiceServicer_to_server

    from resources.embedded import fast_search, fast_upsert
    from resources.embedded.array_filters import evaluate_arrays_by_column
    from resources.embedded.milvus_lite_internals import MilvusServicer, has_logs
    from resources.embedded.turns import Turns, in_turn

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    sys.setswitchinterval(SWITCH_INTERVAL)
    evaluate_arrays_by_column()
    original = bool(os.environ.get(ORIGINAL_SEARCH))
    if not original and not fast_search.install():
        logging.warning(
            "this version of Milvus Lite is not known: searches run on its own executor"
        )
    if not fast_upsert.install():
        logging.warning("this version of Milvus Lite is not known: its own code writes all rows")
    # Takes the lock of the data folder, or raises.
    database = MilvusLite(str(data))
    database.get_collection = _one_at_a_time(database.get_collection)
    if (data / RUNNING).exists():
        _record_replayed(database, data / REPLAYED)
    boot = _read_text(LINUX_BOOT) or str(psutil.boot_time())
    if any(_read_text(data / name) not in (None, boot) for name in (RUNNING, FLUSHED)):
        _drop_indexes(data)
    _write(data / RUNNING, boot)
    (data / FLUSHED).unlink(missing_ok=True)

    pool = ThreadPoolExecutor(WORKERS)
    options = [
        ("grpc.max_receive_message_length", MESSAGE_LIMIT),
        ("grpc.max_send_message_length", MESSAGE_LIMIT),
        ("grpc.so_reuseport", 0),
        # pymilvus pings while it is idle; by default gRPC considers this an attack and closes the connection.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_ping_strikes", 0),
    ]
    activity, turns = _activity(), Turns(1 if original else 0)
    # Repaired rows are flushed when idle, as all written rows are.
    activity.wrote = (data / REPLAYED).exists()
    server = grpc.server(pool, interceptors=[activity, in_turn(turns)], options=options)
    add_MilvusServiceServicer_to_server(MilvusServicer(database), server)
    port = _bind(server, ports)
    prepared = threading.Event()
    # Before any request.
    pool.submit(_prepare, turns, prepared, database, data / REPLAYED)
    prepared.wait()
    server.start()
    fresh = record.with_suffix(".new")
    fresh.write_text(json.dumps({"pid": os.getpid(), "port": port}))
    fresh.replace(record)
    logging.info("serving %s on 127.0.0.1:%d", data, port)

    while not stop.wait(IDLE / 2):
        if activity.wrote and time.monotonic() - activity.at > IDLE:
            activity.wrote = False
            pool.submit(_flush_alone, turns, database)
    logging.info("stopping")
    server.stop(GRACE).wait()
    pool.shutdown()
    # Without a release the flush starts to build an index, and the close waits for it (60 s for 20,000 rows).
    _flush(database, release=True)
    if has_logs(data):
        raise SystemExit("write-ahead logs remain after the flush: the stop is not clean")
    (data / RUNNING).replace(data / FLUSHED)
    # Waits for compaction and for an index that is being built.
    database.close()
    (data / FLUSHED).unlink()
    logging.info("stopped cleanly")


def _defer_pymilvus():
    """Let its generated messages, which Milvus Lite takes, be imported without the package itself.

    That loads pandas and all clients: 0.8 of the 1.1 seconds of a start.
    """
    spec = importlib.util.find_spec("pymilvus")
    if spec is not None and "pymilvus" not in sys.modules:
        sys.modules["pymilvus"] = importlib.util.module_from_spec(spec)


def _one_at_a_time(call):
    """Return the call for searches that run together: it opens a collection that is not open yet."""
    lock = threading.Lock()

    def locked(*arguments, **options):
        with lock:
            return call(*arguments, **options)

    return locked


def _activity():
    import grpc

    class Activity(grpc.ServerInterceptor):
        """The time of the last request, and whether a request wrote since the last flush."""

        at, wrote = 0.0, False

        def intercept_service(self, continuation, handler_call_details):
            self.at = time.monotonic()
            if handler_call_details.method.rsplit("/", 1)[-1] in ("Upsert", "Insert", "Delete"):
                self.wrote = True
            return continuation(handler_call_details)

    return Activity()


def _collections(database):
    """Yield (database/name, collection) of every collection."""
    for name in database.list_databases():
        for collection in database.list_collections(name):
            yield f"{name}/{collection}", database.get_collection(collection, name)


def _prepare(turns, begun: threading.Event, database, replayed: Path) -> None:
    with turns.alone():
        begun.set()
        _load_and_repair(database, replayed)


def _flush_alone(turns, database) -> None:
    with turns.alone():
        _flush(database)


def _load_and_repair(database, replayed: Path) -> None:
    """Load each collection, with new indexes where the old are not readable; repair the replayed rows."""
    for name, collection in _collections(database):
        # After a start, a collection with an index is not loaded.
        if collection.load_state == "loaded":
            continue
        try:
            collection.load()
        except MemoryError:
            # Its files are intact; a request for it loads it, or reports the same error.
            logging.exception("%s: not loaded", name)
        except Exception:
            # The engine raises any type, for example for a file that a kill cut short.
            logging.exception("%s: its index files are not readable and are rebuilt", name)
            _drop_indexes(Path(collection.data_dir))
            collection.load()
    try:
        _repair(database, replayed)
    except Exception:
        # Of any type, as above. A check finds the damaged rows, and the next start tries again.
        logging.exception("rows that were replayed from a log are not repaired")


def _record_replayed(database, path: Path) -> None:
    """Add the ids of the rows in memory. After a crash these are the rows that were replayed from logs."""
    from resources.embedded.milvus_lite_internals import ids_in_memory

    ids = json.loads(path.read_text()) if path.exists() else {}
    for name, collection in _collections(database):
        ids[name] = sorted({*ids.get(name, []), *ids_in_memory(collection)})
    _write(path, json.dumps(ids))


def _repair(database, replayed: Path) -> None:
    """Remove the duplicate rows that a crash in a flush leaves, and make the rows that it hides readable.

    A start replays a log even if its rows were flushed. Then each row exists twice, and a replayed deletion hides newer
    rows of its id from a get (which does not compare sequence numbers) until memory is empty.
    """
    if not replayed.exists():
        return
    _flush(database)
    ids = json.loads(replayed.read_text())
    for name, collection in _collections(database):
        row_ids = ids.get(name, [])
        for start in range(0, len(row_ids), REPAIR_ROWS):
            rows = collection.get(row_ids[start : start + REPAIR_ROWS], output_fields=["id"])
            # An upsert takes missing fields from the existing row.
            collection.upsert([{"id": row["id"]} for row in rows])
    replayed.unlink()


def _flush(database, *, release: bool = False) -> None:
    for _, collection in _collections(database):
        if release:
            collection.release()
        collection.flush()


def _drop_indexes(data: Path) -> None:
    """Delete the index files; a load rebuilds them (4 s per segment). They are written in place: a kill leaves half a
    file, which no load reads; a power cut may leave a file that looks whole and is not.
    """
    from resources.embedded.milvus_lite_internals import index_files

    for file in index_files(data):
        file.unlink()


def _bind(server, ports: list[int]) -> int:
    for port in ports:
        try:
            return server.add_insecure_port(f"127.0.0.1:{port}")
        except RuntimeError:
            # The port is taken.
            continue
    raise SystemExit(f"no free port on 127.0.0.1 among {ports}")


def _read_text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _write(path: Path, text: str) -> None:
    """Write a file, whole or not at all, so that it survives a power cut."""
    fresh = path.with_suffix(".new")
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("faiss").setLevel(logging.WARNING)
    # gRPC logs a traceback for each call that Milvus Lite lacks.
    logging.getLogger("grpc").setLevel(logging.CRITICAL)
    main(Path(sys.argv[1]), Path(sys.argv[2]), [int(port) for port in sys.argv[3:]])
