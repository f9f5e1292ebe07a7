"""Which faults fail which checks on a real corpus: `python -m tests.benchmarks.quality_faults [FOLDER] [--clean 20]`.

The folder's documents with `lexical`, dense and sparse, judged by known items. The clean system is checked `--clean`
times. Then each fault is written directly to Milvus, the failed checks are listed, and the rows are restored.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rag_assets.evaluation.known_items import build_set
from rag_assets.job_runs import failures
from resources.embedded.stack import start_milvus, start_postgres, stop
from resources.embedders.lexical import LexicalEmbedder
from resources.postgres.schema import migrate
from tests.benchmarks.rag_command import ROOT
from tests.support.world import World, empty_world

CORPUS = ROOT.parent / "shared" / "data" / "qa" / "en-xquad" / "articles"
Row = dict[str, Any]
#: Rows per request; they include their vectors.
BATCH = 1000

out = Console(highlight=False, width=150)


def failed_checks(world: World) -> dict[str, str]:
    """Check -> description, of the failed checks of an evaluation and of a full check; also a failed evaluation."""
    result = world.run("evaluate_retrieval", raise_on_error=False)
    checks = result.get_asset_check_evaluations()
    failed = {check.check_name: check.description or "" for check in checks if not check.passed}
    return dict(failures(result)) | failed | world.failed_checks()


def swap(rows: list[Row]) -> list[Row]:
    """A tenth of the rows, each with the vector of another of these rows."""
    changed = rows[::10]
    moved = [*changed[1:], *changed[:1]]
    return [{**row, "vector": other["vector"]} for row, other in zip(changed, moved)]


def truncate(rows: list[Row]) -> list[Row]:
    """All rows, each reduced to its four terms of least weight."""

    def least(vector: Mapping[int, float]) -> dict[int, float]:
        return dict(sorted(vector.items(), key=lambda item: item[1])[:4])

    return [{**row, "vector": least(row["vector"])} for row in rows]


def unnormalised(rows: list[Row]) -> list[Row]:
    """All rows with vectors of norm 1 to 8."""
    return [
        {**row, "vector": [value * (1 + n % 8) for value in row["vector"]]}
        for n, row in enumerate(rows)
    ]


def revised(rows: list[Row]) -> list[Row]:
    """Vectors as of another model revision: their mutual similarities stay, those to queries' vectors do not."""
    return [{**row, "vector": [*row["vector"][1:], row["vector"][0]]} for row in rows]


class Revision(LexicalEmbedder):
    """The same model with another version."""

    @property
    def identity(self) -> Mapping[str, str]:
        return {**super().identity, "version": "another"}


FAULTS: Mapping[str, tuple[str, Callable[[list[Row]], list[Row]]]] = {
    "10 % of dense vectors swapped": ("dense", swap),
    "10 % of sparse vectors swapped": ("sparse", swap),
    "sparse weights truncated": ("sparse", truncate),
    "normalisation dropped": ("dense", unnormalised),
    "vectors of another revision": ("dense", revised),
}


def rows_of(world: World, kind: str) -> list[Row]:
    client, name = world.store.client, f"{kind}_collection"
    ids = sorted(
        row["id"]
        for row in client.query(name, filter='id >= ""', output_fields=["id"], limit=16_000)
    )
    return [
        dict(row) for batch in batched(ids) for row in client.get(name, batch, output_fields=["*"])
    ]


def batched(items: list[Any]) -> Iterator[list[Any]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def upsert(world: World, kind: str, rows: list[Row]) -> None:
    for batch in batched(rows):
        world.store.client.upsert(f"{kind}_collection", batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=CORPUS)
    parser.add_argument(
        "--clean", type=int, default=20, help="number of checks of the clean system"
    )
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="rag-bench-"))
    try:
        postgres, milvus = start_postgres(home).url, start_milvus(home).uri
        migrate(postgres)
        with empty_world(home, postgres, milvus, home / "world") as world:
            measure(world, options.folder, options.queries, options.clean)
    finally:
        stop(home)


def measure(world: World, folder: Path, queries: int, clean: int) -> None:
    world.register("docs", "folder", {"path": str(folder)})
    world.sync()
    build_set(world.connection, "known", "docs", queries)
    started, passed = time.monotonic(), 0
    for _ in range(clean):
        world.sync()
        failed = failed_checks(world)
        passed += not failed
        if failed:
            out.print(failed)
    seconds = (time.monotonic() - started) / max(1, clean)
    chunks = world.one("SELECT count(*) FROM document_chunks")
    out.print(
        f"{chunks:,} chunks, {queries} queries; clean: passed {passed} of {clean}, {seconds:.1f} s each"
    )
    table = Table("fault", "failed checks")
    for name, (kind, damage) in FAULTS.items():
        rows = rows_of(world, kind)
        upsert(world, kind, damage(rows))
        table.add_row(name, listing(failed_checks(world)))
        upsert(world, kind, rows)
    for kind in ("dense", "sparse"):
        deleted = rows_of(world, kind)[::20]
        for batch in batched([row["id"] for row in deleted]):
            world.store.client.delete(f"{kind}_collection", ids=batch)
        table.add_row(f"5 % of {kind} rows deleted", listing(failed_checks(world)))
        upsert(world, kind, deleted)
    other = world.configured(embedder="tests.benchmarks.quality_faults:Revision")
    table.add_row("another revision configured", listing(failed_checks(other)))
    table.add_row("all restored", listing(failed_checks(world)))
    out.print(table)


def listing(failed: Mapping[str, str]) -> str:
    return "\n".join(f"{name}: {text[:110]}" for name, text in failed.items()) or "none"


if __name__ == "__main__":
    main()
