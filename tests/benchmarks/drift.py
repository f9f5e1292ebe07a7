"""Drift of each class is found exactly and repaired: `python -m tests.benchmarks.drift`.

`--documents 8400` (100,800 chunks) `--each 500` `--json FILE`. While `rag ingest` writes other documents of the source,
the dense and the sparse collection contain `--each` rows of each class. `full_check` measures the cost of the check.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from resources.embedded.stack import start_milvus, start_postgres, stop
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Postgres
from tests.benchmarks.memory import write_corpus
from tests.benchmarks.rag_command import ROOT, Finished, command, fresh_home, rag
from tests.support import oracle

KINDS = ("dense", "sparse")
CLASSES = ("missing", "orphaned", "stale", "duplicate")
SOURCE = "corpus"
VECTORS = ",".join(KINDS)
#: Disables compaction, which removes duplicates of an id, before or after the check by chance.
UNCOMPACTED = Path(__file__).parent / "uncompacted"


@dataclass(frozen=True)
class Proof:
    """Drift found by the check, and the check's seconds and peak bytes while an ingestion wrote."""

    rows: int
    found: dict[str, dict[str, int]]
    wrote_meanwhile: bool
    check_seconds: float
    check_peak: int
    repaired: bool
    written_again: int
    disagreements: list[str]


def start_ingestion(home: Path, folder: Path) -> subprocess.Popen[Any]:
    argv, environment = command(home, "ingest", str(folder), vectors=VECTORS)
    return subprocess.Popen(argv, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL)


def prove(
    home: Path,
    documents: int,
    others: int,
    each: int,
    rag: Callable[..., Finished] = rag,
    start: Callable[[Path, Path], Any] = start_ingestion,
) -> Proof:
    """Make `each` rows of each class and check them while an ingestion adds `others` documents; then repair.

    `start`: starts this ingestion of a folder; `rag`: runs the other commands.
    """
    folder = home / SOURCE
    write_corpus(folder, documents)
    rag(home, "up")
    plan = rag(home, "ingest", str(folder), "--json", vectors=VECTORS).report()["plan"]
    ids = {kind: _ids(home, kind, each * 3) for kind in KINDS}
    duplicate(home, {kind: kind_ids[:each] for kind, kind_ids in ids.items()})
    for kind, kind_ids in ids.items():
        missing, stale = kind_ids[each : 2 * each], kind_ids[2 * each :]
        damage(home, kind, missing=missing, stale=stale, orphans=each)
    write_corpus(folder, documents + others)
    ingestion = start(home, folder)
    try:
        _wait_for_writer(home, ingestion)
        finished = rag(home, "check", "--source", SOURCE, "--json", vectors=VECTORS, fails=True)
        wrote_meanwhile = ingestion.poll() is None
    finally:
        if ingestion.wait(3600):
            raise SystemExit("the ingestion failed")
    checks = {check["check"]: check["metadata"] for check in finished.json()["checks"]}
    repaired = rag(home, "repair", "--source", SOURCE, "--json", vectors=VECTORS).json()
    again = rag(home, "repair", "--source", SOURCE, "--json", vectors=VECTORS).json()
    plans = [plan for report in again["repairs"] for plan in report["plan"].values()]
    drifts = [drift for report in again["repairs"] for drift in report["found"].values()]
    return Proof(
        plan["dense_vectors"]["inserted"],
        {
            kind: {name: checks[f"{kind}_vectors_match_postgres"][name] for name in CLASSES}
            for kind in KINDS
        },
        wrote_meanwhile,
        finished.seconds,
        finished.peak_rss,
        repaired["clean"] and again["clean"],
        sum(plan[name] for plan in plans for name in ("inserted", "replaced", "deleted"))
        + sum(drift[name] for drift in drifts for name in CLASSES),
        oracle.disagreements(start_postgres(home).url, start_milvus(home).uri, KINDS),
    )


def _ids(home: Path, kind: str, count: int) -> list[str]:
    store = MilvusStore(start_milvus(home).uri)
    rows = store.client.query(
        f"{kind}_collection", filter='id >= "4"', output_fields=["id"], limit=count
    )
    store.close()
    return [row["id"] for row in rows]


def duplicate(home: Path, ids: dict[str, Sequence[str]]) -> None:
    """Make two rows of each id, as a kill during a flush of Milvus Lite does: a flushed log is replayed."""
    store = MilvusStore(start_milvus(home).uri)
    for kind in ids:
        store.client.flush(f"{kind}_collection")
    for kind, kind_ids in ids.items():
        store.rewrite(f"{kind}_collection", kind_ids)
    logs = {path: path.read_bytes() for path in (home / "milvus").rglob("wal/*.arrow")}
    store.close()
    # A regular stop: Milvus Lite writes the rows to disk, removes the logs, and keeps its indexes.
    stop(home, timeout=300)
    for path, data in logs.items():
        path.write_bytes(data)
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = str(UNCOMPACTED)
    try:
        start_milvus(home)
    finally:
        os.environ["PYTHONPATH"] = before
    start_postgres(home)


def damage(
    home: Path, kind: str, *, missing: Sequence[str], stale: Sequence[str], orphans: int
) -> None:
    """Make orphaned rows, and change or delete the given ones, directly in Milvus."""
    name, client = f"{kind}_collection", MilvusStore(start_milvus(home).uri).client
    rows = [dict(row) for row in client.get(name, list(stale), output_fields=["*"])]
    client.upsert(name, [row | {"row_fingerprint": "0" * 32} for row in rows])
    client.upsert(
        name,
        [rows[n % len(rows)] | {"id": f"{uuid.uuid4()}_{kind}"} for n in range(orphans)],
    )
    client.delete(name, ids=list(missing))
    client.close()


def _wait_for_writer(home: Path, ingestion: Any) -> None:
    """Wait until the ingestion is the writer of the source."""
    with Postgres(start_postgres(home).url).connect(autocommit=True) as connection:
        while ingestion.poll() is None:
            row = connection.execute(
                "SELECT count(*) FROM partition_writers WHERE holder LIKE %s",
                [f"%:{ingestion.pid}"],
            ).fetchone()
            if row is not None and row[0]:
                return
            time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=8_400)
    parser.add_argument("--others", type=int, default=1_000)
    parser.add_argument("--each", type=int, default=500)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    with fresh_home() as home:
        proof = prove(home, options.documents, options.others, options.each)
    table = Table(
        title=f"{proof.rows:,} rows per collection, {options.each} of each class",
        title_justify="left",
    )
    for column in ("collection", *CLASSES):
        table.add_column(column, justify="right")
    for kind in KINDS:
        table.add_row(kind, *(str(proof.found[kind][name]) for name in CLASSES))
    out = Console(highlight=False)
    out.print(table)
    out.print(
        f"rag check while an ingestion wrote{'' if proof.wrote_meanwhile else ' (it ended before)'}: "
        f"{proof.check_seconds:.1f} s, {proof.check_peak / 2**20:.0f} MiB; "
        f"repaired: {proof.repaired}, rows that a second repair found or wrote: {proof.written_again}, "
        f"disagreements: {len(proof.disagreements)}"
    )
    if options.json:
        options.json.write_text(json.dumps(vars(proof), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
