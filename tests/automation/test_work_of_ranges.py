"""A run over several sources finds the sources and stages that have work, and skips the others."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, LiteralString

from rag_assets.ingestion.index import find_idle_vectors
from resources.postgres.idle_sources import listable_sources
from resources.postgres.registry.sources import SourceRow, get_source
from resources.sources.signs import FINE_TICK
from tests.support.oracle import disagreements
from tests.support.ranges import STAGES, TEXT, VECTORS, run_range
from tests.support.world import World


class Several:
    """Synced sources, in the order of their names here. A run over all of them shows which stages had work."""

    def __init__(self, world: World, names: Sequence[str]) -> None:
        self.world, self.names = world.configured(vectors=("dense",)), names
        for name in names:
            world.write({f"{n}.md": TEXT + name + n for n in ("one", "two")}, name)
            world.add(name)
        # A file as young as its listing looks changed to the next one.
        time.sleep(2 * FINE_TICK)
        for name in names:
            self.world.fill(name)
        self.metadata: dict[tuple[str, str], dict[str, Any]] = {}
        self.sql = world.connection.execute

    def rows(self, *names: str) -> dict[str, SourceRow]:
        return {name: get_source(self.world.connection, name) for name in names or self.names}

    def run(self) -> set[tuple[str, str]]:
        """Sync all in one run. Returns (partition, asset) of the stages that ran as writers: they show the columns."""
        result = run_range(self.world, "sync_source", self.names[0], self.names[-1])
        assert result.success
        self.metadata = {
            (item.partition or "", item.asset_key.to_user_string()): {
                name: value.value for name, value in item.metadata.items()
            }
            for event in result.all_events
            if event.is_step_materialization
            for item in [event.step_materialization_data.materialization]
        }
        assert len(self.metadata) == 7 * len(self.names)
        return {key for key, values in self.metadata.items() if "dagster/column_schema" in values}

    def epochs(self) -> Counter[str]:
        return Counter(dict(self.sql("SELECT partition, epoch FROM partition_writers").fetchall()))

    def assert_worked(self, stages: Mapping[str, Collection[str]]) -> None:
        """Assert that a run over all executes only these stages of each source."""
        before = self.epochs()
        expected = {(name, stage) for name, worked in stages.items() for stage in worked}
        assert self.run() == {item for item in expected if item[1] != "multi_vectors"}
        assert self.epochs() - before == Counter(partition for partition, _ in expected)

    def assert_all_is_done(self, *names: str) -> None:
        """Assert that no stage has work, and that a skipped stage reports what it would report as a writer."""
        self.assert_worked({})
        states = "SELECT DISTINCT sync_status FROM sources WHERE last_sync_at IS NOT NULL"
        assert self.sql(states).fetchall() == [("completed",)]
        for name in names:
            for asset, plan in self.world.fill(name).items():
                values = self.metadata[name, asset]
                assert (values["plan"], values["dagster/partition_row_count"]) == (
                    plan,
                    plan["kept"],
                ), asset
        urls = (self.world.settings.postgres_url, self.world.settings.milvus_uri)
        assert disagreements(*urls, ("dense",)) == []


#: A source that has work of its kind -> the statement that makes the work, and the stages that do it.
IN_SQL: dict[str, tuple[LiteralString, Sequence[str]]] = {
    "a-file-was-not-read": (
        "UPDATE source_entries SET error = 'no answer', content_hash = NULL WHERE source_id = %s",
        ["source_documents"],
    ),
    "a-locator-changed": (
        "UPDATE source_entries SET locator = 'elsewhere' WHERE source_id = %s",
        ["source_documents"],
    ),
    "another-parser": (
        "UPDATE documents SET parser_fingerprint = 'older' WHERE source_uuid = %s",
        ["documents"],
    ),
    "another-chunker": (
        "UPDATE documents SET chunker_fingerprint = 'older' WHERE source_uuid = %s",
        ["document_chunks"],
    ),
    "another-author": (
        "UPDATE documents SET author = 'Somebody' WHERE source_uuid = %s",
        VECTORS,
    ),
    "unfinished-indexing": (
        "UPDATE documents SET indexing_status = 'indexing' WHERE source_uuid = %s",
        VECTORS,
    ),
    "another-model": (
        "UPDATE documents SET indexed_as = 'another model' WHERE source_uuid = %s",
        VECTORS,
    ),
    "outbox-of-a-kind-no-longer-kept": (
        """INSERT INTO vector_deletions (source_uuid, kind, chunk_id)
           SELECT id, 'multi', id FROM sources WHERE id = %s""",
        ["multi_vectors"],
    ),
    "another-language": (
        """UPDATE sources SET connection_config = connection_config || '{"language": "de"}' WHERE id = %s""",
        ["documents", "document_chunks", *VECTORS],
    ),
    "unsigned-documents": (
        "DELETE FROM document_signatures WHERE source_uuid = %s",
        ["documents"],
    ),
    "a-document-deleted-in-sql": (
        "DELETE FROM documents WHERE source_uuid = %s AND source_key = 'one.md'",
        ["dense_vectors"],
    ),
}
#: A source whose folder changed -> the change, and the stages that bring it up to date.
IN_THE_FOLDER: dict[str, tuple[Callable[[Path], object], Sequence[str]]] = {
    "a-new-file": (lambda root: (root / "three.md").write_text(TEXT + "new"), STAGES),
    "an-edited-file": (lambda root: (root / "two.md").write_text(TEXT + "edited"), STAGES),
    "a-touched-file": (lambda root: os.utime(root / "two.md", (1, 1)), ["source_documents"]),
    "a-deleted-file": (
        lambda root: (root / "two.md").unlink(),
        ["source_documents", "documents", "dense_vectors"],
    ),
    "a-file-that-cannot-be-read": (
        lambda root: (root / "torn.pdf").write_bytes(b"%PDF-1.4 no more"),
        ["source_documents", "documents"],
    ),
}


def test_a_range_finds_the_work_of_each_of_its_sources(world: World) -> None:
    several = Several(world, ["unchanged", *IN_SQL, *IN_THE_FOLDER])
    for name, (statement, _) in IN_SQL.items():
        several.sql(statement, [several.rows(name)[name].id])
    for name, (change, _) in IN_THE_FOLDER.items():
        change(world.folder / name)
    several.assert_worked(
        {name: stages for name, (_, stages) in {**IN_SQL, **IN_THE_FOLDER}.items()}
    )
    several.assert_all_is_done("a-document-deleted-in-sql", "a-file-that-cannot-be-read")
    assert "failed_documents" in several.metadata["a-file-that-cannot-be-read", "documents"]
    totals = dict(several.sql("SELECT name, total_documents FROM sources").fetchall())
    assert (totals["unchanged"], totals["a-document-deleted-in-sql"]) == (2, 1)

    ids = {name: row.id for name, row in several.rows("unchanged", "a-new-file").items()}
    with several.world.postgres.writer("a-new-file"):
        assert listable_sources(world.connection, ids, most=10) == ["unchanged"]
    # The other source has three entries.
    assert listable_sources(world.connection, ids, most=2) == ["unchanged"]


def test_a_range_finds_work_that_concerns_all_its_sources(world: World) -> None:
    several = Several(world, ["a", "b"])
    store = several.world.store
    name = store.alias_target("dense")
    assert name is not None

    # A deleted signature, which documents of any source may refer to.
    several.sql("INSERT INTO gone_signatures VALUES (0)")
    several.assert_worked({key: ["documents"] for key in "ab"})
    store.client.drop_alias("dense_collection")
    store.client.drop_collection(name)
    several.assert_worked({key: ["dense_vectors"] for key in "ab"})

    def idle() -> set[str]:
        return set(
            find_idle_vectors(world.connection, several.rows(), "dense", several.world.stores)
        )

    def other(state: str) -> None:
        several.sql(
            """INSERT INTO vector_collections SELECT (jsonb_populate_record(v, jsonb_build_object(
                 'name', 'half_built', 'state', %s::text))).* FROM vector_collections v""",
            [state],
        )

    for change in (
        lambda: store.client.drop_alias("dense_collection"),
        lambda: several.sql("UPDATE vector_collections SET milvus_id = 'another'"),
        partial(other, "retired"),
        partial(other, "rebuilding"),
    ):
        assert idle() == {"a", "b"}
        change()
        assert idle() == set()
        for key in "ab":
            several.world.fill(key)
    several.assert_all_is_done("b")
