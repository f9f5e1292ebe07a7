"""Each fault is named by exactly the checks that it breaks, and `rag repair` leaves nothing of it.

One deployment for the module: what a test breaks, its repair mends, and the next one begins on whole stores.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType

from rag_assets.partitions import partition_key
from resources.milvus.store import MilvusStore
from tests.assets.test_repair import repair
from tests.assets.test_sync import long_text
from tests.conftest import World, empty_world

KINDS = ("dense", "sparse", "multi")
DIMENSIONS = {"dense": 64, "multi": 16}
MATCH, SOUND, SEARCH = (
    "{}_vectors_match_postgres",
    "{}_vectors_are_sound",
    "{}_vectors_are_found_by_search",
)
INDEX, ALIAS = "{}_index_is_as_declared", "{}_alias_points_to_current_model"
PARQUET, STATUSES = "chunk_embeddings_are_in_parquet", "statuses_agree"
PARENTS, POSITIONS = "chunks_have_documents", "chunk_positions_are_contiguous"
OUTBOX = "deleted_chunks_have_left_milvus"
CHECKS = 5 + 5 * len(KINDS)


@pytest.fixture(scope="module")
def whole(
    home: Path, postgres_url: str, milvus_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("checks")
    with empty_world(home, postgres_url, milvus_uri, folder) as bare:
        world = bare.configured(vectors=KINDS, embedder="tests.embedders:CountingEmbedder")
        world.write({f"{n}.md": long_text(f"town {n}", 12) for n in range(5)})
        world.add("empty")
        world.add()
        world.sync()
        yield world


@pytest.fixture
def world(whole: World, request: pytest.FixtureRequest) -> Iterator[World]:
    """Acknowledgements younger than a second are not held against a scan."""
    if whole.one("SELECT count(*) FROM documents") < 5:  # a repair reads no source
        whole.sync()
    settle(whole)
    failed = request.session.testsfailed
    yield whole
    if request.session.testsfailed > failed:
        repair(whole)  # so that one failure stays one


def settle(world: World) -> None:
    world.connection.execute("UPDATE vector_rows SET acknowledged_at = now() - interval '1 minute'")


# What is broken ---------------------------------------------------------------------------------------------------


def ids(world: World, kind: str) -> list[str]:
    rows = world.store.client.query(
        f"{kind}_collection", filter='id >= ""', output_fields=["id"], limit=1000
    )
    return sorted(row["id"] for row in rows)


def row(world: World, kind: str, number: int = 0) -> dict[str, Any]:
    (found,) = world.store.client.get(
        f"{kind}_collection", [ids(world, kind)[number]], output_fields=["*"]
    )
    return dict(found)


def upsert(kind: str, **changes: Any) -> Callable[[World], None]:
    return lambda world: world.store.client.upsert(
        f"{kind}_collection", [{**row(world, kind), **changes}]
    )


def delete_row(kind: str) -> Callable[[World], None]:
    return lambda world: world.store.client.delete(f"{kind}_collection", ids=ids(world, kind)[:1])


def scale(kind: str, factor: float) -> Callable[[World], None]:
    return lambda world: upsert(
        kind, vector=[factor * number for number in row(world, kind)["vector"]]
    )(world)


def swap_vectors(kind: str) -> Callable[[World], None]:
    """Two rows with each other's vectors, each under its own, right fingerprint."""

    def swap(world: World) -> None:
        one = row(world, kind)
        others = (row(world, kind, number) for number in range(1, 20))
        two = next(other for other in others if other["vector"] != one["vector"])
        one["vector"], two["vector"] = two["vector"], one["vector"]
        world.store.client.upsert(f"{kind}_collection", [one, two])

    return swap


def sql(*statements: str) -> Callable[[World], None]:
    def change(world: World) -> None:
        with world.connection.transaction():
            for statement in statements:
                assert world.connection.execute(statement).rowcount != 0, statement  # pyright: ignore

    return change


def without_foreign_keys(*statements: str) -> Callable[[World], None]:
    return sql("SET LOCAL session_replication_role = replica", *statements)


def file(world: World) -> Path:
    return Path(world.settings.storage_url) / world.one("SELECT path FROM embedding_files LIMIT 1")


def truncate(world: World) -> None:
    path = file(world)
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(world: World) -> None:
    """In the middle of the vectors: the file can still be read, and says something else."""
    path = file(world)
    data = bytearray(path.read_bytes())
    table_starts = data.index(np.float32(1).tobytes()[2:])
    data[max(table_starts, len(data) // 3) | 3] ^= 0x40
    path.write_bytes(data)


def move_alias(world: World) -> None:
    client = world.store.client
    client.drop_collection("somewhere_else")
    schema = client.create_schema()
    schema.add_field("id", DataType.VARCHAR, max_length=9, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=8)
    client.create_collection("somewhere_else", schema=schema)
    client.alter_alias("somewhere_else", "dense_collection")


def physical(world: World, kind: str) -> str:
    return world.resources["embedder"].collection(world.connection, kind)


def drop_index(world: World, make: Mapping[str, Any] | None = None) -> None:
    client, name = world.store.client, physical(world, "dense")
    client.release_collection(name)
    client.drop_index(name, "vector")
    if make:
        index = client.prepare_index_params()
        index.add_index("vector", index_name="vector", **make)
        client.create_index(name, index)
    client.load_collection(name)


def declare_again(world: World) -> None:
    """The collection is there, under its name and with its index, but holds vectors of another dimension."""
    client, name = world.store.client, physical(world, "dense")
    layout = world.resources["milvus"].layout("dense", world.resources["embedder"].open())
    client.drop_alias("dense_collection")
    client.drop_collection(name)
    other = type(layout)(layout.kind, layout.dimension // 2, layout.index, layout.shards)
    world.store.ensure_collection(name, other)
    client.create_alias(name, "dense_collection")


def drop_collection(world: World) -> None:
    world.store.client.drop_alias("dense_collection")
    world.store.client.drop_collection(physical(world, "dense"))


def enqueue(source: str, age: str) -> str:
    return f"""INSERT INTO vector_deletions (source_uuid, kind, chunk_id, row_count, enqueued_at)
      SELECT {source}, 'dense', gen_random_uuid(), 1, now() - interval '{age}'"""


@dataclass(frozen=True)
class Fault:
    inject: Callable[[World], object]
    fails: set[str]
    #: What the first of these checks must say.
    says: str = ""


def of_all(*checks: str) -> set[str]:
    return {check.format(kind) for check in checks for kind in KINDS}


def of(kind: str, *checks: str) -> set[str]:
    return {check.format(kind) for check in checks}


DOCUMENT = "(SELECT id FROM documents WHERE source_key = '1.md')"
CHUNK = f"(SELECT id FROM document_chunks WHERE document_id = {DOCUMENT} AND position = 0)"
DOCS = "(SELECT id FROM sources WHERE name = 'docs')"
ZEROS = "0" * 32
FAULTS: dict[str, Fault] = {
    **{f"{kind} row missing": Fault(delete_row(kind), of(kind, MATCH), "1 missing") for kind in KINDS},
    "orphaned row": Fault(upsert("dense", id=f"{uuid.uuid4()}_dense"), of("dense", MATCH), "1 orphaned"),
    "stale row": Fault(upsert("sparse", row_fingerprint=ZEROS), of("sparse", MATCH), "1 stale"),
    "row not acknowledged": Fault(
        sql("DELETE FROM vector_rows WHERE collection LIKE 'dense%' AND chunk_id = " + CHUNK),
        of("dense", MATCH), "1 chunks are not acknowledged",
    ),
    "chunk without document": Fault(
        without_foreign_keys(
            f"""INSERT INTO document_chunks (id, document_id, content, position, source_uuid, text_hash)
                SELECT gen_random_uuid(), gen_random_uuid(), 'x', 0, {DOCS}, '{ZEROS}'"""
        ),
        {PARENTS}, "no such document",
    ),
    "document lost under its chunks": Fault(
        without_foreign_keys(f"DELETE FROM documents WHERE id = {DOCUMENT}"),
        {PARENTS} | of_all(MATCH), "5 exceptions",
    ),
    "chunk of another source": Fault(
        sql(f"""UPDATE document_chunks SET source_uuid = (SELECT id FROM sources WHERE name = 'empty')
                WHERE id = {CHUNK}"""),
        {PARENTS}, "another source",
    ),
    "parent in another document": Fault(
        sql(f"""UPDATE document_chunks SET parent_chunk_id = {CHUNK} WHERE position = 1
                AND document_id = (SELECT id FROM documents WHERE source_key = '2.md')"""),
        {PARENTS}, "its parent belongs to another document",
    ),
    "chunk_count wrong": Fault(
        sql(f"UPDATE documents SET chunk_count = 99 WHERE id = {DOCUMENT}"), {POSITIONS}, "chunk_count 99"
    ),
    "chunk deleted": Fault(sql(f"DELETE FROM document_chunks WHERE id = {CHUNK}"), {POSITIONS}, "chunks 4"),
    # A row in Milvus says its position too.
    "positions with a gap": Fault(
        sql(f"UPDATE document_chunks SET position = 9 WHERE id = {CHUNK}"),
        {POSITIONS} | of_all(MATCH), "last_position 9",
    ),
    **{
        f"document {column} {value}": Fault(
            sql(f"UPDATE documents SET {column} = '{value}' WHERE id = {DOCUMENT}"), {STATUSES}, says
        )
        for column, value, says in (
            ("processing_status", "processing", "no run is writing"),
            ("indexing_status", "indexing", "no run is writing"),
            ("processing_status", "pending", "not chunked yet"),
            ("indexing_status", "pending", "not indexed yet"),
            ("indexing_status", "failed", "every chunk is completed"),
        )
    },
    **{
        f"chunk {change}": Fault(
            sql(f"UPDATE document_chunks SET {change} WHERE id = {CHUNK}"), {STATUSES}, says
        )
        for change, says in (
            ("embedding_status = 'processing'", "no run is writing"),
            ("embedding_status = 'pending'", "only 4 of 5 chunks"),
            ("embedding_status = 'failed'", "only 4 of 5 chunks"),
            ("sparse_vector_id = NULL", "lack their vector id"),
            ("dense_vector_id = 'of_another'", "lack their vector id"),
        )
    },
    "file deleted": Fault(lambda world: file(world).unlink(), {PARQUET}, "1 of 1 files"),
    "file truncated": Fault(truncate, {PARQUET}, "1 of 1 files"),
    "file with a flipped bit": Fault(flip_a_bit, {PARQUET}, "1 of 1 files"),
    "embedding not recorded": Fault(
        sql(f"""DELETE FROM embeddings WHERE text_hash IN (
                SELECT text_hash FROM document_chunks WHERE id = {CHUNK})"""),
        {PARQUET}, "1 completed chunks have no embedding",
    ),
    **{
        f"{kind} vector not a number": Fault(
            upsert(kind, vector=[float("nan")] * dimension), of(kind, SOUND), "1 unsound"
        )
        for kind, dimension in DIMENSIONS.items()
    },
    **{f"{kind} vector too long": Fault(scale(kind, 3), of(kind, SOUND), "1 unsound") for kind in DIMENSIONS},
    **{f"{kind} vectors swapped": Fault(swap_vectors(kind), of(kind, SOUND), "2 unsound") for kind in KINDS},
    "alias moved": Fault(move_alias, of("dense", ALIAS), "found somewhere_else"),
    "alias dropped": Fault(
        lambda world: world.store.client.drop_alias("sparse_collection"), of("sparse", ALIAS), "found nothing"
    ),
    "serving not recorded": Fault(
        sql("UPDATE vector_collections SET state = 'building' WHERE kind = 'multi'"),
        of("multi", ALIAS), "expected serving, found building",
    ),
    "index dropped": Fault(drop_index, of("dense", INDEX), "index: expected HNSW, found none"),
    "index of another metric": Fault(
        lambda world: drop_index(world, {"index_type": "HNSW", "metric_type": "L2", "params": {}}),
        of("dense", INDEX), "metric_type: expected IP, found L2",
    ),
    "index of another type": Fault(
        lambda world: drop_index(world, {"index_type": "FLAT", "metric_type": "IP"}),
        of("dense", INDEX), "index_type: expected HNSW, found FLAT",
    ),
    "collection released": Fault(
        lambda world: world.store.client.release_collection(physical(world, "dense")),
        of("dense", INDEX), "load state: expected Loaded, found NotLoad",
    ),
    "collection dropped": Fault(
        drop_collection, of("dense", INDEX, ALIAS, MATCH, SOUND, SEARCH), "collection: expected"
    ),
    "deletion overdue": Fault(sql(enqueue(DOCS, "1 hour")), {OUTBOX}, "1 of them longer than 900 s"),
    "deletion of a removed source overdue": Fault(
        sql(enqueue("gen_random_uuid()", "1 hour")), {OUTBOX}, "1 of them longer than 900 s"
    ),
}  # fmt: skip


def assert_named(world: World, fails: set[str], says: str = "") -> None:
    found = world.check()
    assert len(found) == CHECKS  # each could be run
    failed = {name: each.description or "" for name, each in found.items() if not each.passed}
    assert failed.keys() == fails, failed
    assert not says or any(says in sentence for sentence in failed.values()), failed
    assert all("mend_with" in each.metadata for each in found.values() if not each.passed)


def assert_mended(world: World) -> None:
    report = repair(world)
    assert report["clean"], report
    settle(world)
    assert world.failed_checks() == {}


def test_whole_stores_pass_and_each_check_says_how_much_it_looked_at(world: World) -> None:
    found = world.check()
    assert {name: each.description for name, each in found.items() if not each.passed} == {}
    assert len(found) == CHECKS
    assert all(any(map(str.isdigit, each.description or "")) for each in found.values())
    facts = found["dense_index_is_as_declared"].metadata["evidence"].value.records  # pyright: ignore
    said = {fact.data["field"]: (fact.data["declared"], fact.data["actual"]) for fact in facts}
    assert said["dimension"] == ("64", "64")
    assert said["shards"] == ("2", "not reported by this server")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_and_mended(world: World, name: str) -> None:
    fault = FAULTS[name]
    fault.inject(world)
    assert_named(world, fault.fails, fault.says)
    assert_mended(world)


def test_a_collection_of_another_dimension_takes_a_new_one(world: World) -> None:
    """A repair does not drop what may be serving."""
    declare_again(world)
    assert_named(world, of("dense", INDEX, ALIAS, MATCH), "expected 64, found 32")
    found = world.check()[INDEX.format("dense")]
    assert found.metadata["mend_with"].value == "rag rebuild milvus"
    drop_collection(world)
    assert_mended(world)


def test_a_second_repair_finds_nothing(world: World) -> None:
    report = repair(world)
    assert report["clean"]
    assert not any(report["also_found"].values())
    assert all(not plan["inserted"] and not plan["replaced"] for plan in report["plan"].values())


def test_a_young_deletion_is_said_and_passes(world: World) -> None:
    sql(enqueue(DOCS, "1 minute"))(world)
    found = world.check()[OUTBOX]
    assert found.passed
    assert "1 deletions wait in the outbox, 0 of them" in (found.description or "")
    assert_mended(world)


def test_work_in_progress_is_no_fault_while_a_run_holds_the_source(world: World) -> None:
    sql(f"UPDATE documents SET indexing_status = 'indexing' WHERE id = {DOCUMENT}")(world)
    with world.postgres.writer(partition_key("empty")):  # another source's run
        assert_named(world, {STATUSES}, "no run is writing")
    with world.postgres.writer(partition_key("docs")):
        found = world.check()[STATUSES]
        assert found.passed
        assert "while a run is writing" in (found.description or "")
    assert_mended(world)


def test_an_id_that_is_there_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault: a server that shows a row twice until it is written again (Milvus Lite, killed in a flush)."""
    double = set(ids(world, "dense")[:1])
    scan, copies, rewrite = MilvusStore.scan, MilvusStore.copies, MilvusStore.rewrite

    def scan_twice(self: MilvusStore, *arguments: Any, **options: Any):
        for bucket in scan(self, *arguments, **options):
            yield [each for row in bucket for each in [row] * (2 if row[0] in double else 1)]

    def count_twice(self: MilvusStore, *arguments: Any) -> dict[str, int]:
        return {each: n + (each in double) for each, n in copies(self, *arguments).items()}

    def write_once(self: MilvusStore, name: str, rows: Any) -> None:
        rewrite(self, name, rows)
        double.difference_update(rows)

    monkeypatch.setattr(MilvusStore, "scan", scan_twice)
    monkeypatch.setattr(MilvusStore, "copies", count_twice)
    monkeypatch.setattr(MilvusStore, "rewrite", write_once)
    assert_named(world, of("dense", MATCH), "1 duplicate")
    assert_mended(world)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_rows_that_no_search_finds(
    world: World, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: an index that lost rows until they are written again. HNSW may leave out some by its nature."""
    there = ids(world, kind)
    hidden = set(there[: 1 if kind == "sparse" else len(there) // 4])
    search_all, upsert_part = MilvusStore.search_all, MilvusStore._upsert

    def search_less(self: MilvusStore, *arguments: Any, **options: Any):
        hits = search_all(self, *arguments, **options)
        return [[hit for hit in each if hit[0] not in hidden] for each in hits]

    def write(self: MilvusStore, name: str, rows: list[dict[str, Any]], fence: Any) -> None:
        upsert_part(self, name, rows, fence)
        hidden.difference_update(row["id"] for row in rows)

    monkeypatch.setattr(MilvusStore, "search_all", search_less)
    monkeypatch.setattr(MilvusStore, "_upsert", write)
    if kind == "sparse":
        assert_named(world, of(kind, SEARCH), f"{len(there) - 1} of {len(there)} rows")
        assert_mended(world)
        return
    assert_named(world, of(kind, SEARCH), "may be out of the reach of an HNSW index")
    found = world.check()[SEARCH.format(kind)]
    assert found.severity.value == "WARN"
    assert '"index_type": "IVF_FLAT"' in str(found.metadata["mend_with"].value)
    hidden.difference_update(there[1:])  # one of so many is no reason to fail
    assert f"{len(there) - 1} of {len(there)}" in (
        world.check()[SEARCH.format(kind)].description or ""
    )
    assert world.failed_checks() == {}
