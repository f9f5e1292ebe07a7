"""The audit under kills, and under a superuser of the database: `python -m tests.benchmarks.audit`.

`--processes 4 --threads 8 --records 10000 --kills 8`: writers write one record at a time and note each one that is
acknowledged, while processes, and once one of PostgreSQL's, are killed (SIGKILL) and started again. Then the chain must
verify, and have each acknowledged record. `--changes 100`: then changes by a superuser, each on a chain of its own, and
all at once on the long chain: the table shows which the chain itself names, and which only an anchor shows.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median

import psycopg
from rich.console import Console
from rich.table import Table

from rag_assets.identity.audit_anchors import Anchors, read_anchors
from rag_assets.identity.audit_log import AuditLog
from rag_assets.identity.audit_verification import verify_database
from rag_assets.pipeline.audit_chain import ChainedRecord, ChainHead, chained, hash_of
from rag_assets.pipeline.audit_record import AuditRecord
from rag_assets.pipeline.audit_verification import Problem
from resources.embedded.stack import start_postgres, stop
from resources.errors import StoreUnavailable
from resources.postgres.connection import Connection, Postgres
from resources.postgres.identity.audit_chain import append, chain_head, stored_records
from resources.postgres.schema import migrate

spawn = multiprocessing.get_context("spawn")
console = Console(highlight=False)
#: Records of the chain that is changed, and the distance of its anchors.
SHORT, ANCHORED = 500, 50

INSERT = "INSERT INTO audit_records VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"


def record(writer: int, number: int) -> AuditRecord:
    details = {
        "writer": writer,
        "number": number,
        "documents": ["0d7e1c0e-6f0e-4d0c-9d87-26a2"] * 5,
    }
    return AuditRecord("document.write", "allowed", f"user:{writer}", details=details)


# Writers that are killed ----------------------------------------------------------------------------------------------


def write_records(url: str, folder: Path, writers: Sequence[int], count: int) -> None:
    """Write the records of these writers, from the first one on that is not acknowledged."""
    log = AuditLog(url, Anchors(folder / "anchors.jsonl", seconds=1))

    def run(writer: int) -> None:
        # One byte for each acknowledged record.
        acknowledged = os.open(
            folder / f"{writer}.acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT
        )
        number = os.fstat(acknowledged).st_size
        while number < count:
            try:
                log.write(record(writer, number))
            except StoreUnavailable:
                time.sleep(0.05)
                continue
            os.write(acknowledged, b".")
            number += 1

    threads = [threading.Thread(target=run, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()


def write_amid_kills(
    url: str, folder: Path, processes: int, threads: int, count: int, kills: int
) -> None:
    groups = [range(n * threads, (n + 1) * threads) for n in range(processes)]

    def start(n: int) -> BaseProcess:
        process = spawn.Process(target=write_records, args=(url, folder, groups[n], count))
        process.start()
        return process

    total, started, killed = processes * threads * count, time.monotonic(), 0
    running = [start(n) for n in range(processes)]
    while any(process.is_alive() for process in running):
        time.sleep(0.2)
        done = sum(file.stat().st_size for file in folder.glob("*.acknowledged"))
        if killed < kills and done > total * (killed + 1) / (kills + 2):
            killed += 1
            if killed == kills // 2:
                with psycopg.connect(url) as connection:
                    (victim,) = connection.execute(
                        """SELECT min(pid) FROM pg_stat_activity
                           WHERE datname = current_database() AND pid <> pg_backend_pid()"""
                    ).fetchone() or (None,)  # fmt: skip
                assert victim
                os.kill(victim, signal.SIGKILL)
                console.print(f"{done:,} records: killed a process of PostgreSQL, which restarts")
                continue
            n = random.randrange(processes)
            if running[n].is_alive():
                running[n].kill()
                running[n].join()
                running[n] = start(n)
                console.print(f"{done:,} records: killed writer process {n}")
    seconds = time.monotonic() - started
    console.print(
        f"{total:,} acknowledged records in {seconds:.0f} s: {total / seconds:,.0f} records a second"
    )


def check_acknowledged(url: str, folder: Path, writers: int, count: int) -> None:
    started = time.monotonic()
    result = verify_database(
        partial(Postgres(url).connect, autocommit=True), read_anchors(folder / "anchors.jsonl")
    )
    seconds = time.monotonic() - started
    assert result.verified, result.problems[:5]
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            """SELECT details->>'writer', count(DISTINCT details->>'number'), count(*) FROM audit_records
               WHERE action = 'document.write' GROUP BY 1"""
        ).fetchall()
    assert {int(writer) for writer, _, _ in rows} == set(range(writers))
    assert all(distinct == count for _, distinct, _ in rows)
    twice = sum(written - distinct for _, distinct, written in rows)
    console.print(
        f"one chain of {result.records:,} records verifies with {result.anchors} anchors in {seconds:.1f} s "
        f"({result.records / seconds:,.0f} a second); every acknowledged record is there; "
        f"{twice} records of killed requests are there too, and again after the new try"
    )


# Changes by a superuser -----------------------------------------------------------------------------------------------


@contextmanager
def changing(connection: Connection) -> Iterator[None]:
    """Let a superuser change the audit, and undo it."""
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL session_replication_role = replica")
        yield


def rows_from(connection: Connection, at: int) -> list[ChainedRecord]:
    return stored_records(connection, at, 1 << 40)


def replace_from(connection: Connection, at: int, rows: Sequence[ChainedRecord]) -> None:
    connection.execute("DELETE FROM audit_records WHERE sequence >= %s", [at])
    with connection.cursor() as cursor:
        cursor.executemany(INSERT, rows)


def again(rows: Sequence[ChainedRecord], head: ChainHead) -> list[ChainedRecord]:
    """Return the rows chained again."""
    return chained(head, rows[0].recorded_at, (row[2:10] for row in rows)) if rows else []


def forged(row: ChainedRecord) -> ChainedRecord:
    row = row._replace(principal="user:forged")
    return row._replace(row_hash=hash_of(row))


def edit(connection: Connection, at: int) -> None:
    column = random.choice(("action", "principal", "target", "address", "request_id"))
    connection.execute(f"UPDATE audit_records SET {column} = 'x' WHERE sequence = %s", [at])


def edit_with_hash(connection: Connection, at: int) -> None:
    rows = rows_from(connection, at)
    replace_from(connection, at, [forged(rows[0]), *rows[1:]])


def delete(connection: Connection, at: int) -> None:
    connection.execute("DELETE FROM audit_records WHERE sequence = %s", [at])


def delete_and_renumber(connection: Connection, at: int) -> None:
    rows = rows_from(connection, at)[1:]
    replace_from(connection, at, [row._replace(sequence=row.sequence - 1) for row in rows])


def delete_the_end(connection: Connection, at: int) -> None:
    connection.execute("DELETE FROM audit_records WHERE sequence >= %s", [at])


def insert(connection: Connection, at: int) -> None:
    connection.execute(
        """INSERT INTO audit_records
           SELECT sequence, recorded_at + interval '1 month', occurred_at, action, outcome, 'user:forged', target,
             request_id, address, details, prev_hash, sha256(random()::text::bytea)
           FROM audit_records WHERE sequence = %s""",
        [at],
    )


def insert_and_renumber(connection: Connection, at: int) -> None:
    rows = rows_from(connection, at)
    later = [row._replace(sequence=row.sequence + 1) for row in rows]
    replace_from(connection, at, [forged(rows[0]), *later])


def chain_a_part_again(connection: Connection, at: int) -> None:
    rows = rows_from(connection, at)
    head = ChainHead(at - 1, rows[0].prev_hash)
    end = random.randrange(1, len(rows))
    edited = [forged(rows[0]), *rows[1:end]]
    replace_from(connection, at, [*again(edited, head), *rows[end:]])


def chain_to_the_end_again(change: str, connection: Connection, at: int) -> None:
    rows = rows_from(connection, at)
    head = ChainHead(at - 1, rows[0].prev_hash)
    kept = {
        "edit": [forged(rows[0]), *rows[1:]],
        "delete": rows[1:],
        "insert": [forged(rows[0]), *rows],
    }
    replace_from(connection, at, again(kept[change], head))


#: Change -> its function, and the kind of the problem that the chain itself shows; "": none.
CHANGES: dict[str, tuple[Callable[[Connection, int], None], str]] = {
    "edit": (edit, "edited"),
    "edit, and compute its hash": (edit_with_hash, "rechained"),
    "delete": (delete, "removed"),
    "delete, renumber the rest": (delete_and_renumber, "removed"),
    "insert with a number in use": (insert, "inserted"),
    "insert, renumber the rest": (insert_and_renumber, "inserted"),
    "edit, chain a part again": (chain_a_part_again, "rechained"),
    "edit, chain all of the rest again": (partial(chain_to_the_end_again, "edit"), ""),
    "delete, chain all of the rest again": (partial(chain_to_the_end_again, "delete"), ""),
    "insert, chain all of the rest again": (partial(chain_to_the_end_again, "insert"), ""),
    "delete the last records": (delete_the_end, ""),
}


def change_each(url: str, changes: int) -> None:
    """Change a short chain, one change at a time; each must be named."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in CHANGES}
    with Postgres(url).connect(autocommit=True) as connection:
        anchors: list[ChainHead] = []
        for _ in range(SHORT // ANCHORED):
            with connection.transaction():
                anchors.append(append(connection, [record(0, n) for n in range(ANCHORED)]))
        begin = anchors[0].sequence - ANCHORED + 1

        @contextmanager
        def here() -> Iterator[Connection]:
            yield connection

        for n in range(changes):
            name = list(CHANGES)[n % len(CHANGES)]
            change, kind = CHANGES[name]
            at = random.randrange(begin + 1, anchors[-1].sequence - 1)
            with changing(connection):
                change(connection, at)
                alone = verify_database(here, []).problems
                problems = verify_database(here, anchors).problems
            counts[name]["changes"] += 1
            if any(_names(problem, kind, at) for problem in alone):
                counts[name]["by the chain"] += 1
            elif not alone and any(problem.since <= at <= problem.last for problem in problems):
                counts[name]["by an anchor only"] += 1
            else:
                counts[name]["not named"] += 1
                console.print(name, at, alone[:3], problems[:3])
    table = Table("change", "changes", "named by the chain", "named by an anchor only", "not named")
    columns = ("changes", "by the chain", "by an anchor only", "not named")
    for name, count in counts.items():
        table.add_row(name, *(str(count[column]) for column in columns))
    console.print(table)


def _names(problem: Problem, kind: str, at: int) -> bool:
    # A part that was chained again is named by its end: the record after it holds another hash.
    return problem.kind == kind and (
        problem.first == at or (kind == "rechained" and problem.since <= at <= problem.last)
    )


def change_at_once(url: str, changes: int) -> None:
    """Change the whole chain at many places, and verify it once; each must be named."""
    kinds = ("edit", "delete", "insert with a number in use")
    with Postgres(url).connect(autocommit=True) as connection, changing(connection):
        last = chain_head(connection).sequence
        places = random.sample(range(2, last - 2, 3), changes)
        for n, at in enumerate(places):
            CHANGES[kinds[n % 3]][0](connection, at)

        @contextmanager
        def here() -> Iterator[Connection]:
            yield connection

        result = verify_database(here, [])
    named = {(problem.kind, problem.first) for problem in result.problems}
    expected = {(CHANGES[kinds[n % 3]][1], at) for n, at in enumerate(places)}
    console.print(
        f"{changes} changes at once in {last:,} records: {len(named & expected)} named, {len(named - expected)} others"
    )
    assert named == expected


# Cost -----------------------------------------------------------------------------------------------------------------


def measure_writes(url: str, folder: Path) -> None:
    log = AuditLog(url, Anchors(folder / "anchors.jsonl", seconds=10))
    for writers in (1, 32):
        times: list[float] = []

        def run(writer: int, times: list[float] = times) -> None:
            for n in range(100):
                started = time.perf_counter()
                log.write(record(writer, n))
                times.append(time.perf_counter() - started)

        threads = [threading.Thread(target=run, args=(n,)) for n in range(writers)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rate = len(times) / (time.perf_counter() - started)
        times.sort()
        console.print(
            f"write, {writers} writers: median {median(times) * 1e3:.1f} ms, "
            f"95 % {times[len(times) * 95 // 100] * 1e3:.1f} ms, {rate:,.0f} records a second"
        )
    times, processor = [], time.thread_time()
    for n in range(5000):
        started = time.perf_counter()
        log.note(record(0, n))
        times.append(time.perf_counter() - started)
    processor = time.thread_time() - processor
    console.print(
        f"note: median {median(times) * 1e6:.0f} µs, processor {processor / 5000 * 1e6:.0f} µs"
    )
    log.close()


def empty(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("TRUNCATE audit_records")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (
        ("processes", 4), ("threads", 8), ("records", 10_000), ("kills", 8), ("changes", 100), ("seed", 1),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    random.seed(options.seed)
    home = Path(tempfile.mkdtemp(prefix="audit-benchmark-"))
    home.chmod(0o755)
    try:
        url = start_postgres(home).url
        migrate(url)
        measure_writes(url, home)
        acknowledged = home / "acknowledged"
        acknowledged.mkdir()
        empty(url)
        change_each(url, options.changes)
        empty(url)
        sizes = options.processes, options.threads, options.records
        write_amid_kills(url, acknowledged, *sizes, options.kills)
        check_acknowledged(url, acknowledged, options.processes * options.threads, options.records)
        change_at_once(url, options.changes)
    finally:
        stop(home)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
