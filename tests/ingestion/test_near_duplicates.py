"""Near-duplicate documents of any source and language are marked, and the marks follow the changes of documents."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.near_duplicates import signature
from resources.postgres.documents import near_duplicates as signatures
from resources.postgres.documents.near_duplicates import (
    near_duplicates,
    similar_documents,
    write_signatures,
)
from tests.support.extent import only_in_soak
from tests.support.near_texts import edited, text
from tests.support.world import World


def marks(world: World) -> dict[str, str]:
    """source/key -> source/key of the document that it nearly duplicates."""
    return {
        f"{pair.source}/{pair.key}": f"{pair.other_source}/{pair.other_key}"
        for pair in near_duplicates(world.connection, OWNER)
    }


def document_id(world: World, key: str) -> Any:
    return world.one("SELECT id FROM documents WHERE source_key = %s", key)


def copy_of(one: str, share: float = 0.03, seed: int = 1) -> str:
    return edited(one, share, random.Random(seed))


OWNER = AccessScope.owner()
ONE, OTHER = text("en", "one"), text("en", "other")


@pytest.fixture
def docs(world: World) -> World:
    """a.md, its edited copy b.md and an unrelated c.md, synced."""
    world.write({"a.md": ONE, "b.md": copy_of(ONE), "c.md": OTHER})
    world.add()
    world.fill()
    assert marks(world) == {"docs/b.md": "docs/a.md"}
    return world


# With spaces between the words, and without.
@pytest.mark.parametrize("language", ["en", "ja", *only_in_soak("zh", "ko", "fa")])
def test_edited_copies_in_the_same_and_in_another_source_are_marked(
    world: World, language: str
) -> None:
    one = text(language, "one")
    world.write(
        {"a.md": one, "b.md": copy_of(one), "c.md": text(language, "c"), "d.md": text("en", "d")}
    )
    world.write({"x.md": copy_of(one, seed=2), "same.md": one, "y.md": text(language, "y")}, "more")
    world.add()
    world.add("more")
    (documents,) = world.run("sync_source").asset_materializations_for_node("documents")
    assert documents.metadata["near_duplicates"].value == 1
    assert marks(world) == {"docs/b.md": "docs/a.md"}
    world.fill("more")
    assert marks(world) == {
        "docs/b.md": "docs/a.md",
        "more/x.md": "docs/a.md",
        "more/same.md": "docs/a.md",
    }
    assert [pair.key for pair in near_duplicates(world.connection, OWNER, "more")] == [
        "same.md",
        "x.md",
    ]
    # Each remains a document with its chunks, and is found like any other.
    assert world.one("SELECT count(*) FROM documents WHERE indexing_status = 'completed'") == 7


def test_each_of_two_similar_documents_names_the_other(docs: World) -> None:
    (a,) = similar_documents(docs.connection, document_id(docs, "a.md"), OWNER)
    (b,) = similar_documents(docs.connection, document_id(docs, "b.md"), OWNER)
    assert (a["key"], a["marked"], b["key"], b["marked"]) == ("b.md", "other", "a.md", "this")
    assert 0.8 <= a["similarity"] == b["similarity"] < 1
    assert similar_documents(docs.connection, document_id(docs, "c.md"), OWNER) == []


def test_documents_are_signed_and_marked_once(docs: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # Documents parsed before signatures existed, and before today's, are signed by the next sync.
    docs.connection.execute("DELETE FROM document_signatures")
    docs.connection.execute("DELETE FROM gone_signatures")
    assert marks(docs) == {}
    plan = docs.fill()["documents"]
    assert (plan["inserted"], plan["replaced"]) == (0, 0)
    assert marks(docs) == {"docs/b.md": "docs/a.md"}
    docs.connection.execute("UPDATE document_signatures SET algorithm = 'older'")
    docs.fill()
    assert marks(docs) == {"docs/b.md": "docs/a.md"}
    assert docs.one("SELECT count(*) FROM signature_bands") == 3 * 16
    assert docs.one("SELECT count(DISTINCT algorithm) FROM document_signatures") == 1

    # A sync without changes signs and marks nothing.
    query = "SELECT xmin, document_id, ordinal, duplicate_of FROM document_signatures ORDER BY 2"
    before = docs.connection.execute(query).fetchall()
    docs.connection.execute("UPDATE documents SET parser_fingerprint = 'older'")
    # Parsed again, with the same texts.
    assert docs.fill()["documents"]["replaced"] == 3

    def never(*_: object) -> None:
        raise AssertionError("a document was compared")

    monkeypatch.setattr(signatures, "_mark", never)
    docs.fill()
    assert docs.connection.execute(query).fetchall() == before


def test_a_mark_is_removed_with_the_document_that_it_names(docs: World) -> None:
    another = text("en", "something else")
    ways = ("deleted", "rewritten", "rewritten by hand", "deleted by hand")
    for number, how in enumerate(ways):
        (name,) = marks(docs).values()
        key = name.removeprefix("docs/")
        path = docs.folder / "docs" / key
        if how == "deleted":
            path.unlink()
        elif how == "rewritten":
            path.write_text(another)
        elif how == "rewritten by hand":
            docs.connection.execute(
                "UPDATE documents SET content = %s WHERE source_key = %s", [another, key]
            )
        else:
            docs.connection.execute("DELETE FROM documents WHERE source_key = %s", [key])
        if how in ("rewritten by hand", "deleted by hand"):
            # At once, not only at the next sync.
            assert marks(docs) == {}, how
        docs.fill()
        assert marks(docs) == {}, how
        gone = docs.one("SELECT count(*) FROM gone_signatures")
        bands = docs.one(
            """SELECT count(*) FROM signature_bands b
               WHERE NOT EXISTS (SELECT FROM document_signatures s WHERE s.ordinal = b.ordinal)"""
        )
        assert (gone, bands) == (0, 0), how
        signed = docs.one("SELECT count(*) FROM document_signatures")
        assert signed == docs.one("SELECT count(*) FROM documents"), how
        path.write_text(f"{ONE} {number}")
        docs.fill()
        assert len(marks(docs)) == 1, how


def test_a_rewritten_document_loses_its_mark_and_a_new_copy_gets_one(docs: World) -> None:
    root = docs.folder / "docs"
    (root / "b.md").write_text(text("en", "something else"))
    (root / "c.md").write_text(copy_of(ONE, seed=3))
    docs.fill()
    assert marks(docs) == {"docs/c.md": "docs/a.md"}


def test_copies_of_a_deleted_document_are_marked_with_another_of_any_source(world: World) -> None:
    world.write({"a.md": ONE, "z.md": OTHER})
    world.write({f"{n}.md": copy_of(ONE, 0.01, n) for n in range(3)}, "more")
    world.add()
    world.add("more")
    world.fill()
    world.fill("more")
    assert marks(world) == {f"more/{n}.md": "docs/a.md" for n in range(3)}
    (world.folder / "docs" / "a.md").unlink()
    world.fill()
    assert marks(world) == {"more/1.md": "more/0.md", "more/2.md": "more/0.md"}
    world.connection.execute("DELETE FROM sources WHERE name = 'more'")
    world.fill()
    assert marks(world) == {}
    assert world.one("SELECT count(*) FROM signature_bands") == 16


def test_a_document_that_another_session_deletes_is_left_for_the_next_sync(world: World) -> None:
    """Waiting for that session could be a deadlock: it may wait for its turn to mark."""
    world.write({"a.md": ONE, "z.md": OTHER})
    world.write({"b.md": copy_of(ONE, 0.01), "c.md": copy_of(ONE, 0.01, 2)}, "more")
    world.add()
    world.add("more")
    world.fill()
    world.fill("more")
    (world.folder / "docs" / "a.md").unlink()
    with world.postgres.connect() as other:
        other.execute("DELETE FROM documents WHERE source_key = 'b.md'")
        world.fill()
        # c.md was compared with b.md, which other sessions still see.
        assert marks(world) == {"more/c.md": "more/b.md"}
        assert world.one("SELECT count(*) FROM gone_signatures") == 1
        other.rollback()
    world.fill()
    assert marks(world) == {"more/c.md": "more/b.md"}
    assert world.one("SELECT count(*) FROM gone_signatures") == 0


def test_two_documents_written_at_the_same_time_are_compared(world: World) -> None:
    """Neither transaction sees the uncommitted rows of the other, so the second waits for its turn."""
    sources = [world.add(name) for name in ("docs", "more")]
    for name, content in (("docs", ONE), ("more", copy_of(ONE))):
        world.write({f"{name}.md": content, f"{name} too.md": text("en", name)}, name)
        world.fill(name)
    world.connection.execute("DELETE FROM document_signatures")
    rows = [
        [
            signatures.Signed(id_, signature(content))
            for id_, content in world.connection.execute(
                "SELECT id, content FROM documents WHERE source_uuid = %s", [source.id]
            )
        ]
        for source in sources
    ]
    second_wrote = Event()

    def second() -> None:
        with world.postgres.connect() as connection:
            write_signatures(connection, sources[1], rows[1])
        second_wrote.set()

    with ThreadPoolExecutor(1) as pool, world.postgres.connect() as first:
        write_signatures(first, sources[0], rows[0])
        waiting = pool.submit(second)
        assert not second_wrote.wait(0.5)
        first.commit()
        waiting.result(timeout=20)
    assert marks(world) == {"more/more.md": "docs/docs.md"}


@pytest.mark.parametrize("rounds", [2, *only_in_soak(6)])
def test_after_any_changes_the_marks_equal_a_comparison_of_all_pairs(
    world: World, rounds: int
) -> None:
    rng = random.Random(7)
    letters = [text("en", f"letter {n}", 120) for n in range(4)]
    for name in ("docs", "more"):
        world.write({f"{n}.md": copy_of(rng.choice(letters), 0.02, n) for n in range(12)}, name)
        world.add(name)
    for _ in range(rounds):
        for name in ("docs", "more"):
            root = world.folder / name
            for path in rng.sample(sorted(root.iterdir()), 3):
                path.unlink()
            changed = copy_of(rng.choice(letters), 0.02, rng.randrange(10**6))
            rng.choice(sorted(root.iterdir())).write_text(changed)
            (root / f"{rng.randrange(10**6)}.md").write_text(copy_of(rng.choice(letters), 0.01))
            (root / f"{rng.randrange(10**6)}.md").write_text(text("en", f"{rng.random()}", 120))
            world.fill(name)
        assert marks(world) == compare_all_pairs(world)


def compare_all_pairs(world: World) -> dict[str, str]:
    """Return the marks as `marks` does, without the index of bands."""
    rows = world.connection.execute(
        """SELECT d.source_id, d.content FROM documents d JOIN document_signatures s ON s.document_id = d.id
           ORDER BY s.ordinal"""
    ).fetchall()
    signed = [(name, signature(content) or []) for name, content in rows]
    marks = {}
    for later, (name, one) in enumerate(signed):
        for earlier, other in signed[:later]:
            bands = any(one[n : n + 8] == other[n : n + 8] for n in range(0, 128, 8))
            if bands and sum(a == b for a, b in zip(one, other)) >= 0.8 * 128:
                marks.setdefault(name, earlier)
    return marks


def test_short_and_unreadable_documents_are_never_near_duplicates(world: World) -> None:
    world.write({"a.md": "The door is closed.\n", "b.md": "The door is closed.\n"})
    world.write(
        {"picture.png": b"\x89PNG\r\n\x1a\n", "copy.png": b"\x89PNG\r\n\x1a\n", "empty.md": ""}
    )
    world.add()
    world.fill()
    world.fill()
    assert world.one("SELECT count(*) FROM documents WHERE processing_status = 'failed'") == 3
    assert marks(world) == {}
    assert world.one("SELECT count(*) FROM signature_bands") == 0


def test_a_document_that_breaks_keeps_its_text_and_its_mark(world: World) -> None:
    world.write({"a.md": ONE, "b.md": copy_of(ONE)})
    world.add()
    world.fill()
    assert marks(world) == {"docs/b.md": "docs/a.md"}
    (world.folder / "docs" / "a.md").write_bytes(b"")
    world.fill()
    kept = "SELECT content <> '' FROM documents WHERE source_key = 'a.md' AND processing_status = 'failed'"
    assert world.one(kept)
    assert marks(world) == {"docs/b.md": "docs/a.md"}


def test_each_of_many_form_letters_is_compared_with_a_few_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with all earlier ones: their bands are equal, so 400 letters would be 80,000 pairs."""
    monkeypatch.setattr(signatures, "COMPARED", 4)
    world.write({f"{n:04}.md": f"{ONE} Number {n}." for n in range(100)})
    world.add()
    world.fill()
    assert marks(world) == {f"docs/{n:04}.md": "docs/0000.md" for n in range(1, 100)}
    fullest = world.one(
        "SELECT count(*) FROM signature_bands GROUP BY band ORDER BY count(*) DESC LIMIT 1"
    )
    assert fullest > 80
    compared = world.one(
        f"""SELECT max(pairs) FROM (SELECT count(DISTINCT b.ordinal) AS pairs
              FROM document_signatures d, rag_bands(d.signature) AS shared, LATERAL (
                SELECT ordinal FROM signature_bands WHERE band = shared AND ordinal < d.ordinal
                ORDER BY ordinal LIMIT {signatures.COMPARED}) AS b GROUP BY d.ordinal) AS counted"""
    )
    assert compared <= 16 * signatures.COMPARED
    (world.folder / "docs" / "0000.md").unlink()
    world.fill()
    assert marks(world) == {f"docs/{n:04}.md": "docs/0001.md" for n in range(2, 100)}


def test_a_text_without_a_signature_is_similar_to_nothing(world: World) -> None:
    """PostgreSQL may compare two rows before it tests whether they share a band: no pair may raise an error."""
    assert (
        world.one(
            f"""SELECT {signatures._similarity("d", "o")}
                FROM (VALUES (NULL::smallint[])) AS d(signature), (VALUES ('{{1,2}}'::smallint[])) AS o(signature)"""
        )
        == 0
    )
    none = "(VALUES (NULL::smallint[]))"
    assert (
        world.one(
            f"SELECT {signatures._similarity('d', 'o')} FROM {none} AS d(signature), {none} AS o(signature)"
        )
        is None
    )
