"""The process of the embedded Milvus Lite: `python milvus_server.py DATA_FOLDER RECORD PORT...`.

Why not `python -m milvus_lite server`: that one dies of SIGTERM without writing its memory to disk, lets ten threads
into an engine that takes one writer (see `WORKERS`), closes the database while requests still run, shares its
port with any other server that asks (SO_REUSEPORT), and copies every vector for a filter on an array (see
`array_filters`, all that is imported of this project).
"""

from __future__ import annotations

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

#: Names this start of the machine; elsewhere its time does.
LINUX_BOOT = Path("/proc/sys/kernel/random/boot_id")

#: Files in the data folder; the first two name the machine's start, by which a power cut is known.
#: RUNNING: the database is open. FLUSHED: it was, but its rows were all written, and only the close was cut short.
#: REPLAYED: ids of rows that were read back from a log after a crash, until they are mended.
RUNNING, FLUSHED, REPLAYED = "rag-running", "rag-flushed", "rag-replayed.json"

#: Rows written anew at a time while mending.
MENDED = 1000

#: Requests are served one by one. By its source, the engine has no lock around writes: two threads can take the same
#: sequence number or open a collection twice, one can write into a log that a flush deletes, and a read during a flush
#: misses the rows in it. It costs nothing: 4 writers and a reader were as fast as with 10 threads (5,200 rows/s).
WORKERS = 1

#: Bytes of a gRPC message, as in Milvus and in Milvus Lite's own server.
MESSAGE_LIMIT = 256 << 20

#: Seconds without a request after which rows in memory are flushed. Memory has no index and is walked row by row:
#: of 20,000 rows a search took 1.6 s before a flush and 0.04 s after it; the flush itself 2 to 6 s.
IDLE = 1.0

#: Seconds that requests already received have to finish in.
GRACE = 10


def main(data: Path, record: Path, ports: list[int]) -> None:
    import grpc
    from milvus_lite import MilvusLite
    from milvus_lite.adapter.grpc.servicer import MilvusServicer
    from pymilvus.grpc_gen.milvus_pb2_grpc import add_MilvusServiceServicer_to_server

    from resources.embedded.array_filters import evaluate_arrays_by_column

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    evaluate_arrays_by_column()
    database = MilvusLite(str(data))  # takes the lock of the data folder, or raises
    if (data / RUNNING).exists():
        _note_replayed(database, data / REPLAYED)
    boot = _said(LINUX_BOOT) or str(psutil.boot_time())
    if any(_said(data / name) not in (None, boot) for name in (RUNNING, FLUSHED)):
        _drop_indexes(data)
    _write(data / RUNNING, boot)
    (data / FLUSHED).unlink(missing_ok=True)

    pool = ThreadPoolExecutor(WORKERS)
    options = [
        ("grpc.max_receive_message_length", MESSAGE_LIMIT),
        ("grpc.max_send_message_length", MESSAGE_LIMIT),
        ("grpc.so_reuseport", 0),
        # pymilvus pings while it idles; by default gRPC takes that for an attack and ends the connection.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_ping_strikes", 0),
    ]
    activity = _activity()
    activity.wrote = (
        data / REPLAYED
    ).exists()  # what is mended is flushed when idle, as all that is written
    server = grpc.server(pool, interceptors=[activity], options=options)
    add_MilvusServiceServicer_to_server(MilvusServicer(database), server)
    port = _bind(server, ports)
    server.start()
    pool.submit(_serve_whole, database, data / REPLAYED)  # before any request
    fresh = record.with_suffix(".new")
    fresh.write_text(json.dumps({"pid": os.getpid(), "port": port}))
    fresh.replace(record)
    logging.info("serving %s on 127.0.0.1:%d", data, port)

    while not stop.wait(IDLE / 2):
        if activity.wrote and time.monotonic() - activity.at > IDLE:
            activity.wrote = False
            pool.submit(_flush, database)
    logging.info("stopping")
    server.stop(GRACE).wait()
    pool.shutdown()
    # Released, or else the flush starts to build an index, which the close awaits (60 s for 20,000 rows).
    _flush(database, release=True)
    if any(data.rglob("wal/*.arrow")):
        raise SystemExit("write-ahead logs are left after the flush: not stopped in order")
    (data / RUNNING).replace(data / FLUSHED)
    database.close()  # waits for compaction and for an index being built
    (data / FLUSHED).unlink()
    logging.info("stopped in order")


def _activity():
    import grpc

    class Activity(grpc.ServerInterceptor):
        """When the last request came, and whether one wrote since the last flush."""

        at, wrote = 0.0, False

        def intercept_service(self, continuation, handler_call_details):
            self.at = time.monotonic()
            if handler_call_details.method.rsplit("/", 1)[-1] in ("Upsert", "Insert", "Delete"):
                self.wrote = True
            return continuation(handler_call_details)

    return Activity()


def _collections(database):
    """(name, collection) of every one."""
    for name in database.list_databases():
        for collection in database.list_collections(name):
            yield f"{name}/{collection}", database.get_collection(collection, name)


def _serve_whole(database, replayed: Path) -> None:
    for name, opened in _collections(database):
        if opened.load_state == "loaded":  # one with an index is not, after a start
            continue
        try:
            opened.load()
        except MemoryError:  # no fault of its files; a request for it loads it, or says the same
            logging.exception("%s: not loaded", name)
        except Exception:  # the engine's, of any kind: for one, a file that a kill cut short
            logging.exception("%s: its index files are not readable and are made anew", name)
            _drop_indexes(Path(opened._data_dir))
            opened.load()
    try:
        _mend(database, replayed)
    except Exception:  # as above: a check finds what is left, and the next start tries again
        logging.exception("rows that were read back from a log are not mended")


def _note_replayed(database, path: Path) -> None:
    """Adds the ids of the rows in memory, which after a crash are those that were read back from logs."""
    ids = json.loads(path.read_text()) if path.exists() else {}
    for name, opened in _collections(database):
        there = [key for key, _ in opened._memtable.pk_index_snapshot()]
        ids[name] = sorted({*ids.get(name, []), *there})
    _write(path, json.dumps(ids))


def _mend(database, replayed: Path) -> None:
    """Makes what a crash in a flush doubled single again, and what it hid readable.

    Logs are replayed though their rows were flushed since. A row of theirs is then there twice, and a deletion hides
    newer rows of its id from a get (it does not compare sequence numbers) until memory is empty.
    """
    if not replayed.exists():
        return
    _flush(database)
    ids = json.loads(replayed.read_text())
    for name, opened in _collections(database):
        part = ids.get(name, [])
        for start in range(0, len(part), MENDED):
            rows = opened.get(part[start : start + MENDED], output_fields=["id"])
            opened.upsert(
                [{"id": row["id"]} for row in rows]
            )  # the rest is taken from the row that is there
    replayed.unlink()


def _flush(database, *, release: bool = False) -> None:
    for _, opened in _collections(database):
        if release:
            opened.release()
        opened.flush()


def _drop_indexes(data: Path) -> None:
    """Removes the index files, which are rebuilt on load (4 s a segment). They are written in place: a kill leaves half
    a file, which no load reads; a power cut may leave what looks whole and is not.
    """
    for folder in data.rglob("partitions/*/indexes"):
        for file in folder.iterdir():
            file.unlink()


def _bind(server, ports: list[int]) -> int:
    for port in ports:
        try:
            return server.add_insecure_port(f"127.0.0.1:{port}")
        except RuntimeError:  # taken
            continue
    raise SystemExit(f"no free port on 127.0.0.1 among {ports}")


def _said(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _write(path: Path, text: str) -> None:
    """Writes a file, whole or not at all, so that it survives a power cut."""
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
    # gRPC logs a traceback for each call that Milvus Lite does not have.
    logging.getLogger("grpc").setLevel(logging.CRITICAL)
    main(Path(sys.argv[1]), Path(sys.argv[2]), [int(port) for port in sys.argv[3:]])
