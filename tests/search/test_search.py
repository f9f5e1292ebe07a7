"""Search as a program uses it: what it finds, what it leaves out, and which requests it rejects."""

from __future__ import annotations

import asyncio
import random
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg.rows
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag_assets.pipeline.hits import Hit
from rag_assets.search.request import AccessScope, Filters, SearchRequest
from resources import batched_writes
from resources.embedders.lexical import LexicalEmbedder
from resources.errors import ConfigError
from resources.postgres.connection import Connection, Postgres
from resources.postgres.search.hydration import hydrate
from resources.postgres.search.search_counts import SearchCounts
from tests.support.extent import times
from tests.support.world import World, empty_world

OWNER = AccessScope.owner()
LICENCE = "This page is published under the licence of the observatory and may be copied freely by anyone."


@pytest.fixture(scope="module")
def indexed(
    home: Path, postgres_url: str, milvus_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """One corpus for the module: searches change nothing. A test that needs other texts adds a source."""
    folder = tmp_path_factory.mktemp("search")
    with empty_world(home, postgres_url, milvus_uri, folder) as world:
        telescopes = "The great refractor shows the rings of the planet Saturn on clear nights."
        hours = "The observatory opens at nine in the evening and closes at midnight."
        japanese = "天文台は夜の九時に開きます。土星の環を大きな屈折望遠鏡で見ることができます。"
        pages = {
            "telescope.md": f"# Telescopes\n\n{telescopes}",
            "hours.md": f"# Hours\n\n{hours}",
            "ja.md": f"# 天文台\n\n{japanese}",
        }
        add(world, "docs", pages)
        add(world, "old", {f"versions/{n}.md": f"# Licence\n\n{LICENCE}" for n in range(12)})
        yield world


def add(world: World, source: str, pages: dict[str, str]) -> Filters:
    """Register and index a source. Returns the filter for it."""
    world.write(pages, source)
    world.add(source)
    world.fill(source)
    return Filters(source=(source,))


def keys(hits: Sequence[Hit]) -> list[str]:
    return [hit.key for hit in hits]


def test_each_mode_finds_the_right_document(indexed: World) -> None:
    searcher = indexed.searcher()
    request = SearchRequest("rings of Saturn", k=3)
    answers = searcher.answers(request, ["dense", "sparse", "hybrid"], OWNER)
    assert {mode: answer.hits[0].key for mode, answer in answers.items()} == {
        "dense": "telescope.md",
        "sparse": "telescope.md",
        "hybrid": "telescope.md",
    }
    assert searcher.search("屈折望遠鏡", OWNER)[0].key == "ja.md"
    assert [stage.name for stage in answers["hybrid"].stages] == [
        "embed",
        "dense",
        "sparse",
        "fusion",
        "hydrate",
    ]


def test_a_hybrid_is_ordered_by_relevance(indexed: World) -> None:
    for text in ("rings of Saturn", "屈折望遠鏡"):
        answer = indexed.searcher().answer(SearchRequest(text, k=3), OWNER)
        fused = [score for _, score in answer.stages[3].scores]
        assert fused == sorted(fused, reverse=True) and 0 < fused[-1] < fused[0] < 1
        assert [hit.relevance for hit in answer.hits] == [hit.score for hit in answer.hits]
        assert (answer.hidden, answer.min_score) == (0, 0)


def test_a_question_without_an_answer_shows_nothing_and_says_how_well_the_best_fits(
    indexed: World,
) -> None:
    with indexed.searcher() as searcher:
        for mode in ("dense", "sparse", "hybrid"):
            request = SearchRequest("quantum banana submarine of the observatory", mode=mode)
            every = searcher.answer(replace(request, min_score=0), OWNER)
            relevances = [hit.relevance or 0 for hit in every.hits]
            assert relevances and relevances == sorted(relevances, reverse=True)
            none = searcher.answer(replace(request, min_score=1.0), OWNER)
            assert (list(none.hits), none.hidden) == ([], len(every.hits))
            assert none.best_hidden == relevances[0] and none.exhausted
            some = searcher.answer(replace(request, min_score=relevances[1]), OWNER)
            count = len([r for r in relevances if r >= relevances[1]])
            assert list(some.hits) == list(every.hits)[:count]
            assert some.hidden == len(every.hits) - count
        unknown = replace(searcher, min_score=0.01).answer("zzyzx qwertz", OWNER)
        assert list(unknown.hits) == []


def test_asyncio_waits_without_blocking(indexed: World) -> None:
    searcher = indexed.searcher()

    async def several() -> list[str]:
        answers = await asyncio.gather(*(searcher.asearch("Saturn", OWNER) for _ in range(20)))
        return [answer.hits[0].key for answer in answers]

    assert set(asyncio.run(several())) == {"telescope.md"}


def licences(world: World, filters: Filters) -> list[Hit]:
    request = SearchRequest("licence of the observatory", k=1, filters=filters)
    return world.searcher().search(request, OWNER)


def test_equal_texts_are_one_hit_that_names_its_documents(indexed: World) -> None:
    (hit,) = licences(indexed, Filters(source=("old",)))
    documents = [hit.key, *(holder.key for holder in hit.also_in)]
    assert sorted(documents) == sorted(f"versions/{n}.md" for n in range(12))


def test_a_hit_names_holders_that_are_no_candidates_and_none_that_the_search_excludes(
    indexed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag_assets.search.searcher.CANDIDATES", 3)
    (hit,) = licences(indexed, Filters(source=("old",)))
    assert len(hit.also_in) == 11
    assert [holder.key for holder in hit.also_in] == sorted(holder.key for holder in hit.also_in)
    chosen = [hit.document_id, *(holder.document_id for holder in hit.also_in[:2])]
    (hit,) = licences(indexed, Filters(document=tuple(chosen)))
    documents = [hit.document_id, *(holder.document_id for holder in hit.also_in)]
    assert sorted(documents) == sorted(chosen)
    soon = datetime.now(UTC) + timedelta(seconds=2)
    (hit,) = licences(indexed, Filters(created_before=soon, source=("old",)))
    assert len(hit.also_in) == 11


def test_pages_follow_one_another_without_gap_or_double(indexed: World) -> None:
    searcher = indexed.searcher()
    text = "the observatory at night"
    whole = searcher.answer(SearchRequest(text, k=20), OWNER)
    pages = [
        hit
        for offset in range(0, 20, 2)
        for hit in searcher.search(SearchRequest(text, k=2, offset=offset), OWNER)
    ]
    assert [hit.chunk_id for hit in pages] == [hit.chunk_id for hit in whole.hits]
    assert [hit.rank for hit in pages] == list(range(1, len(pages) + 1))
    assert whole.exhausted


def test_filters_limit_the_hits(indexed: World) -> None:
    document = indexed.one("SELECT id::text FROM documents WHERE source_key = 'hours.md'")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert keys(indexed.search("observatory", filters={"language": "ja"})) == ["ja.md"]
    assert keys(indexed.search("Saturn", filters={"document": document})) == ["hours.md"]
    assert not indexed.search("Saturn", filters={"created_from": tomorrow})
    assert indexed.search("Saturn", filters={"created_before": tomorrow})


#: Labels that documents may have, and that filters may contain.
HOSTILE = [
    "a", "A", "b", 'quo"te', "it's", "back\\slash", "trailing\\", "100%", "_", '"] or id >= "', "new\nline", "\x01\b\f",
    "\u2028", "é", "e\u0301", "天文", "[a, b]", "{}", "$meta", "\\u0041", "null", " a ", "😀" * 90,
]  # fmt: skip


@pytest.fixture(scope="module")
def labelled(indexed: World) -> list[dict[str, Any]]:
    """The chunks in PostgreSQL; one source's documents have hostile labels, one document has too many of them."""
    pages = {
        f"{n}.md": f"The label of hall {n}.\n\n```\n" + f"label {n} = y + z\n" * 80 + "```\n"
        for n in range(30)
    }
    add(indexed, "labels", pages)
    chance = random.Random(7)
    for n in range(30):
        tags: list[str | None] = chance.sample(HOSTILE, chance.randrange(4))
        tags += ["", None, *(f"{i}" + "😀" * 200 for i in range(5000)), "b"] if n == 0 else []
        indexed.connection.execute(
            "UPDATE documents SET author = %s, category = %s, tags = %s WHERE source_key = %s",
            [chance.choice([*HOSTILE, None]), chance.choice([*HOSTILE, None]), tags, f"{n}.md"],
        )
    indexed.fill("labels")
    with indexed.connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        rows = cursor.execute(
            """SELECT c.id::text, c.chunk_type, d.author, d.category, d.tags, s.name AS source
               FROM document_chunks c JOIN documents d ON d.id = c.document_id JOIN sources s ON s.id = d.source_uuid"""
        ).fetchall()
    assert {row["chunk_type"] for row in rows} > {"code"}
    return rows


def meets(row: dict[str, Any], conditions: dict[str, list[str]]) -> bool:
    tags = [tag[:100] for tag in row["tags"] or () if tag][:64]
    # A value is searched for as it is, and as the ingestion would have stored it.
    searched = Filters.of(conditions)
    return all(
        bool(set(values) & set(tags)) if name == "tags" else row[name] in values
        for name, values in ((name, getattr(searched, name)) for name in conditions)
    )


CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        **{
            name: st.lists(st.sampled_from([*HOSTILE, "7" + "😀" * 99]), min_size=1, max_size=9)
            for name in ("tags", "category", "author")
        },
        "chunk_type": st.lists(st.sampled_from(["code", "text", 'te"xt']), min_size=1),
        "source": st.just(["labels"]),
    },
).filter(bool)


@times(0.5)
@given(CONDITIONS)
@example({"tags": ["7" + "😀" * 99]})  # cut
@example({"tags": ["63" + "😀" * 98]})  # the 65th or a later one
def test_a_filter_finds_the_rows_that_meet_it_in_postgres(
    indexed: World, labelled: list[dict[str, Any]], conditions: dict[str, list[str]]
) -> None:
    eligible = {row["id"] for row in labelled if meets(row, conditions)}
    limits = Filters.of(conditions)
    for kind in ("dense", "sparse"):
        rows = indexed.store.scan(f"{kind}_collection", where=limits.expression())
        assert {row_id.split("_")[0] for bucket in rows for row_id, _ in bucket} == eligible
    texts = hydrate(indexed.connection, [row["id"] for row in labelled], limits, OWNER)
    assert set(texts) == eligible


def test_searches_are_filtered_by_labels(indexed: World, labelled: list[dict[str, Any]]) -> None:
    for conditions in (
        {"tags": HOSTILE[:9]},
        {"category": HOSTILE[:12], "chunk_type": ["text"]},
        {"author": HOSTILE[9:], "tags": ["a", "b", "天文"], "source": ["labels"]},
    ):
        hits = indexed.search("label", k=100, mode="sparse", filters=conditions)
        eligible = {row["id"] for row in labelled if meets(row, conditions)}
        assert {hit.chunk_id for hit in hits} == eligible and eligible


def test_an_edited_document_is_filtered_by_its_new_values_before_milvus_has_them(
    indexed: World,
) -> None:
    pages = {f"{n}.md": "A notice about the dome that all may read." for n in "ab"}
    add(indexed, "notices", pages)
    edit = "UPDATE documents SET category = %s WHERE source_id = ANY(%s)"
    indexed.connection.execute(edit, ["public", ["notices/a.md", "notices/b.md"]])
    indexed.fill("notices")
    public = {"source": "notices", "category": "public"}
    (hit,) = indexed.search("notice", filters=public)
    assert len(hit.also_in) == 1
    indexed.connection.execute(edit, ["internal", ["notices/a.md"]])
    (hit,) = indexed.search("notice", filters=public)
    assert (hit.key, hit.also_in) == ("b.md", ())


def test_a_radius_leaves_out_distant_rows(indexed: World) -> None:
    text = "rings of the planet Saturn"
    near, far = indexed.search(text, k=2, mode="dense")
    between = (near.score + far.score) / 2
    assert keys(indexed.search(text, mode="dense", radius=between)) == [near.key]


def test_a_hybrid_has_absolute_scores_and_its_radius_is_of_the_dense_one(indexed: World) -> None:
    text = "rings of the planet Saturn"
    dense = {hit.chunk_id: hit.score for hit in indexed.search(text, k=100, mode="dense")}
    sparse = {hit.chunk_id: hit.score for hit in indexed.search(text, k=100, mode="sparse")}
    hits = indexed.search(text, k=100)
    assert {hit.chunk_id: hit.dense_score for hit in hits if hit.dense_score is not None} == dense
    assert {
        hit.chunk_id: hit.sparse_score for hit in hits if hit.sparse_score is not None
    } == sparse
    between = sorted(dense.values())[-2]
    (near,) = indexed.search(text, k=100, radius=between)
    # The threshold does not change the scores of the hits that it leaves.
    assert near.score == next(hit.score for hit in hits if hit.chunk_id == near.chunk_id)
    assert near.dense_score is not None and near.dense_score > between
    assert indexed.search(text, radius=1.1) == []


def test_by_document_returns_one_hit_for_each_document(indexed: World) -> None:
    paragraphs = [f"Paragraph {n} on comets: " + f"word{n} " * 40 for n in range(10)]
    pages = {"long.md": "\n\n".join(paragraphs), "short.md": "A note on comets."}
    request = SearchRequest("comets", k=20, filters=add(indexed, "comets", pages))
    searcher = indexed.searcher()
    assert len(searcher.search(request, OWNER)) > 2
    hits = searcher.search(replace(request, by_document=True), OWNER)
    assert sorted(keys(hits)) == ["long.md", "short.md"]


def test_neighbours_give_the_context(indexed: World) -> None:
    paragraphs = [f"Paragraph {n}: " + f"word{n} " * 100 for n in range(5)]
    words = add(indexed, "words", {"long.md": "# Words\n\n" + "\n\n".join(paragraphs)})
    request = SearchRequest("word2", k=1, neighbours=1, filters=words)
    [hit] = indexed.searcher().search(request, OWNER)
    rows = indexed.connection.execute(
        "SELECT content FROM document_chunks WHERE document_id = %s ORDER BY position",
        [hit.document_id],
    )
    contents = [row[0] for row in rows]
    at = contents.index(hit.content)
    assert hit.before == (contents[at - 1],) and hit.after == (contents[at + 1],)


def test_hits_are_counted(indexed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    filters = add(
        indexed, "counted", {"a.md": "No other search looks for the moons of Jupiter here."}
    )
    request = SearchRequest("moons of Jupiter", k=1, filters=filters)
    restarted = threading.Event()

    class Restarts(Postgres):
        @contextmanager
        def connect(self, *, autocommit: bool = False) -> Iterator[Connection]:
            with super().connect(autocommit=autocommit) as connection:
                if not restarted.is_set():
                    connection.close()  # before the write
                    restarted.set()
                yield connection

    monkeypatch.setattr(batched_writes, "INTERVAL", 0.01)
    searcher = replace(indexed.searcher(), counts=SearchCounts(Restarts(indexed.postgres.url)))
    searcher.search(request, OWNER)
    assert restarted.wait(5)
    for _ in range(3):
        hit = searcher.search(request, OWNER)[0]
    assert searcher.counts is not None
    searcher.counts.close()
    row = indexed.connection.execute(
        "SELECT search_count, last_search_score FROM document_chunks WHERE id = %s", [hit.chunk_id]
    ).fetchone()
    assert row == (3, pytest.approx(hit.score))


def test_a_mistake_is_answered_with_the_expected_value(indexed: World) -> None:
    searcher = indexed.searcher()
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"text": " "}, "text: expected something to search for"),
        ({"k": 0}, "k: expected 1 to 100, found 0"),
        ({"text": None}, "text: expected text, found None"),
        ({"k": 2.5, "offset": "1"}, "k: expected an integer, found 2.5"),
        ({"k": 2.5, "offset": "1"}, "offset: expected an integer, found '1'"),
        ({"k": True, "neighbours": None}, "neighbours: expected an integer, found None"),
        ({"offset": 2501}, "offset: expected 0 to 2500, found 2501"),
        ({"radius": "1", "mode": "dense"}, "radius: expected a number, found '1'"),
        ({"radius": float("nan"), "mode": "dense"}, "radius: expected a finite number, found nan"),
        ({"mode": "psychic"}, "mode: expected one of dense, sparse, hybrid, multi"),
        ({"mode": "multi"}, "multi vectors are not kept; set RAG_VECTORS=dense,sparse,multi"),
        ({"rerank": True}, "multi vectors are not kept"),
        ({"radius": 0.5, "mode": "multi"}, "radius: expected with mode dense, sparse or hybrid"),
        ({"min_score": "1"}, "min_score: expected a number, found '1'"),
        ({"min_score": 1.5}, "min_score: expected a relevance from 0 to 1, found 1.5; radius (--r"),
        ({"min_score": 0.5, "mode": "multi"}, "min_score: expected with mode dense, sparse or hy"),
        ({"filters": {"source": "old"}}, "filters: expected Filters, found {'source': 'old'}"),
        ({"filters": Filters(source="old")}, "source: expected a tuple of texts, found 'old'"),  # pyright: ignore[reportArgumentType]
        ({"filters": Filters(tags=("",))}, "tags: expected text, found an empty one"),
        ({"filters": Filters(language=("japanese",))}, "language: expected an ISO 639-1 code"),
        ({"filters": Filters(document=("1",))}, "document: expected a document's id (a UUID)"),
        ({"filters": Filters(source=("nowhere",))}, "There is no source 'nowhere'; known: "),
    ]
    for options, expected in mistakes:
        values: dict[str, Any] = {"text": "Saturn", **options}
        with pytest.raises(ConfigError) as error:
            searcher.search(SearchRequest(**values), OWNER)
        assert expected in str(error.value)


def test_relevance_and_its_threshold_need_a_model_that_was_measured(indexed: World) -> None:
    class Unmeasured(LexicalEmbedder):
        @property
        def identity(self) -> Mapping[str, str]:
            return {"backend": "own", "sparse_backend": "lexical"}

    searcher = indexed.searcher()
    searcher = replace(
        searcher, queries=replace(searcher.queries, embedder=Unmeasured()), min_score=0.9
    )
    request = SearchRequest("rings of the planet Saturn", k=3)
    answer = searcher.answer(request, OWNER)
    assert answer.hits[0].key == "telescope.md" and len(answer.hits) == 3
    assert {hit.relevance for hit in answer.hits} == {None}
    assert (answer.min_score, answer.hidden, answer.best_hidden) == (None, 0, None)
    with pytest.raises(
        ConfigError, match=r"own was not measured in mode hybrid; use radius \(--radius\)"
    ):
        searcher.answer(replace(request, min_score=0.1), OWNER)
    # Its sparse vectors were.
    (hit,) = searcher.search(replace(request, mode="sparse"), OWNER)
    assert hit.relevance is not None and hit.relevance > 0.9


def test_rows_that_others_wrote_to_milvus_are_left_out(indexed: World) -> None:
    name = indexed.one("SELECT name FROM vector_collections WHERE kind = 'dense'")
    chunk = indexed.one("SELECT id::text FROM document_chunks LIMIT 1")
    (row,) = indexed.store.client.get(name, [f"{chunk}_dense"], output_fields=["*"])
    indexed.store.client.upsert(name, [{**row, "id": "a row of others"}])
    try:
        hits = indexed.search("Saturn", k=100, mode="dense")
        assert hits and all(uuid.UUID(hit.chunk_id) for hit in hits)
    finally:
        indexed.store.delete_ids(name, ["a row of others"])


def test_rare_words_count_for_more_than_common_ones(indexed: World) -> None:
    rare = "A quokkaxyz lives here, far away from everything else with a name."
    common = {f"{n}.md": f"The refractory telescope, page {n}." for n in range(30)}
    filters = add(indexed, "zoo", common | {"rare.md": rare})
    request = SearchRequest("refractory telescope quokkaxyz", k=1, mode="sparse", filters=filters)
    assert keys(indexed.searcher().search(request, OWNER)) == ["rare.md"]
