"""The life of a document as `rag explain` shows it, on real stores."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rag_assets.deployment import Deployment
from rag_assets.operations.lineage import LineageContext, explain, explain_at
from rag_assets.pipeline.access import AccessScope
from resources.errors import ConfigError
from resources.files import raw_name
from resources.parsing import PARSER_VERSION
from resources.postgres.documents.erasures import request_erasure
from resources.postgres.registry.left_documents import record_left
from resources.postgres.registry.sources import get_source
from tests.support.world import World

ENGLISH = "# Hours\n\nThe observatory opens at nine in the morning and closes at ten at night.\n"
JAPANESE = (
    "\n\n# 日本語\n\n" + "天文台は午前九時に開館し、夜十時に閉館します。月曜日は休館日です。" * 40
)


def lineage(world: World) -> LineageContext:
    deployment = Deployment(world.settings)
    deployment.instance = world.instance  # pyright: ignore[reportAttributeAccessIssue]
    return deployment.lineage()


def explained(world: World, name: str = "a.md", source: str | None = None) -> dict[str, Any]:
    return explain(lineage(world), name, source, AccessScope.owner())


def explained_at(world: World, moment: datetime, name: str = "a.md") -> dict[str, Any]:
    return explain_at(lineage(world), name, None, moment, AccessScope.owner())


@pytest.fixture
def registered(world: World) -> World:
    world.write({"a.md": ENGLISH * 12 + JAPANESE, "b.txt": ENGLISH.encode("utf-16")})
    world.add()
    return world


def test_a_life_has_everything_from_the_entry_to_the_vectors(registered: World) -> None:
    run = registered.run("sync_source").run_id
    life = explained(registered)
    digest = registered.one("SELECT content_hash FROM source_entries WHERE key = 'a.md'")
    size = len((ENGLISH * 12 + JAPANESE).encode())
    assert (life["key"], life["source"]) == ("a.md", "docs")
    assert life["state"] == "current and searchable"
    assert (life["entry"]["locator"], life["entry"]["content_hash"]) == ("a.md", digest)
    assert life["raw"] == {"file": raw_name(digest), "bytes": size}
    reading = life["reading"]
    assert (reading["format"], reading["encoding"], reading["ocr"]) == ("Markdown", "utf-8", False)
    assert (reading["reader"], reading["parser"]) == ("built in", PARSER_VERSION)
    chunks = life["chunks"]
    assert [chunk["position"] for chunk in chunks] == list(range(len(chunks)))
    assert {chunk["language"] for chunk in chunks} == {"en", "ja"}
    assert all(chunk["embedded_run"] == run and chunk["embedding_file"] for chunk in chunks)
    kinds = {name.split("_")[0]: facts for name, facts in life["vectors"].items()}
    assert set(kinds) == {"dense", "sparse"}
    for facts in kinds.values():
        counts = (facts["chunks"], facts["acknowledged"], facts["rows"], facts["right"])
        assert counts == (len(chunks),) * 4
    (only,) = life["runs"]
    assert (only["run_id"], only["job"], only["status"]) == (run, "sync_source", "SUCCESS")
    did = ["fetched", "parsed version 1", "chunked version 1", "embedded", "indexed version 1"]
    assert only["did"] == did
    by_id = explained(registered, life["document_id"].hex)
    assert (by_id["key"], by_id["vectors"]) == ("a.md", life["vectors"])
    assert explained(registered, "docs/a.md")["document_id"] == life["document_id"]
    assert explained(registered, "b.txt")["reading"]["encoding"] == "utf-16"


def test_a_life_has_the_pages_and_the_reader_of_a_pdf(world: World, shared_data: Any) -> None:
    pdf = shared_data / "corpora/office-pdf-mixed/pdf/docling__multi_page.pdf"
    world.write({"a.pdf": pdf.read_bytes()})
    world.add()
    world.fill()
    life = explained(world, "a.pdf")
    assert (life["reading"]["reader"], life["reading"]["encoding"]) == ("kreuzberg", None)
    assert life["reading"]["pages"] >= max(chunk["page"] for chunk in life["chunks"]) >= 4


def test_a_kind_that_is_no_longer_kept_is_judged_as_the_checks_judge_it(world: World) -> None:
    root = world.write({"a.md": ENGLISH})
    world.add()
    world.configured(vectors=("dense", "sparse", "multi")).fill()
    (root / "b.md").write_text(ENGLISH.replace("nine", "eight"))
    world.fill()
    old, new = explained(world, "a.md"), explained(world, "b.md")
    assert old["state"] == new["state"] == "current and searchable"
    assert world.failed_checks() == {}
    name = world.one("SELECT name FROM vector_collections WHERE kind = 'multi'")
    assert not old["vectors"][name]["declared"] and new["vectors"][name]["wanted"] == 0
    assert old["vectors"][name]["wanted"] == old["vectors"][name]["right"] > 0
    # The rows that remain of it must still be right.
    chunk = world.one(
        "SELECT c.id::text FROM document_chunks c JOIN documents d ON d.id = c.document_id "
        "WHERE d.source_key = 'a.md'"
    )
    world.store.delete_ids(name, [f"{chunk}_multi_00000"])
    assert "differ" in explained(world, "a.md")["state"]
    world.connection.execute("UPDATE vector_rows SET acknowledged_at = now() - interval '1 minute'")
    assert list(world.failed_checks()) == ["multi_vectors_match_postgres"]


def test_states_are_named(registered: World) -> None:
    root = registered.write({"pic.png": b"\x89PNG\r\n\x1a\n"})
    registered.fill()
    assert "images are not read" in explained(registered, "pic.png")["state"]
    (root / "a.md").write_text(ENGLISH.replace("nine", "eight"))
    registered.fill()
    registered.connection.execute(
        "UPDATE documents SET raw_hash = repeat('0', 64) WHERE source_key = 'a.md'"
    )
    assert "the next sync takes it up" in explained(registered)["state"]
    registered.connection.execute("DELETE FROM documents WHERE source_key = 'b.txt'")
    assert "deleted by hand" in explained(registered, "b.txt")["state"]
    (root / "a.md").unlink()
    registered.fill()
    gone = explained(registered)
    assert gone["state"].startswith("deleted at ") and gone["document"] is gone["entry"] is None
    assert [version["ended_by"] for version in gone["versions"]][-1] == "deleted"


def test_a_document_that_is_left_damaged_or_forgotten_is_explained(registered: World) -> None:
    registered.fill()
    moment = datetime.now(UTC)
    # Left for the next sync.
    source = get_source(registered.connection, "docs").id
    open_elsewhere = "another process has it open for writing"
    record_left(registered.connection, source, [(k, open_elsewhere) for k in ("a.md", "new.md")])
    life, new = explained(registered, "docs/a.md"), explained(registered, "docs/new.md")
    assert life["state"] == (
        f"its source has another content, left for the next sync: {open_elsewhere}"
    )
    assert life["document"]["processing_status"] == "completed" and life["left"]["left_at"]
    assert new["state"] == f"listed, but left for the next sync: {open_elsewhere}"
    assert new["document"] is None and new["entry"] is None
    registered.fill()
    assert explained(registered, "docs/a.md")["state"] == "current and searchable"
    with pytest.raises(ConfigError, match=r"No document has the key or id 'new.md'"):
        explained(registered, "new.md")

    # Milvus lost a row.
    chunk = registered.one(
        "SELECT id::text FROM document_chunks WHERE position = 0 AND language IS NULL"
    )
    document = registered.one("SELECT document_id FROM document_chunks WHERE id = %s", chunk)
    name = registered.one("SELECT name FROM vector_collections WHERE kind = 'dense'")
    registered.store.delete_ids(name, [f"{chunk}_dense"])
    damaged = explained(registered, str(document))
    facts = damaged["vectors"][name]
    assert facts["rows"] == facts["right"] == facts["wanted"] - 1
    assert "rows in Milvus differ from PostgreSQL" in damaged["state"]
    assert damaged["state"].endswith("rag repair --source docs")

    # A forgotten document is known by its key only.
    with registered.postgres.writer("docs") as writer, writer.transaction() as connection:
        request_erasure(connection, "docs", source, "a.md", life["document_id"])
    registered.connection.execute("DELETE FROM document_versions")
    for name in ("a.md", "docs/a.md", str(life["document_id"])):
        forgotten = explained(registered, name)
        assert forgotten["state"].startswith("forgotten on purpose")
        assert not forgotten["versions"] and not forgotten["chunks"]
    with pytest.raises(ConfigError, match="forgotten on purpose"):
        explained_at(registered, moment)


def test_a_document_is_explained_as_it_was_at_a_moment(registered: World) -> None:
    before = datetime.now(UTC)
    registered.fill()
    first = datetime.now(UTC)
    root = registered.write({"a.md": ENGLISH.replace("nine", "eight")})
    run = registered.run("sync_source").run_id
    second = datetime.now(UTC)
    (root / "a.md").rename(root / "renamed.md")
    registered.fill()
    (same,) = explained(registered)["same_content"]
    assert (same["source"], same["key"]) == ("docs", "renamed.md")
    assert explained(registered)["state"].endswith("; the same content is now docs/renamed.md")
    one, two = explained_at(registered, first), explained_at(registered, second)
    assert "nine" in one["document"]["content"] and "eight" in two["document"]["content"]
    assert (one["document"]["version"], one["ended_by"]) == (1, "replaced")
    assert (two["document"]["version"], two["ended_by"]) == (2, "deleted")
    assert one["runs"][-1]["run_id"] == run and one["runs"][-1]["did"] == ["replaced version 1"]
    current = explained_at(registered, second, "b.txt")
    assert (current["valid_to"], current["document"]["version"]) == (None, 1)
    for moment in (before, datetime.now(UTC)):
        with pytest.raises(ConfigError, match=r"a\.md was not there .* Known: \d{4}-.*; \d{4}-"):
            explained_at(registered, moment)
    with pytest.raises(ConfigError, match="still to come"):
        explained_at(registered, datetime.now(UTC) + timedelta(hours=1))


def test_an_ambiguous_or_unknown_name_is_answered_with_suggestions(registered: World) -> None:
    registered.write({"a.md": ENGLISH}, "more")
    registered.add("more")
    registered.fill()
    registered.fill("more")
    with pytest.raises(ConfigError, match="the key of 2 documents") as several:
        explained(registered)
    ids = registered.connection.execute(
        "SELECT id FROM documents WHERE source_key = 'a.md'"
    ).fetchall()
    assert all(f"rag explain {document}" in str(several.value) for (document,) in ids)
    assert explained(registered, source="more")["source"] == "more"
    with pytest.raises(ConfigError, match=r"Perhaps: docs/b\.txt"):
        explained(registered, "b.text")
    with pytest.raises(ConfigError, match=r"key or id '[-0-9a-f]{36}'\.$"):
        explained(registered, str(uuid.uuid4()))
    with pytest.raises(ConfigError, match="There is no source 'nosuch'; known: docs, more"):
        explained(registered, source="nosuch")
