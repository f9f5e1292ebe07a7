"""The end of `rag ingest` after a change of model: the new collections are published, or the reason is printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_assets.cli.output import err
from rag_assets.cli.publication import show_publication
from tests.support.rag import Rag, emptied
from tests.support.texts import ENGLISH, long_text


@pytest.fixture(scope="module")
def rag(running_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rag]:
    """Two sources, `a` and `b`, ingested with the default model."""
    folder = tmp_path_factory.mktemp("files")
    with emptied(running_home) as rag:
        for name, text in (("a", long_text("town", 6)), ("b", ENGLISH)):
            (folder / name).mkdir()
            (folder / name / "x.md").write_text(text)
        rag.ok("ingest", str(folder / "a"), str(folder / "b"))
        yield rag


def test_a_new_model_is_published_by_the_ingest_that_completes_it(rag: Rag) -> None:
    new = Rag(rag.home, {**rag.env, "RAG_EMBEDDER": "tests.support.embedders:CountingEmbedder"})
    assert new.json("ingest", "a")["publication"] is None
    assert rag.json("search", "observatory")["hits"]

    # A row of the new collection is lost: the ingest succeeds, and the old collections keep serving.
    with rag.sql() as connection, rag.milvus() as client:
        (collection,) = connection.execute(
            "SELECT name FROM vector_collections WHERE state = 'building' AND kind = 'dense'"
        ).fetchone() or ("",)
        (lost, *_) = client.query(collection, filter='id >= ""', output_fields=["id"], limit=1)
        client.delete(collection, ids=[lost["id"]])
    publication = new.json("ingest", "b")["publication"]
    assert publication["published"] == {}
    assert f"{collection}, a: " in publication["blocked"]
    assert "The previous collections keep serving." in publication["blocked"]
    assert rag.json("search", "observatory")["hits"]

    # The repair writes the row again and leaves the aliases to the publication.
    new.ok("repair", "--source", "a")
    done = new("ingest")
    assert done.returncode == 0
    assert f"dense_collection now points at {collection}" in done.stderr
    assert "sparse_collection now points at sparse_collection__" in done.stderr
    assert new.json("search", "observatory")["hits"]
    assert new.disagreements() == []
    assert new.json("ingest", "b")["publication"] is None


def test_the_reason_against_a_publication_is_printed() -> None:
    with err.capture() as capture:
        show_publication({"published": {}, "waiting": {}, "blocked": "[x], a: 1 row is missing."})
    assert capture.get() == "not published: [x], a: 1 row is missing.\n"
