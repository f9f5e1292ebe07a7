"""The pipeline as a user sees it: files change, a sync runs, and PostgreSQL and Milvus contain the same."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.support.stored import assert_consistent
from tests.support.texts import ENGLISH, JAPANESE, PERSIAN, long_text
from tests.support.world import World

ASSETS = {
    "source_documents",
    "documents",
    "document_chunks",
    "chunk_embeddings",
    "dense_vectors",
    "sparse_vectors",
    "multi_vectors",
}


def test_the_first_sync_indexes_everything_and_the_second_does_nothing(world: World) -> None:
    world.write(
        {
            "en/hours.md": ENGLISH,
            "ja/hours.md": JAPANESE,
            "fa/hours.md": PERSIAN,
            "en/long.md": long_text("a"),
        }
    )
    world.add()
    first = world.fill()
    assert set(first) == ASSETS
    chunks = world.one("SELECT count(*) FROM document_chunks")
    texts = world.one("SELECT count(DISTINCT text_hash) FROM document_chunks")
    assert first["source_documents"] == {
        "inserted": 4,
        "replaced": 0,
        "deleted": 0,
        "kept": 0,
        "failed": 0,
    }
    assert first["documents"]["inserted"] == 4
    assert first["document_chunks"]["inserted"] == first["dense_vectors"]["inserted"] == chunks
    assert first["chunk_embeddings"]["inserted"] == texts
    languages = dict(
        world.connection.execute("SELECT source_key, language FROM documents").fetchall()
    )
    assert languages == {
        "en/hours.md": "en",
        "ja/hours.md": "ja",
        "fa/hours.md": "fa",
        "en/long.md": "en",
    }
    assert_consistent(world)

    for asset, plan in world.fill().items():
        assert plan["inserted"] == plan["replaced"] == plan["deleted"] == plan["failed"] == 0, asset


def test_edits_deletions_and_renames_reach_milvus(world: World) -> None:
    root = world.write({f"{n}.md": long_text(f"town {n}", 8) for n in range(6)})
    world.add()
    world.fill()
    (root / "0.md").write_text(
        long_text("town 0", 8) + "\n\nA last paragraph, added later, about the ferry.\n"
    )
    (root / "1.md").unlink()
    (root / "2.md").rename(root / "moved.md")

    plan = world.fill()
    assert plan["source_documents"] == {
        "inserted": 1,
        "replaced": 1,
        "deleted": 2,
        "kept": 3,
        "failed": 0,
    }
    assert plan["documents"] == {"inserted": 1, "replaced": 1, "deleted": 2, "kept": 3, "failed": 0}
    # Only the edit: a renamed text is embedded already.
    assert 1 <= plan["chunk_embeddings"]["inserted"] <= 2
    assert plan["dense_vectors"]["deleted"] == plan["sparse_vectors"]["deleted"] > 0
    assert_consistent(world)
    hits = world.search("town 1", k=20, filters={"source": "docs"})
    assert hits
    assert all(hit.key not in ("1.md", "2.md") for hit in hits)


def test_touching_a_file_embeds_and_writes_nothing(world: World) -> None:
    root = world.write({"a.md": ENGLISH})
    world.add()
    world.fill()
    (root / "a.md").touch()
    (root / "a.md").write_text(ENGLISH)
    plan = world.fill()
    assert plan["source_documents"]["kept"] == 1
    assert all(not p["inserted"] and not p["replaced"] and not p["deleted"] for p in plan.values())


def test_a_reverted_edit_embeds_nothing_and_deletes_no_live_row(world: World) -> None:
    root = world.write({"a.md": ENGLISH})
    world.add()
    world.fill()
    (root / "a.md").write_text(ENGLISH.replace("nine", "eight"))
    assert world.fill()["chunk_embeddings"]["inserted"] == 1
    (root / "a.md").write_text(ENGLISH)
    plan = world.fill()
    assert plan["chunk_embeddings"]["inserted"] == 0
    assert plan["dense_vectors"]["inserted"] == 1
    assert_consistent(world)


def test_a_chunk_that_returns_before_its_deletion_is_drained_stays(world: World) -> None:
    root = world.write({"a.md": ENGLISH})
    world.add()
    world.fill()
    # The same chunk is made again: its id waits in the outbox and is live.
    world.connection.execute("DELETE FROM document_chunks")
    world.connection.execute("UPDATE documents SET chunker_fingerprint = NULL")
    assert world.one("SELECT count(*) FROM vector_deletions WHERE kind = 'dense'") == 1
    plan = world.fill()
    assert plan["dense_vectors"] == {
        "inserted": 1,
        "replaced": 0,
        "deleted": 0,
        "kept": 0,
        "failed": 0,
    }
    assert_consistent(world)
    assert root.exists()


def test_a_document_deleted_in_sql_leaves_milvus_and_stays_away(world: World) -> None:
    root = world.write({"a.md": ENGLISH, "b.md": JAPANESE})
    world.add()
    world.fill()
    world.connection.execute("DELETE FROM documents WHERE source_key = 'a.md'")
    # Before any sync the vectors still exist, but a search does not return them.
    assert all(hit.key != "a.md" for hit in world.search("observatory opens at nine", k=10))
    plan = world.fill()
    assert plan["dense_vectors"]["deleted"] == 1
    assert plan["documents"]["inserted"] == 0
    assert_consistent(world)
    (root / "a.md").write_text(ENGLISH + "\nNew: a café.\n")
    assert world.fill()["documents"]["inserted"] == 1
    assert_consistent(world)


def test_a_document_edited_in_sql_is_indexed_again_and_the_edit_of_a_chunk_is_rejected(
    world: World,
) -> None:
    world.write({"a.md": ENGLISH})
    world.add()
    world.fill()
    with pytest.raises(psycopg.errors.RaiseException, match="edit that"):
        world.connection.execute("UPDATE document_chunks SET content = 'Another text.'")
    world.connection.execute("UPDATE documents SET content = %s", [JAPANESE])
    plan = world.fill()
    assert plan["documents"]["replaced"] == 0 and plan["dense_vectors"]["inserted"] == 1
    assert "午前九時" in world.search("天文台", k=1)[0].content
    assert_consistent(world)


def test_unreadable_documents_are_recorded_and_the_others_are_indexed(world: World) -> None:
    world.write(
        {
            "good.md": f"---\ntags: [{', '.join(f't{n}' for n in range(70))}]\n---\n{ENGLISH}",
            "broken.pdf": b"%PDF-1.7 nothing more",
            "empty.md": "",
            "picture.png": b"\x89PNG\r\n\x1a\n0",
        }
    )
    world.add()
    plan = world.fill()
    assert plan["documents"] == {"inserted": 1, "replaced": 0, "deleted": 0, "kept": 0, "failed": 3}
    reasons = dict(
        world.connection.execute(
            "SELECT source_key, error_message FROM documents WHERE processing_status = 'failed'"
        ).fetchall()
    )
    assert set(reasons) == {"broken.pdf", "empty.md", "picture.png"}
    assert all(reason and "\n" not in reason for reason in reasons.values())
    left_out = "SELECT metadata->'left_out' FROM documents WHERE source_key = 'good.md'"
    assert world.one(left_out) == ["6 of 70 tags from filters, which compare the first 64"]
    assert_consistent(world)
    # Not tried again before the file changes.
    assert world.fill()["documents"]["failed"] == 0


def test_a_document_that_breaks_keeps_its_last_good_text(world: World) -> None:
    root = world.write(
        {"a.html": "<h1>Hours</h1><p>The observatory opens at nine in the morning every day.</p>"}
    )
    world.add()
    world.fill()
    (root / "a.html").write_bytes(b"")
    assert world.fill()["documents"]["failed"] == 1
    assert world.one("SELECT processing_status FROM documents") == "failed"
    assert world.search("observatory opens", k=1)[0].key == "a.html"
    assert_consistent(world)


def test_a_changed_scalar_is_rewritten_without_a_model_call(world: World) -> None:
    world.write({"a.md": ENGLISH})
    world.add()
    world.fill()
    world.connection.execute("UPDATE documents SET language = 'de'")
    plan = world.fill()
    assert plan["chunk_embeddings"]["inserted"] == 0
    assert plan["dense_vectors"]["replaced"] == plan["sparse_vectors"]["replaced"] == 1
    assert world.search("observatory", k=1, filters={"language": "de"})
    assert_consistent(world)


def test_equal_texts_in_two_sources_are_embedded_once(world: World) -> None:
    world.write({"a.md": long_text("x", 6)}, "docs")
    world.write({"b.md": long_text("x", 6)}, "more")
    world.add("docs")
    world.add("more")
    world.fill("docs")
    plan = world.fill("more")
    assert plan["chunk_embeddings"]["inserted"] == 0
    assert (
        plan["dense_vectors"]["inserted"] == world.one("SELECT count(*) FROM document_chunks") / 2
    )
    assert_consistent(world)


def test_equal_keys_in_two_sources_are_two_documents(world: World) -> None:
    world.write({"README.md": ENGLISH}, "docs")
    world.write({"README.md": JAPANESE}, "more")
    world.add("docs")
    world.add("more")
    world.fill("docs")
    world.fill("more")
    assert world.one("SELECT count(*) FROM documents") == 2
    assert_consistent(world)


def test_a_removed_source_leaves_nothing_behind(world: World) -> None:
    world.write({"a.md": long_text("x", 6)}, "docs")
    world.write({"b.md": ENGLISH}, "more")
    world.add("docs")
    world.add("more")
    world.fill("docs")
    world.fill("more")
    world.connection.execute("DELETE FROM sources WHERE name = 'more'")
    assert all(hit.source == "docs" for hit in world.search("observatory opens at nine", k=10))
    world.run("purge_removed_sources", None)
    assert_consistent(world)


def test_multi_vectors_are_one_row_per_token_and_leave_with_their_chunk(world: World) -> None:
    world = world.configured(vectors=("dense", "sparse", "multi"))
    root = world.write({"a.md": ENGLISH, "b.md": JAPANESE})
    world.add()
    world.fill()
    assert_consistent(world, ("dense", "sparse", "multi"))
    assert world.search("when does the observatory open", k=1, mode="multi")[0].key == "a.md"
    (root / "a.md").unlink()
    world.fill()
    assert_consistent(world, ("dense", "sparse", "multi"))


def test_adding_a_kind_later_fills_it(world: World) -> None:
    world.write({"a.md": long_text("x", 6)})
    world.add()
    world.configured(vectors=("dense",)).fill()
    plan = world.fill()
    assert plan["dense_vectors"]["inserted"] == plan["dense_vectors"]["replaced"] == 0
    assert plan["sparse_vectors"]["inserted"] > 0
    assert_consistent(world)


def test_a_lost_collection_is_filled_again_from_parquet(world: World) -> None:
    world.write({"a.md": long_text("x", 6)})
    world.add()
    world.fill()
    store = world.store
    name = store.alias_target("dense") or ""
    store.client.drop_alias("dense_collection")
    store.drop_collection(name)
    assert "dense_vectors_match_postgres" in world.failed_checks()
    plan = world.fill()
    assert plan["chunk_embeddings"]["inserted"] == 0
    assert plan["dense_vectors"]["inserted"] == world.one("SELECT count(*) FROM document_chunks")
    assert_consistent(world)


def test_lost_parquet_files_are_embedded_again_when_they_are_needed(
    world: World, tmp_path: Path
) -> None:
    world.write({"a.md": long_text("x", 6)})
    world.add()
    world.fill()
    for path in (tmp_path / "storage" / "embeddings").rglob("*.parquet"):
        path.unlink()
    world.connection.execute("UPDATE documents SET language = 'de'")
    plan = world.fill()
    assert plan["chunk_embeddings"]["inserted"] > 0
    assert_consistent(world)


def test_lost_raw_files_are_fetched_again(world: World, tmp_path: Path) -> None:
    world.write({"a.md": ENGLISH})
    world.add()
    world.fill()
    for path in (tmp_path / "storage" / "raw").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    world.connection.execute("UPDATE documents SET parser_fingerprint = 'old'")
    plan = world.fill()
    assert plan["documents"] == {"inserted": 0, "replaced": 1, "deleted": 0, "kept": 0, "failed": 0}
    assert_consistent(world)


def test_a_text_that_cannot_be_embedded_fails_alone(world: World) -> None:
    world = world.configured(embedder="tests.support.embedders:RefusingEmbedder")
    world.write(
        {"good.md": ENGLISH, "bad.md": "# Bad\n\nThis one says REFUSE in the middle of its text.\n"}
    )
    world.add()
    plan = world.fill()
    assert plan["chunk_embeddings"]["failed"] == 1
    assert (
        world.one("SELECT indexing_status FROM documents WHERE source_key = 'bad.md'") == "failed"
    )
    assert "refused" in world.one(
        "SELECT embedding_error FROM document_chunks WHERE embedding_status = 'failed'"
    )
    assert (
        world.one("SELECT indexing_status FROM documents WHERE source_key = 'good.md'")
        == "completed"
    )
    # Another model embeds the text. The chunk is not complete before its last kind, but nothing of it failed.
    world = world.configured(embedder="tests.support.embedders:OtherEmbedder")
    plan = world.fill()
    assert plan["dense_vectors"]["inserted"] == plan["sparse_vectors"]["inserted"] > 1
    for asset in ("dense_vectors", "sparse_vectors"):
        assert plan[asset]["failed"] == plan[asset]["kept"] == 0
    world.publish()
    assert_consistent(world)


def test_milvus_has_the_language_of_a_chunk_that_differs_from_its_document(world: World) -> None:
    mixed = long_text("mixed") + "\n\n# 日本語\n\n" + JAPANESE.split("\n\n", 1)[1] * 20
    world.write({"mixed.md": mixed, "en.md": ENGLISH})
    world.add()
    world.fill()
    languages = world.connection.execute(
        """SELECT DISTINCT d.source_key, d.language, c.language FROM document_chunks c
           JOIN documents d ON d.id = c.document_id ORDER BY 1, 2, 3"""
    ).fetchall()
    assert languages == [("en.md", "en", None), ("mixed.md", "en", "ja"), ("mixed.md", "en", None)]
    hits = world.search("天文台は何時に開館しますか", k=3, filters={"language": "ja"})
    assert hits and {hit.key for hit in hits} == {"mixed.md"}
    assert {hit.language for hit in hits} == {"ja"}
    assert_consistent(world)


def test_chunks_of_a_pdf_have_their_page(world: World, shared_data: Path) -> None:
    name = "docling__multi_page.pdf"
    world.write({name: (shared_data / "corpora/office-pdf-mixed/pdf" / name).read_bytes()})
    world.add()
    world.fill()
    pages = world.connection.execute(
        "SELECT page, content FROM document_chunks ORDER BY position"
    ).fetchall()
    assert [page for page, _ in pages] == sorted(page for page, _ in pages)
    assert {page for page, _ in pages} >= {1, 2, 3, 4}
    page, content = pages[-1]
    hits = world.search(content, k=3)
    assert hits[0].content == content and hits[0].page == page == hits[0].as_dict()["page"]
    assert_consistent(world)


def test_each_file_of_a_real_mixed_corpus_is_read_or_fails_with_a_reason(
    world: World, shared_data: Path
) -> None:
    root = shared_data / "corpora/office-pdf-mixed"
    paths = sorted(path for path in root.rglob("*.*") if path.is_file())[::3]
    files = {str(path.relative_to(root)): path.read_bytes() for path in paths}
    world.write(files)
    world.add()
    plan = world.fill()["documents"]
    assert plan["inserted"] + plan["failed"] == len(files)
    # Of all 332 files, 17 fail.
    assert plan["failed"] <= 7 and len(files) == 111
    assert (
        world.one(
            "SELECT count(*) FROM documents WHERE processing_status = 'failed' AND error_message IS NULL"
        )
        == 0
    )
    assert_consistent(world)
