"""The full comparison of PostgreSQL and Milvus against one scan of the ids: `python -m tests.benchmarks.full_check`.

`--documents 8400` (100,800 chunks) `--rounds 5` `--json FILE`. The stores are consistent; `drift` tests the findings.
"""

from __future__ import annotations

import time
from pathlib import Path

from rag_assets.consistency.comparison import compare_collection
from resources.embedded.stack import running
from resources.milvus.reads import BUCKET_ROWS, buckets
from resources.milvus.rows import span_filter
from resources.milvus.store import MilvusStore
from resources.postgres.connection import Postgres
from resources.postgres.registry.sources import get_source
from resources.postgres.vectors.collections import collections
from tests.benchmarks.claims import Measured
from tests.benchmarks.memory import write_corpus
from tests.benchmarks.rag_command import fresh_home, rag
from tests.benchmarks.report import finish, parser
from tests.benchmarks.workload import until_quiet

SOURCE = "corpus"
#: Kind -> row.
ROWS = {"dense": "9", "sparse": "9 sparse"}


def measure(home: Path, documents: int, rounds: int) -> Measured:
    write_corpus(home / SOURCE, documents)
    rag(home, "up")
    rag(home, "ingest", str(home / SOURCE), vectors=",".join(ROWS))
    # Milvus Lite builds its indexes after the load.
    until_quiet(900)
    urls, measured, rows = running(home), Measured(), 0
    store = MilvusStore(urls["milvus"])
    with Postgres(urls["postgres"]).connect(autocommit=True) as connection:
        source = get_source(connection, SOURCE)
        for _ in range(rounds):
            for collection in collections(connection):
                started = time.perf_counter()
                drift = compare_collection(connection, store, collection, source)
                compared = time.perf_counter()
                rows = read_ids(store, collection.name)
                read = time.perf_counter()
                if drift.verdict != "consistent":
                    raise SystemExit(f"invalid measurement, expected consistent stores: {drift}")
                measured.add(ROWS[collection.kind], compared - started, read - compared)
    store.close()
    measured.conditions["corpus"] = f"generated, seed 0, {documents:,} documents"
    measured.conditions["rows a collection"] = rows
    return measured


def read_ids(store: MilvusStore, name: str) -> int:
    """Read all ids once, with the fewest queries that Milvus allows. Returns their number."""
    return sum(
        len([row["id"] for row in store.client.query(
            name, filter=span_filter(span) or 'id >= ""', output_fields=["id"], limit=BUCKET_ROWS
        )])
        for span in buckets(store.count(name))
    )  # fmt: skip


def main() -> None:
    arguments = parser("full_check", __doc__)
    arguments.add_argument("--documents", type=int, default=8_400)
    options = arguments.parse_args()
    with fresh_home() as home:
        finish(options, measure(home, options.documents, options.rounds))


if __name__ == "__main__":
    main()
