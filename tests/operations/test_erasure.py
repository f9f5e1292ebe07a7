"""Provable deletion: what a forgotten document leaves, read from each store by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rag_assets.evaluation.known_items import build_set
from rag_assets.ingestion.stage import Stage
from rag_assets.operations.erasure import forget
from rag_assets.pipeline.retrieval_sets import Judgement
from resources.postgres.documents.erasures import (
    find_document_id,
    find_erasure,
    key_hash,
    locate_document,
    request_erasure,
    withdraw_erasure,
)
from resources.postgres.evaluation.retrieval_sets import add_set
from resources.postgres.registry.sources import get_source
from tests.support.world import World
from tests.support.oracle import disagreements

SECRET = "The treasure of the observatory is buried under the third oak behind the dome."
SHARED = "This page is published under the licence of the observatory and may be copied by anyone."


def filler(topic: str) -> str:
    return f"Everything about {topic}: " + f"{topic} is a matter of its own. " * 30


def secret(version: str) -> str:
    """A section of its own, and one that other.md has too."""
    own = f"# Treasure\n\n{version} version. {SECRET}\n\n{filler('treasure')}"
    return f"{own}\n\n# Licence\n\n{SHARED}\n\n{filler('oaks')}"


def ask(world: World, key: str) -> None:
    with world.postgres.writer("docs") as writer, writer.transaction() as connection:
        source = get_source(connection, "docs")
        document = world.one("SELECT id FROM documents WHERE source_key = %s", key)
        request_erasure(connection, "docs", source.id, key, document)


def finish(world: World, key: str) -> dict[str, Any]:
    """As the job does it."""
    with world.postgres.writer("docs") as writer:
        stage = Stage("forget", get_source(writer.connection, "docs"), writer, None)  # pyright: ignore
        item = find_erasure(writer.connection, "docs", key_hash(key))
        assert item is not None
        return forget(stage, world.store, world.resources["storage"].open(), item)


def stored_texts(world: World) -> set[str]:
    files = Path(world.settings.storage_url).glob("embeddings/**/*.parquet")
    return {
        text
        for file in files
        for text in pq.read_table(file, columns=["text_hash"])["text_hash"].to_pylist()
    }


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
    world.sync()
    world.write(
        {
            "secret.md": secret("Second"),
        }
    )
    world.sync()
    return world


def test_no_retrieval_set_asks_for_a_forgotten_document(indexed: World) -> None:
    """A known item's question is a sentence of it. A question that another document answers too is kept."""
    world = indexed
    build_set(world.connection, "known", "docs", 50)
    judgements = [Judgement("both", key, 1) for key in ("secret.md", "other.md")]
    source = get_source(world.connection, "docs")
    add_set(world.connection, "files", source, {"both": "What is the licence?"}, judgements)
    asked = "SELECT count(*) FROM retrieval_queries WHERE strpos(text, 'treasure') > 0"
    assert world.one(asked) > 0
    ask(world, "secret.md")
    assert finish(world, "secret.md")["verified"]
    assert world.one(asked) == 0
    left = world.connection.execute(
        "SELECT DISTINCT document_key FROM retrieval_judgements WHERE document_key <> 'third.md'"
    )
    assert left.fetchall() == [("other.md",)]
    assert world.one("SELECT count(*) FROM retrieval_queries WHERE query_id = 'both'") == 1


def test_a_forgotten_document_is_in_no_store(indexed: World) -> None:
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
    before = stored_texts(world)
    assert own and own < before and any(b"First version" in data for data in raw_bytes(world))
    ask(world, "secret.md")
    receipt = finish(world, "secret.md")
    assert receipt["verified"], receipt
    assert not stored_texts(world) & own
    remaining = {
        row[0] for row in world.connection.execute("SELECT text_hash::text FROM document_chunks")
    }
    assert (
        stored_texts(world) == remaining
    )  # the first version's texts are gone, too; those of others are not
    assert not any(b"treasure" in data for data in raw_bytes(world))
    client = world.store.client
    for name in client.list_collections():
        rows = client.query(name, filter=f'document_id == "{document}"', output_fields=["id"])
        assert not list(rows)
    assert not world.one("SELECT count(*) FROM document_chunks WHERE content LIKE %s", "%treasure%")
    assert disagreements(world.settings.postgres_url, world.settings.milvus_uri) == []
    assert all(
        "treasure" not in hit.content for hit in world.search("treasure under the oak")
    )
    assert not world.failed_checks()


def test_no_sync_brings_it_back_until_that_is_asked_for(indexed: World) -> None:
    ask(indexed, "secret.md")
    finish(indexed, "secret.md")
    indexed.sync()
    indexed.write({"secret.md": f"Third version. {SECRET}"})
    indexed.sync()
    assert not indexed.one("SELECT count(*) FROM documents WHERE source_key = 'secret.md'")
    assert not indexed.one("SELECT count(*) FROM source_entries WHERE key = 'secret.md'")
    with indexed.postgres.writer("docs") as writer, writer.transaction() as connection:
        withdraw_erasure(connection, "docs", key_hash("secret.md"))
    indexed.sync()
    assert indexed.search("treasure", k=1)[0].key == "secret.md"


def test_what_others_have_too_stays_and_is_not_embedded_again(indexed: World) -> None:
    ask(indexed, "secret.md")
    receipt = finish(indexed, "secret.md")
    assert "other documents hold them too" in receipt["places"]["parquet"]["note"]
    assert indexed.sync()["chunk_embeddings"]["inserted"] == 0
    assert indexed.search("licence of the observatory", k=1)[0].key == "other.md"


def test_asking_again_finishes_what_was_interrupted_and_then_finds_nothing(indexed: World) -> None:
    ask(indexed, "secret.md")  # and the process died
    indexed.sync()  # drains what it can, brings nothing back
    assert finish(indexed, "secret.md")["verified"]
    again = finish(indexed, "secret.md")
    assert again["verified"] and all(place["left"] == 0 for place in again["places"].values())
    assert again["places"]["parquet"]["removed"] == 0


def test_asking_again_for_a_document_without_chunks_finishes_it_too(world: World) -> None:
    world.write({"broken.pdf": b"%PDF-1.7 nothing more", "good.md": filler("oaks")})
    world.add()
    world.sync()
    document = world.one("SELECT id FROM documents WHERE source_key = 'broken.pdf'")
    for _ in range(2):  # and the process died after the first time
        with world.postgres.writer("docs") as writer, writer.transaction() as connection:
            source = get_source(connection, "docs")
            request_erasure(connection, "docs", source.id, "broken.pdf", document)
    assert finish(world, "broken.pdf")["verified"]


def test_the_receipt_holds_no_text_and_no_key(indexed: World) -> None:
    ask(indexed, "secret.md")
    assert "secret" not in str(finish(indexed, "secret.md")).lower()
    stored = str(indexed.one("SELECT receipt::text FROM forgotten"))
    assert "verified" in stored and "secret" not in stored and "treasure" not in stored.lower()


def test_a_file_that_nobody_recorded_leaves_unless_another_source_may_be_writing_it(
    indexed: World,
) -> None:
    path = Path(indexed.settings.storage_url) / "embeddings" / "half.parquet.1234abcd.tmp"
    path.write_bytes(b"PAR1 and then the process was killed")
    raw = Path(indexed.settings.storage_url) / "raw" / "ab" / ("ab" * 32)
    raw.parent.mkdir(exist_ok=True)
    raw.write_text(secret("Never recorded"))  # and changed before the next sync
    ask(indexed, "secret.md")
    with indexed.postgres.writer("another"):
        receipt = finish(indexed, "secret.md")
        assert not receipt["verified"] and "cannot be read" in receipt["places"]["parquet"]["note"]
        assert "not recorded yet" in receipt["places"]["raw"]["note"]
        assert path.exists() and raw.exists()
    assert finish(indexed, "secret.md")["verified"] and not path.exists() and not raw.exists()


def versions(world: World, key: str) -> int:
    return world.one("SELECT count(*) FROM document_versions WHERE source_key = %s", key)


def test_its_versions_go_too_from_every_month(indexed: World) -> None:
    world = indexed
    world.connection.execute("UPDATE documents SET title = 'Oaks' WHERE source_key = 'other.md'")
    world.connection.execute(
        """INSERT INTO document_versions SELECT (jsonb_populate_record(v, '{"valid_to": "2001-05-31"}')).*
           FROM document_versions v WHERE source_key = 'secret.md'"""
    )
    assert world.one("SELECT count(*) FROM document_versions_default") == 1
    assert versions(world, "secret.md") == 2
    ask(world, "secret.md")  # which appends a third, as every deletion does
    receipt = finish(world, "secret.md")
    assert receipt["verified"]
    history = receipt["places"]["history"]
    assert (history["removed"], history["left"]) == (3, 0)
    assert "document_versions" in history["looked_for"]
    assert (versions(world, "secret.md"), versions(world, "other.md")) == (0, 1)
    world.sync()
    assert versions(world, "secret.md") == 0


def test_a_version_that_is_left_keeps_the_receipt_from_being_verified(indexed: World) -> None:
    indexed.connection.execute(
        """CREATE FUNCTION kept() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
           CREATE TRIGGER kept BEFORE DELETE ON document_versions FOR EACH ROW EXECUTE FUNCTION kept()"""
    )
    try:
        ask(indexed, "secret.md")
        receipt = finish(indexed, "secret.md")
    finally:
        indexed.connection.execute("DROP FUNCTION kept CASCADE")
    assert not receipt["verified"] and receipt["places"]["history"]["left"] == 2
    assert finish(indexed, "secret.md")["verified"] and not versions(indexed, "secret.md")


def test_a_document_of_which_only_versions_are_left_can_be_forgotten(indexed: World) -> None:
    world, document = (
        indexed,
        indexed.one("SELECT id FROM documents WHERE source_key = 'secret.md'"),
    )
    source = get_source(world.connection, "docs").id
    (world.folder / "docs" / "secret.md").unlink()
    world.sync()
    world.connection.execute("DELETE FROM former_texts")
    world.connection.execute("DELETE FROM former_raw")
    assert find_document_id(world.connection, source, "secret.md") == document
    assert locate_document(world.connection, document) == ("docs", "secret.md")
    with world.postgres.writer("docs") as writer, writer.transaction() as connection:
        request_erasure(connection, "docs", source, "secret.md", document)
    receipt = finish(world, "secret.md")
    assert receipt["verified"] and receipt["places"]["history"]["removed"] == 2
    assert not any(b"treasure" in data for data in raw_bytes(world))


def test_the_job_retries_only_what_may_go_away_by_itself(world: World) -> None:
    ended = world.run("forget_documents", "unknown", raise_on_error=False)
    (failed,) = [event for event in ended.all_events if event.is_step_failure]
    assert "There is no source 'unknown'" in str(failed.step_failure_data.user_failure_data)
    assert not any(event.is_step_up_for_retry for event in ended.all_events)
