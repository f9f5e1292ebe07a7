"""Provable deletion: no store has anything of a forgotten document; the tests read each store themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from pymilvus import DataType

from rag_assets.evaluation.known_items import build_set
from rag_assets.pipeline.retrieval_sets import Judgement
from resources.postgres.documents.erasures import (
    find_document_id,
    key_hash,
    locate_document,
    request_erasure,
    withdraw_erasure,
)
from resources.postgres.evaluation.retrieval_sets import add_set
from resources.postgres.registry.sources import get_source
from tests.support.operations import finish_forgetting, request_to_forget
from tests.support.stored import assert_consistent, embedded_texts
from tests.support.world import World

SECRET = "The treasure of the observatory is buried under the third oak behind the dome."
SHARED = "This page is published under the licence of the observatory and may be copied by anyone."


def filler(topic: str) -> str:
    return f"Everything about {topic}: " + f"{topic} is a matter of its own. " * 30


def secret(version: str) -> str:
    """A section that only this document has, and one that other.md has too."""
    own = f"# Treasure\n\n{version} version. {SECRET}\n\n{filler('treasure')}"
    return f"{own}\n\n# Licence\n\n{SHARED}\n\n{filler('oaks')}"


def raw_bytes(world: World) -> list[bytes]:
    return [file.read_bytes() for file in Path(world.settings.storage_url).glob("raw/*/*")]


@pytest.fixture
def indexed(world: World) -> World:
    world.write(
        {
            "secret.md": secret("First"),
            "other.md": f"# Licence\n\n{SHARED}\n\n{filler('oaks')}",
            "third.md": f"# Domes\n\n{filler('domes')}",
        }
    )
    world.add()
    world.fill()
    world.write(
        {
            "secret.md": secret("Second"),
        }
    )
    world.fill()
    return world


def test_a_forgotten_document_is_in_no_store_and_no_retrieval_set(indexed: World) -> None:
    world = indexed
    document = world.one("SELECT id::text FROM documents WHERE source_key = 'secret.md'")
    own = {
        row[0]
        for row in world.connection.execute(
            """SELECT text_hash::text FROM document_chunks WHERE document_id = %s
               EXCEPT SELECT text_hash::text FROM document_chunks WHERE document_id <> %s""",
            [document, document],
        )
    }
    before = embedded_texts(world)
    assert own and own < before and any(b"First version" in data for data in raw_bytes(world))
    build_set(world.connection, "known", "docs", 50)
    judgements = [Judgement("both", key, 1) for key in ("secret.md", "other.md")]
    source = get_source(world.connection, "docs")
    add_set(world.connection, "files", source, {"both": "What is the licence?"}, judgements)
    quotes = "SELECT count(*) FROM retrieval_queries WHERE strpos(text, 'treasure') > 0"
    assert world.one(quotes) > 0

    request_to_forget(world, "secret.md")
    receipt = finish_forgetting(world, "secret.md")
    assert receipt["verified"], receipt
    assert not embedded_texts(world) & own
    remaining = {
        row[0] for row in world.connection.execute("SELECT text_hash::text FROM document_chunks")
    }
    # The texts of its first version are gone too; those of other documents are not.
    assert embedded_texts(world) == remaining
    assert not any(b"treasure" in data for data in raw_bytes(world))
    client = world.store.client
    for name in client.list_collections():
        rows = client.query(name, filter=f'document_id == "{document}"', output_fields=["id"])
        assert not list(rows)
    assert not world.one("SELECT count(*) FROM document_chunks WHERE content LIKE %s", "%treasure%")
    assert_consistent(world)
    assert all("treasure" not in hit.content for hit in world.search("treasure under the oak"))
    # A known item's question quotes its document. A question that another document answers too is kept.
    assert world.one(quotes) == 0
    keys = world.connection.execute(
        "SELECT DISTINCT document_key FROM retrieval_judgements WHERE document_key <> 'third.md'"
    )
    assert keys.fetchall() == [("other.md",)]
    assert world.one("SELECT count(*) FROM retrieval_queries WHERE query_id = 'both'") == 1
    # The receipt contains no text and no key.
    assert "secret" not in str(receipt).lower()
    stored = str(world.one("SELECT receipt::text FROM forgotten"))
    assert "verified" in stored and "secret" not in stored and "treasure" not in stored.lower()
    # Texts that others have too stay and are not embedded again.
    assert "other documents have them too" in receipt["places"]["parquet"]["note"]
    assert world.fill()["chunk_embeddings"]["inserted"] == 0
    assert world.search("licence of the observatory", k=1)[0].key == "other.md"


def test_collections_without_an_index_do_not_block_it(indexed: World) -> None:
    """Earlier versions left one on a server without sparse vectors; a killed sync may leave one on any server."""
    client = indexed.store.client
    for name in ("dense_collection__left", "sparse_collection__left"):
        schema = client.create_schema()
        schema.add_field("id", DataType.VARCHAR, max_length=99, is_primary=True)
        sparse = name.startswith("sparse")
        kind = DataType.SPARSE_FLOAT_VECTOR if sparse else DataType.FLOAT_VECTOR
        schema.add_field("vector", kind, **({} if sparse else {"dim": 8}))
        schema.add_field("document_id", DataType.VARCHAR, max_length=99)
        client.create_collection(name, schema=schema)
    request_to_forget(indexed, "secret.md")
    receipt = finish_forgetting(indexed, "secret.md")
    assert receipt["verified"], receipt
    for name in ("dense_collection__left", "sparse_collection__left"):
        assert receipt["places"][f"milvus/{name}"]["note"] == "it has neither rows nor an index"
        client.drop_collection(name)


def test_a_second_request_finishes_it_and_no_sync_reads_the_document_until_it_is_withdrawn(
    indexed: World,
) -> None:
    # The process died after the request; the sync drains what it can, and reads nothing again.
    request_to_forget(indexed, "secret.md")
    indexed.fill()
    assert finish_forgetting(indexed, "secret.md")["verified"]
    # A third request finds nothing.
    again = finish_forgetting(indexed, "secret.md")
    assert again["verified"] and all(place["left"] == 0 for place in again["places"].values())
    assert again["places"]["parquet"]["removed"] == 0

    indexed.write({"secret.md": f"Third version. {SECRET}"})
    indexed.fill()
    assert not indexed.one("SELECT count(*) FROM documents WHERE source_key = 'secret.md'")
    assert not indexed.one("SELECT count(*) FROM source_entries WHERE key = 'secret.md'")
    with indexed.postgres.writer("docs") as writer, writer.transaction() as connection:
        withdraw_erasure(connection, "docs", key_hash("secret.md"))
    indexed.fill()
    assert indexed.search("treasure", k=1)[0].key == "secret.md"


def test_a_second_request_for_a_document_without_chunks_finishes_its_erasure(world: World) -> None:
    world.write({"broken.md": "", "good.md": filler("oaks")})
    world.add()
    world.fill()
    document = world.one("SELECT id FROM documents WHERE source_key = 'broken.md'")
    # The process died after the first request.
    for _ in range(2):
        with world.postgres.writer("docs") as writer, writer.transaction() as connection:
            source = get_source(connection, "docs")
            request_erasure(connection, "docs", source.id, "broken.md", document)
    assert finish_forgetting(world, "broken.md")["verified"]


def test_an_unrecorded_file_is_deleted_unless_another_source_may_be_writing_it(
    indexed: World,
) -> None:
    path = Path(indexed.settings.storage_url) / "embeddings" / "half.parquet.1234abcd.tmp"
    path.write_bytes(b"PAR1 and then the process was killed")
    raw = Path(indexed.settings.storage_url) / "raw" / "ab" / ("ab" * 32)
    raw.parent.mkdir(exist_ok=True)
    # Fetched and never recorded: the document changed before the next sync.
    raw.write_text(secret("Never recorded"))
    request_to_forget(indexed, "secret.md")
    with indexed.postgres.writer("another"):
        receipt = finish_forgetting(indexed, "secret.md")
        assert not receipt["verified"] and "cannot be read" in receipt["places"]["parquet"]["note"]
        assert "not recorded yet" in receipt["places"]["raw"]["note"]
        assert path.exists() and raw.exists()
    assert (
        finish_forgetting(indexed, "secret.md")["verified"]
        and not path.exists()
        and not raw.exists()
    )


def count_versions(world: World, key: str) -> int:
    return world.one("SELECT count(*) FROM document_versions WHERE source_key = %s", key)


def test_its_versions_are_deleted_from_every_month_before_a_receipt_is_verified(
    indexed: World,
) -> None:
    world = indexed
    world.connection.execute("UPDATE documents SET title = 'Oaks' WHERE source_key = 'other.md'")
    world.connection.execute(
        """INSERT INTO document_versions SELECT (jsonb_populate_record(v, '{"valid_to": "2001-05-31"}')).*
           FROM document_versions v WHERE source_key = 'secret.md'"""
    )
    assert world.one("SELECT count(*) FROM document_versions_default") == 1
    assert count_versions(world, "secret.md") == 2
    world.connection.execute(
        """CREATE FUNCTION kept() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
           CREATE TRIGGER kept BEFORE DELETE ON document_versions FOR EACH ROW EXECUTE FUNCTION kept()"""
    )
    try:
        request_to_forget(world, "secret.md")
        receipt = finish_forgetting(world, "secret.md")
    finally:
        world.connection.execute("DROP FUNCTION kept CASCADE")
    # The deletion of the document appended a third version.
    assert not receipt["verified"] and receipt["places"]["history"]["left"] == 3
    receipt = finish_forgetting(world, "secret.md")
    assert receipt["verified"]
    history = receipt["places"]["history"]
    assert (history["removed"], history["left"]) == (3, 0)
    assert "document_versions" in history["looked_for"]
    assert (count_versions(world, "secret.md"), count_versions(world, "other.md")) == (0, 1)
    world.fill()
    assert count_versions(world, "secret.md") == 0


def test_a_document_that_has_only_versions_can_be_forgotten(indexed: World) -> None:
    world = indexed
    document = world.one("SELECT id FROM documents WHERE source_key = 'secret.md'")
    source = get_source(world.connection, "docs").id
    (world.folder / "docs" / "secret.md").unlink()
    world.fill()
    world.connection.execute("DELETE FROM former_texts")
    world.connection.execute("DELETE FROM former_raw")
    assert find_document_id(world.connection, source, "secret.md") == document
    assert locate_document(world.connection, document) == ("docs", "secret.md")
    with world.postgres.writer("docs") as writer, writer.transaction() as connection:
        request_erasure(connection, "docs", source, "secret.md", document)
    receipt = finish_forgetting(world, "secret.md")
    assert receipt["verified"] and receipt["places"]["history"]["removed"] == 2
    assert not any(b"treasure" in data for data in raw_bytes(world))


def test_the_job_does_not_retry_an_error_that_would_repeat(world: World) -> None:
    result = world.run("forget_documents", "unknown", raise_on_error=False)
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert "Source unknown was removed" in str(failed.step_failure_data.user_failure_data)
    assert not any(event.is_step_up_for_retry for event in result.all_events)
