"""The life of a document as `rag explain` tells it, on real stores."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rag_assets.deployment import Deployment
from rag_assets.operations.lineage import explain, explain_at
from resources.errors import ConfigError
from resources.files import raw_name
from resources.parsing import PARSER_VERSION
from resources.postgres.documents.erasures import request_erasure
from resources.postgres.registry.sources import get_source
from tests.support.world import World

ENGLISH = "# Hours\n\nThe observatory opens at nine in the morning and closes at ten at night.\n"
JAPANESE = (
    "\n\n# 日本語\n\n" + "天文台は午前九時に開館し、夜十時に閉館します。月曜日は休館日です。" * 40
)


def deployment(world: World) -> Deployment:
    found = Deployment(world.settings)
    found.instance = world.instance  # pyright: ignore[reportAttributeAccessIssue]
    return found


def told(world: World, asked: str = "a.md", source: str | None = None) -> dict[str, Any]:
    return explain(deployment(world), asked, source)


def was(world: World, moment: datetime, asked: str = "a.md") -> dict[str, Any]:
    return explain_at(deployment(world), asked, None, moment)


@pytest.fixture
def life(world: World) -> World:
    world.write({"a.md": ENGLISH * 12 + JAPANESE, "b.txt": ENGLISH.encode("utf-16")})
    world.add()
    return world


def test_everything_is_told_from_the_entry_to_the_vectors(life: World) -> None:
    run = life.run("sync_source").run_id
    found = told(life)
    digest = life.one("SELECT content_hash FROM source_entries WHERE key = 'a.md'")
    size = len((ENGLISH * 12 + JAPANESE).encode())
    assert (found["key"], found["source"]) == ("a.md", "docs")
    assert found["state"] == "current and searchable"
    assert (found["entry"]["locator"], found["entry"]["content_hash"]) == ("a.md", digest)
    assert found["raw"] == {"file": raw_name(digest), "bytes": size}
    reading = found["reading"]
    assert (reading["format"], reading["encoding"], reading["ocr"]) == ("Markdown", "utf-8", False)
    assert (reading["reader"], reading["parser"]) == ("built in", PARSER_VERSION)
    chunks = found["chunks"]
    assert [chunk["position"] for chunk in chunks] == list(range(len(chunks)))
    assert {chunk["language"] for chunk in chunks} == {"en", "ja"}
    assert all(chunk["embedded_run"] == run and chunk["embedding_file"] for chunk in chunks)
    kinds = {name.split("_")[0]: facts for name, facts in found["vectors"].items()}
    assert set(kinds) == {"dense", "sparse"}
    for facts in kinds.values():
        counts = (facts["chunks"], facts["acknowledged"], facts["rows"], facts["right"])
        assert counts == (len(chunks),) * 4
    (only,) = found["runs"]
    assert (only["run_id"], only["job"], only["status"]) == (run, "sync_source", "SUCCESS")
    did = ["fetched", "parsed version 1", "chunked version 1", "embedded", "indexed version 1"]
    assert only["did"] == did
    by_id = told(life, found["document_id"].hex)
    assert (by_id["key"], by_id["vectors"]) == ("a.md", found["vectors"])
    assert told(life, "docs/a.md")["document_id"] == found["document_id"]
    assert told(life, "b.txt")["reading"]["encoding"] == "utf-16"


def test_pages_and_the_reader_of_a_pdf_are_told(world: World, shared_data: Any) -> None:
    pdf = shared_data / "corpora/office-pdf-mixed/pdf/docling__multi_page.pdf"
    world.write({"a.pdf": pdf.read_bytes()})
    world.add()
    world.sync()
    found = told(world, "a.pdf")
    assert (found["reading"]["reader"], found["reading"]["encoding"]) == ("kreuzberg", None)
    assert found["reading"]["pages"] >= max(chunk["page"] for chunk in found["chunks"]) >= 4


def test_what_milvus_does_not_hold_is_told(life: World) -> None:
    life.sync()
    chunk = life.one("SELECT id::text FROM document_chunks WHERE position = 0 AND language IS NULL")
    document = life.one("SELECT document_id FROM document_chunks WHERE id = %s", chunk)
    name = life.one("SELECT name FROM vector_collections WHERE kind = 'dense'")
    life.store.delete_ids(name, [f"{chunk}_dense"])
    found = told(life, str(document))
    facts = found["vectors"][name]
    assert facts["rows"] == facts["right"] == facts["wanted"] - 1
    assert "Milvus does not hold" in found["state"]


def test_states_are_named(life: World) -> None:
    root = life.write({"pic.png": b"\x89PNG\r\n\x1a\n"})
    life.sync()
    assert "images are not read" in told(life, "pic.png")["state"]
    (root / "a.md").write_text(ENGLISH.replace("nine", "eight"))
    life.run("sync_source", ops={"documents": {}}, raise_on_error=False)
    life.connection.execute(
        "UPDATE documents SET raw_hash = repeat('0', 64) WHERE source_key = 'a.md'"
    )
    assert "the next sync takes it up" in told(life)["state"]
    life.connection.execute("DELETE FROM documents WHERE source_key = 'b.txt'")
    assert "deleted by hand" in told(life, "b.txt")["state"]
    (root / "a.md").unlink()
    life.sync()
    gone = told(life)
    assert gone["state"].startswith("deleted at ") and gone["document"] is gone["entry"] is None
    assert [version["ended_by"] for version in gone["versions"]][-1] == "deleted"


def test_a_document_is_told_as_it_was_at_a_moment(life: World) -> None:
    before = datetime.now(UTC)
    life.sync()
    first = datetime.now(UTC)
    root = life.write({"a.md": ENGLISH.replace("nine", "eight")})
    run = life.run("sync_source").run_id
    second = datetime.now(UTC)
    (root / "a.md").unlink()
    life.sync()
    one, two = was(life, first), was(life, second)
    assert "nine" in one["document"]["content"] and "eight" in two["document"]["content"]
    assert (one["document"]["version"], one["ended_by"]) == (1, "replaced")
    assert (two["document"]["version"], two["ended_by"]) == (2, "deleted")
    assert one["runs"][-1]["run_id"] == run and one["runs"][-1]["did"] == ["replaced version 1"]
    current = was(life, second, "b.txt")
    assert (current["valid_to"], current["document"]["version"]) == (None, 1)
    for moment in (before, datetime.now(UTC)):
        with pytest.raises(ConfigError, match=r"a\.md was not there .* Known: \d{4}-.*; \d{4}-"):
            was(life, moment)
    with pytest.raises(ConfigError, match="still to come"):
        was(life, datetime.now(UTC) + timedelta(hours=1))


def test_what_was_forgotten_is_told_by_its_key_and_nothing_else(life: World) -> None:
    life.sync()
    moment = datetime.now(UTC)
    found = told(life)
    with life.postgres.writer("docs") as writer, writer.transaction() as connection:
        source = get_source(connection, "docs").id
        request_erasure(connection, "docs", source, "a.md", found["document_id"])
    life.connection.execute("DELETE FROM document_versions")
    for asked in ("a.md", "docs/a.md", str(found["document_id"])):
        forgotten = told(life, asked)
        assert forgotten["state"].startswith("forgotten on purpose")
        assert not forgotten["versions"] and not forgotten["chunks"]
    with pytest.raises(ConfigError, match="forgotten on purpose"):
        was(life, moment)


def test_what_cannot_be_meant_is_said_with_what_could_be(life: World) -> None:
    life.write({"a.md": ENGLISH}, "more")
    life.add("more")
    life.sync()
    life.sync("more")
    with pytest.raises(ConfigError, match="the key of 2 documents") as several:
        told(life)
    ids = life.connection.execute("SELECT id FROM documents WHERE source_key = 'a.md'").fetchall()
    assert all(f"rag explain {document}" in str(several.value) for (document,) in ids)
    assert told(life, source="more")["source"] == "more"
    with pytest.raises(ConfigError, match=r"Perhaps: docs/b\.txt"):
        told(life, "b.text")
    with pytest.raises(ConfigError, match=r"key or id '[-0-9a-f]{36}'\.$"):
        told(life, str(uuid.uuid4()))
    with pytest.raises(ConfigError, match="no source 'nosuch'"):
        told(life, source="nosuch")
