"""What turns a check red on a real corpus: `python -m tests.benchmarks.quality_faults [FOLDER] [--clean 20]`.

The folder's documents with `lexical`, dense and sparse, judged by known items. A clean system is measured and checked
so many times; then each fault is put into Milvus directly, what is red is named, and the rows are put back.
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

from rag_assets.deployment import failures
from rag_assets.evaluation.known_items import build_set
from resources.embedded.stack import start_milvus, start_postgres, stop
from resources.embedders.lexical import LexicalEmbedder
from resources.postgres.schema import migrate
from tests.benchmarks.rag_command import ROOT
from tests.conftest import World, empty_world

CORPUS = ROOT.parent / "shared" / "data" / "qa" / "en-xquad" / "articles"
Row = dict[str, Any]
#: Rows an answer, which come with their vectors.
PART = 1000

out = Console(highlight=False, width=150)


def red(world: World) -> dict[str, str]:
    """Check -> what it says, of the measured and the compared ones that fail; the evaluation, where it is refused."""
    result = world.run("evaluate_retrieval", raise_on_error=False)
    measured = result.get_asset_check_evaluations()
    found = {each.check_name: each.description or "" for each in measured if not each.passed}
    return dict(failures(result)) | found | world.failed_checks()


def swap(rows: list[Row]) -> list[Row]:
    """A tenth of the rows, each with the vector of another one of them."""
    changed = rows[::10]
    moved = [*changed[1:], *changed[:1]]
    return [{**row, "vector": other["vector"]} for row, other in zip(changed, moved)]


def truncate(rows: list[Row]) -> list[Row]:
    """Of each the four terms of the least weight are left."""

    def least(vector: Mapping[int, float]) -> dict[int, float]:
        return dict(sorted(vector.items(), key=lambda item: item[1])[:4])

    return [{**row, "vector": least(row["vector"])} for row in rows]


def unnormalised(rows: list[Row]) -> list[Row]:
    """Lengths from 1 to 8."""
    return [
        {**row, "vector": [value * (1 + n % 8) for value in row["vector"]]}
        for n, row in enumerate(rows)
    ]


def revised(rows: list[Row]) -> list[Row]:
    """What another revision of the model gives: as like one another as before, and unlike what queries become."""
    return [{**row, "vector": [*row["vector"][1:], row["vector"][0]]} for row in rows]


class Revision(LexicalEmbedder):
    """The same model by another name."""

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
    return [dict(row) for part in parts(ids) for row in client.get(name, part, output_fields=["*"])]


def parts(items: list[Any]) -> Iterator[list[Any]]:
    return (items[start : start + PART] for start in range(0, len(items), PART))


def upsert(world: World, kind: str, rows: list[Row]) -> None:
    for part in parts(rows):
        world.store.client.upsert(f"{kind}_collection", part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=CORPUS)
    parser.add_argument(
        "--clean", type=int, default=20, help="times that a clean system is looked at"
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
    started, green = time.monotonic(), 0
    for _ in range(clean):
        world.sync()
        found = red(world)
        green += not found
        if found:
            out.print(found)
    seconds = (time.monotonic() - started) / max(1, clean)
    chunks = world.one("SELECT count(*) FROM document_chunks")
    out.print(
        f"{chunks:,} chunks, {queries} queries; clean: green {green} of {clean}, {seconds:.1f} s each"
    )
    table = Table("fault", "red checks")
    for name, (kind, damage) in FAULTS.items():
        rows = rows_of(world, kind)
        upsert(world, kind, damage(rows))
        table.add_row(name, said(red(world)))
        upsert(world, kind, rows)
    for kind in ("dense", "sparse"):
        gone = rows_of(world, kind)[::20]
        for part in parts([row["id"] for row in gone]):
            world.store.client.delete(f"{kind}_collection", ids=part)
        table.add_row(f"5 % of {kind} rows gone", said(red(world)))
        upsert(world, kind, gone)
    other = world.configured(embedder="tests.benchmarks.quality_faults:Revision")
    table.add_row("another revision configured", said(red(other)))
    left = red(world)
    table.add_row("all put back", said(left))
    out.print(table)


def said(found: Mapping[str, str]) -> str:
    return "\n".join(f"{name}: {text[:110]}" for name, text in found.items()) or "none"


if __name__ == "__main__":
    main()
