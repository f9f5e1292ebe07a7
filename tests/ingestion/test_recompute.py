"""Minimal recompute, as a contract: the numbers of embedded texts and written rows for each kind of change.

Counted where the cost arises: the texts passed to the model, and the rows in requests to Milvus.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from resources.milvus.store import MilvusStore
from tests.support.embedders import CountingEmbedder, OtherEmbedder
from tests.support.extent import only_in_soak
from tests.support.oracle import disagreements
from tests.support.world import World


@dataclass
class Cost:
    """The cost of one sync: texts embedded, rows upserted and deleted in all collections."""

    texts: int = 0
    upserted: int = 0
    deleted: int = 0

    @property
    def free(self) -> bool:
        return self == Cost()


class Meter:
    """A world that counts the cost of each sync. It has dense rows only: every kind has the same plan."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cost = Cost()

    def sync(self, source: str = "docs") -> Cost:
        self.cost = Cost()
        before = CountingEmbedder.texts + OtherEmbedder.texts
        self.world.fill(source)
        self.cost.texts = CountingEmbedder.texts + OtherEmbedder.texts - before
        return self.cost

    def chunks(self, key: str) -> dict[str, int]:
        """chunk id -> position."""
        return dict(
            self.world.connection.execute(
                """SELECT c.id::text, c.position FROM document_chunks c JOIN documents d ON d.id = c.document_id
                   WHERE d.source_key = %s""",
                [key],
            ).fetchall()
        )


@pytest.fixture
def meter(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Meter]:
    monkeypatch.setattr(CountingEmbedder, "texts", 0)
    monkeypatch.setattr(OtherEmbedder, "texts", 0)
    meter = Meter(
        world.configured(vectors=("dense",), embedder="tests.support.embedders:CountingEmbedder")
    )
    request = MilvusStore._call

    def counted(self: MilvusStore, action: str, method: str, *args: Any, **options: Any) -> Any:
        if method == "upsert_request":
            meter.cost.upserted += args[1].num_rows
        if method == "delete":
            meter.cost.deleted += len(options["ids"])
        return request(self, action, method, *args, **options)

    monkeypatch.setattr(MilvusStore, "_call", counted)
    yield meter
    settings = meter.world.settings
    assert disagreements(settings.postgres_url, settings.milvus_uri, ("dense",)) == []


def paragraph(rng: random.Random, words: int = 90) -> str:
    return " ".join(f"word{rng.randrange(5000)}" for _ in range(words))


def text(seed: str, paragraphs: int = 12) -> str:
    rng = random.Random(seed)
    return f"# {seed}\n\n" + "\n\n".join(paragraph(rng) for _ in range(paragraphs)) + "\n"


@pytest.fixture
def docs(meter: Meter) -> Meter:
    """Three documents of about twelve chunks each, synced."""
    meter.world.write({f"{name}.md": text(name) for name in "abc"})
    meter.world.add()
    first = meter.sync()
    assert first.texts == first.upserted == meter.world.one("SELECT count(*) FROM document_chunks")
    assert first.texts > 30
    return meter


def test_an_unchanged_a_touched_a_moved_and_a_renamed_file_embed_nothing(docs: Meter) -> None:
    root = docs.world.folder / "docs"
    assert docs.sync().free
    (root / "a.md").touch()
    (root / "b.md").write_text(text("b"))
    assert docs.sync().free
    moved = docs.world.folder / "elsewhere"
    # New mtimes, the same keys.
    shutil.copytree(root, moved, copy_function=shutil.copyfile)
    docs.world.connection.execute(
        "UPDATE sources SET connection_config = jsonb_build_object('path', %s::text)", [str(moved)]
    )
    assert docs.sync().free
    # New keys: their rows are written.
    for old, new in (("a.md", "renamed.md"), ("b.md", "folder/b.md")):
        rows = len(docs.chunks(old))
        (moved / new).parent.mkdir(exist_ok=True)
        (moved / old).rename(moved / new)
        assert docs.sync() == Cost(0, upserted=rows, deleted=rows)


def test_edits_of_metadata_embed_nothing_and_write_at_most_its_rows(docs: Meter) -> None:
    rows, many = len(docs.chunks("a.md")), ["é" * 200] * 5000
    edits: tuple[tuple[dict[str, Any], int], ...] = (
        # Not fields of a row.
        ({"title": "Another title", "source_url": "https://example.org/a"}, 0),
        ({"tags": ["new"]}, rows),
        ({"author": "Somebody"}, rows),
        ({"category": "news"}, rows),
        ({"author": "é" * 255, "category": "é" * 100, "tags": many}, rows),
        # A row has only the first 64 tags.
        ({"tags": [*many, "one more"]}, 0),
        ({"language": "de"}, rows),
    )
    for edit, upserted in edits:
        docs.world.connection.execute(
            f"UPDATE documents SET {', '.join(f'{name} = %s' for name in edit)} WHERE source_key = 'a.md'",  # pyright: ignore[reportArgumentType, reportCallIssue]
            list(edit.values()),
        )
        assert (docs.sync(), [*edit]) == (Cost(0, upserted=upserted), [*edit])
    # In the source.
    root = docs.world.folder / "docs"
    head = "---\ntitle: One title\ntags: [a]\n---\n"
    (root / "d.md").write_text(head + text("d"))
    docs.sync()
    rows = len(docs.chunks("d.md"))
    (root / "d.md").write_text("---\ntitle: Two titles\ntags: [b]\nauthor: Me\n---\n" + text("d"))
    assert docs.sync() == Cost(0, upserted=rows)
    query = "SELECT author, category, tags FROM documents WHERE source_key = 'd.md'"
    assert docs.world.connection.execute(query).fetchone() == ("Me", None, ["b"])
    (root / "d.md").write_text("---\ntitle: Two titles\ncategory: news\n---\n" + text("d"))
    assert docs.sync() == Cost(0, upserted=rows)
    assert docs.world.connection.execute(query).fetchone() == (None, "news", [])


@pytest.mark.parametrize(("count", "edits"), [(250, 2), *only_in_soak((1000, 4))])
def test_an_edited_paragraph_among_hundreds_of_chunks_embeds_at_most_three(
    meter: Meter, count: int, edits: int
) -> None:
    rng = random.Random("thousand")
    paragraphs = [paragraph(rng, rng.randint(70, 100)) for _ in range(count)]
    root = meter.world.write({"long.md": "\n\n".join(paragraphs)})
    meter.world.add()
    assert meter.sync().texts >= count
    for n in range(edits):
        index = rng.randrange(count)
        words = paragraphs[index].split()
        if n % 2:
            words.insert(rng.randrange(5, len(words)), "inserted")
        else:
            words[rng.randrange(5, len(words))] = "replaced"
        paragraphs[index] = " ".join(words)
        before = meter.chunks("long.md")
        (root / "long.md").write_text("\n\n".join(paragraphs))
        cost = meter.sync()
        after = meter.chunks("long.md")
        moved = sum(before[chunk] != after[chunk] for chunk in before.keys() & after.keys())
        assert 1 <= cost.texts <= 3
        assert cost.upserted <= 3 + moved
        assert cost.deleted <= 3


def test_contents_that_return_embed_nothing_and_write_their_rows(docs: Meter) -> None:
    root = docs.world.folder / "docs"
    (root / "a.md").write_text(text("a").replace("word", "wort", 1))
    edited = docs.sync()
    assert edited == Cost(1, upserted=1, deleted=1)
    (root / "a.md").write_text(text("a"))
    assert docs.sync() == Cost(0, upserted=1, deleted=1)
    # A deleted document that is restored.
    rows = len(docs.chunks("a.md"))
    (root / "a.md").unlink()
    assert docs.sync() == Cost(0, deleted=rows)
    (root / "a.md").write_text(text("a"))
    assert docs.sync() == Cost(0, upserted=rows)
    # The same document in a second source.
    docs.world.write({"copy.md": text("a")}, "more")
    docs.world.add("more")
    assert docs.sync("more") == Cost(0, upserted=rows)


def test_another_chunk_size_embeds_only_new_texts(docs: Meter) -> None:
    def places_of_chunks() -> dict[str, str]:
        """chunk id -> position and text."""
        return dict(
            docs.world.connection.execute(
                "SELECT id::text, position || text_hash FROM document_chunks"
            ).fetchall()
        )

    def embedded() -> set[str]:
        return {row[0] for row in docs.world.connection.execute("SELECT text_hash FROM embeddings")}

    world = docs.world
    for size in (700, 2000, 1000):
        before, known = places_of_chunks(), embedded()
        docs.world = world.configured(chunk_max_chars=size)
        cost = docs.sync()
        after = places_of_chunks()
        assert cost.texts == len(embedded() - known)
        assert cost.upserted == len(after.items() - before.items())
        assert cost.deleted == len(before.keys() - after.keys())
        # Back at the first size.
        if size == 1000:
            assert cost.texts == 0
        else:
            assert cost.texts > 0


def test_another_model_embeds_and_writes_all_into_a_new_collection(docs: Meter) -> None:
    before = docs.world.store.alias_target("dense")
    texts = docs.world.one("SELECT count(DISTINCT text_hash) FROM document_chunks")
    rows = docs.world.one("SELECT count(*) FROM document_chunks")
    docs.world = docs.world.configured(embedder="tests.support.embedders:OtherEmbedder")
    assert docs.sync() == Cost(texts, upserted=rows)
    assert docs.world.store.alias_target("dense") == before
    assert docs.sync().free
    docs.world.publish()
    assert docs.world.store.alias_target("dense") != before
    assert docs.sync().free
