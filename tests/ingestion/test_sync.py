"""The pipeline as a user sees it: files change, a sync runs, and PostgreSQL and Milvus contain the same."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from rag_assets.ingestion.outbox import drain_removed_sources
from resources.postgres.documents.deferred_indexes import DEFERRED
from tests.support.extent import only_in_soak
from tests.support.stored import assert_consistent, assert_stores_match
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


def test_the_sync_after_an_interrupted_first_load_builds_its_indexes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> set[str]:
        return {
            name for name in DEFERRED if world.one("SELECT to_regclass(%s)::text", name) is None
        }

    world.write({"a.md": ENGLISH, "b.md": JAPANESE})
    world.add()
    with monkeypatch.context() as interrupted:
        # A batch for each document: a large load.
        interrupted.setattr("resources.postgres.documents.documents.BATCH_BYTES", 64 * 1024)
        interrupted.delattr("tests.support.stages.embed_texts")
        with pytest.raises(NameError):
            world.fill()
    assert missing() == set(DEFERRED)
    world.fill()
    assert missing() == set()
    assert_consistent(world)


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


def test_edits_in_sql_reach_milvus(world: World) -> None:
    root = world.write({"a.md": ENGLISH, "b.md": PERSIAN})
    world.add()
    world.fill()
    change = world.connection.execute
    # A scalar of the rows is written without a model call.
    change("UPDATE documents SET language = 'de' WHERE source_key = 'a.md'")
    plan = world.fill()
    assert plan["chunk_embeddings"]["inserted"] == 0
    assert plan["dense_vectors"]["replaced"] == plan["sparse_vectors"]["replaced"] == 1
    assert world.search("observatory", k=1, filters={"language": "de"})
    assert_stores_match(world)

    # An edited document is indexed again, and the edit of a chunk is rejected.
    with pytest.raises(psycopg.errors.RaiseException, match="edit that"):
        change("UPDATE document_chunks SET content = 'Another text.'")
    change("UPDATE documents SET content = %s WHERE source_key = 'a.md'", [JAPANESE])
    plan = world.fill()
    assert plan["documents"]["replaced"] == 0 and plan["dense_vectors"]["inserted"] == 1
    assert "午前九時" in world.search("天文台", k=1)[0].content
    assert_stores_match(world)

    # A chunk that is made again stays: its id waits in the outbox and is live.
    document = "(SELECT id FROM documents WHERE source_key = 'b.md')"
    change(f"DELETE FROM document_chunks WHERE document_id = {document}")
    change(f"UPDATE documents SET chunker_fingerprint = NULL WHERE id = {document}")
    assert world.one("SELECT count(*) FROM vector_deletions WHERE kind = 'dense'") == 1
    plan = world.fill()["dense_vectors"]
    assert plan == {"inserted": 1, "replaced": 0, "deleted": 0, "kept": 1, "failed": 0}
    assert_stores_match(world)

    # A deleted document leaves Milvus and stays away until its file changes.
    assert world.search("天文台", k=1)[0].key == "a.md"
    change("DELETE FROM documents WHERE source_key = 'a.md'")
    # Before any sync the vectors still exist, but a search does not return them.
    assert all(hit.key != "a.md" for hit in world.search("天文台", k=10))
    plan = world.fill()
    assert plan["dense_vectors"]["deleted"] == 1
    assert plan["documents"]["inserted"] == 0
    assert_stores_match(world)
    (root / "a.md").write_text(ENGLISH + "\nNew: a café.\n")
    assert world.fill()["documents"]["inserted"] == 1
    assert_consistent(world)


def test_unreadable_documents_are_recorded_and_keep_their_last_good_text(world: World) -> None:
    root = world.write(
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
    failed = "SELECT source_key, error_message FROM documents WHERE processing_status = 'failed'"
    reasons = dict(world.connection.execute(failed).fetchall())
    assert set(reasons) == {"broken.pdf", "empty.md", "picture.png"}
    assert all(reason and "\n" not in reason for reason in reasons.values())
    left_out = "SELECT metadata->'left_out' FROM documents WHERE source_key = 'good.md'"
    assert world.one(left_out) == ["6 of 70 tags from filters, which compare the first 64"]
    # Not tried again before the file changes.
    assert world.fill()["documents"]["failed"] == 0
    (root / "good.md").write_bytes(b"")
    assert world.fill()["documents"]["failed"] == 1
    assert "good.md" in dict(world.connection.execute(failed).fetchall())
    assert world.search("observatory opens", k=1)[0].key == "good.md"
    assert_consistent(world)


def test_sources_share_embeddings_but_no_documents(world: World) -> None:
    world.write({"a.md": long_text("x", 6), "README.md": ENGLISH}, "docs")
    world.write({"b.md": long_text("x", 6), "README.md": JAPANESE}, "more")
    for source in ("docs", "more"):
        world.add(source)
        plan = world.fill(source)
    # The text of one README: the other texts are embedded already.
    assert plan["chunk_embeddings"]["inserted"] == 1
    chunks = world.one("SELECT count(*) FROM document_chunks")
    assert plan["dense_vectors"]["inserted"] == chunks / 2
    assert world.one("SELECT count(*) FROM documents WHERE source_key = 'README.md'") == 2
    assert_consistent(world)
    # A removed source leaves nothing behind.
    world.connection.execute("DELETE FROM sources WHERE name = 'more'")
    hits = world.search("天文台 observatory opens at nine", k=10)
    assert hits and all(hit.source == "docs" for hit in hits)
    drain_removed_sources(world.postgres, world.store)
    assert_consistent(world)


def test_a_kind_that_is_added_later_is_filled(world: World) -> None:
    root = world.write({"a.md": ENGLISH, "b.md": JAPANESE})
    world.add()
    world.configured(vectors=("dense",)).fill()
    plan = world.fill()
    assert plan["dense_vectors"]["inserted"] == plan["dense_vectors"]["replaced"] == 0
    assert plan["sparse_vectors"]["inserted"] == 2
    assert_stores_match(world)
    # Multi-vectors are one row a token, and leave with their chunk.
    kinds = ("dense", "sparse", "multi")
    world = world.configured(vectors=kinds)
    world.fill()
    assert_consistent(world, kinds)
    assert world.search("when does the observatory open", k=1, mode="multi")[0].key == "a.md"
    (root / "a.md").unlink()
    world.fill()
    assert_stores_match(world, kinds)


def test_lost_collections_and_files_are_made_again(world: World) -> None:
    world.write({"a.md": long_text("x", 6)})
    world.add()
    world.fill()
    # A collection is filled from Parquet.
    store, storage = world.store, Path(world.settings.storage_url)
    name = store.alias_target("dense") or ""
    store.client.drop_alias("dense_collection")
    store.drop_collection(name)
    assert "dense_vectors_match_postgres" in world.failed_checks()
    plan = world.fill()
    assert plan["chunk_embeddings"]["inserted"] == 0
    assert plan["dense_vectors"]["inserted"] == world.one("SELECT count(*) FROM document_chunks")
    assert_stores_match(world)
    # Parquet files are embedded again when they are needed.
    for path in (storage / "embeddings").rglob("*.parquet"):
        path.unlink()
    world.connection.execute("UPDATE documents SET language = 'de'")
    assert world.fill()["chunk_embeddings"]["inserted"] > 0
    assert_consistent(world)
    # Raw files are fetched again.
    for path in (storage / "raw").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    world.connection.execute("UPDATE documents SET parser_fingerprint = 'old'")
    plan = world.fill()["documents"]
    assert plan == {"inserted": 0, "replaced": 1, "deleted": 0, "kept": 0, "failed": 0}
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


@pytest.mark.parametrize("share", [30, *only_in_soak(1)])
def test_each_file_of_a_real_mixed_corpus_is_read_or_fails_with_a_reason(
    world: World, shared_data: Path, share: int
) -> None:
    """One of so many files of each format, the smallest one among them."""
    root = shared_data / "corpora/office-pdf-mixed"
    paths = [
        path
        for folder in sorted(path for path in root.iterdir() if path.is_dir())
        for path in sorted(folder.rglob("*.*"), key=lambda path: (path.stat().st_size, path.name))[
            ::share
        ]
    ]
    world.write({str(path.relative_to(root)): path.read_bytes() for path in paths})
    world.add()
    plan = world.fill()["documents"]
    assert plan["inserted"] + plan["failed"] == len(paths) >= 332 // share
    # Of all 332 files, 17 fail.
    assert plan["failed"] <= 17 // share + 2
    assert (
        world.one(
            "SELECT count(*) FROM documents WHERE processing_status = 'failed' AND error_message IS NULL"
        )
        == 0
    )
    assert_consistent(world)
