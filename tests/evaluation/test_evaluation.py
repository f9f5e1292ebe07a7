"""Evaluations on real stores: the measurements, and the faults that make a check fail.

All tests share one corpus. A test that damages Milvus restores it.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rag_assets.checks.retrieval import RETRIEVAL_CHECKS
from rag_assets.evaluation.evaluator import Evaluator, measuring_searcher
from rag_assets.evaluation.known_items import build_set
from rag_assets.evaluation.measurement import measure_set
from rag_assets.pipeline.retrieval_sets import Judgement
from rag_assets.search.request import AccessScope, SearchRequest
from resources.errors import ConfigError
from resources.milvus.store import MilvusStore
from resources.postgres.evaluation.evaluations import (
    Evaluation,
    accept_evaluation,
    evaluations,
    latest_and_accepted,
)
from resources.postgres.evaluation.retrieval_sets import add_set, get_set, list_sets, remove_set
from resources.postgres.registry.sources import get_source
from tests.support.checks import run_checks
from tests.support.operations import blocked_publication, rebuild
from tests.support.stored import serving_collections
from tests.support.texts import page
from tests.support.world import World, empty_world

CHUNKS, QUERIES = 100, 25
QUALITY, INDEXES, ITEMS = (
    "retrieval_quality_is_kept",
    "indexes_find_nearest_neighbours",
    "known_items_are_found",
)


def flush(store: MilvusStore) -> None:
    """Flush at once. Milvus Lite also flushes and builds its indexes automatically, after one idle second."""
    for name in store.client.list_collections():
        store.client.flush(name)
    time.sleep(0.3)


@pytest.fixture(scope="module")
def whole(
    home: Path, postgres_url: str, milvus_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("evaluation")
    with (
        pytest.MonkeyPatch.context() as patch,
        empty_world(home, postgres_url, milvus_uri, folder) as world,
    ):
        # The original waits 2 s before each measurement.
        patch.setattr(MilvusStore, "wait_for_flush", flush)
        world.write({f"{n:03}.md": page(n) for n in range(CHUNKS)})
        world.add()
        world.fill()
        yield world


@pytest.fixture(scope="module")
def accepted(whole: World) -> int:
    """The id of the accepted evaluation of set `known`, with which every test begins."""
    build_set(whole.connection, "known", "docs", QUERIES)
    assert failed(whole) == set()
    return last(whole).id


@pytest.fixture
def world(whole: World, accepted: int) -> Iterator[World]:
    yield whole
    whole.connection.execute("DELETE FROM retrieval_sets WHERE name <> 'known'")
    whole.connection.execute("DELETE FROM retrieval_evaluations WHERE id > %s", [accepted])


def evaluate(world: World, name: str = "") -> dict[str, dg.AssetCheckResult]:
    """Measure one set or all, and run the checks of evaluations, without Dagster. check -> its result."""
    with (
        measuring_searcher(world.postgres, world.stores) as searcher,
        world.postgres.connect(autocommit=True) as connection,
    ):
        evaluator = Evaluator(connection, searcher, world.resources["storage"].open())
        for retrieval_set in list_sets(connection, source="docs", name=name or None):
            measure_set(evaluator, retrieval_set, "a run")
    return run_checks(world.resources, "docs", checks=RETRIEVAL_CHECKS)


def failed(world: World) -> set[str]:
    """Run an evaluation. The names of the failed checks."""
    return {name for name, check in evaluate(world).items() if not check.passed}


def last(world: World, name: str = "known") -> Evaluation:
    return evaluations(world.connection, name)[0]


# Measurements -----------------------------------------------------------------------------------------------------


def test_an_evaluation_is_stored_and_shown(world: World) -> None:
    world.fill()
    before = world.one("SELECT sum(search_count) FROM document_chunks")
    result = world.run("evaluate_retrieval")
    (materialization,) = result.asset_materializations_for_node("retrieval_evaluation")
    shown = {name: value.value for name, value in materialization.metadata.items()}
    evaluation = last(world)
    first, *_ = reversed(evaluations(world.connection, "known"))
    assert (first.accepted_at is not None, evaluation.accepted_at) == (True, None)
    pairs = latest_and_accepted(world.connection, "docs")
    assert [(latest.id, accepted.id) for latest, accepted in pairs] == [(evaluation.id, first.id)]
    # On a clean system.
    checks = result.get_asset_check_evaluations()
    assert {check.check_name: check.passed for check in checks} == dict.fromkeys(
        (QUALITY, INDEXES, ITEMS), True
    )
    assert evaluation.run_id == result.run_id
    assert evaluation.model == world.stores.model.fingerprint
    assert (evaluation.queries, evaluation.outdated) == (QUERIES, 0)
    assert set(evaluation.modes) == {"dense", "sparse", "hybrid"}
    for mode, mode_result in evaluation.modes.items():
        measures = mode_result.measures
        assert ("ANN recall@10" in measures) == (mode != "hybrid")
        for name in ("recall@1", "recall@10", "nDCG@10", "MRR@10"):
            measure = measures[name]
            assert measure.lower is not None and measure.upper is not None
            assert 0.9 < measure.lower <= measure.value <= measure.upper <= 1
            assert shown[f"known/{mode}/{name}"] == pytest.approx(measure.value)
        assert 0 < measures["p50 ms"].value <= measures["p95 ms"].value <= measures["p99 ms"].value
    image = re.fullmatch(r"!\[.*\]\(data:image/svg\+xml;base64,(.*)\)", str(shown["known/plot"]))
    assert image is not None
    assert b"</svg>" in base64.b64decode(image[1])
    assert world.one("SELECT sum(search_count) FROM document_chunks") == before


def test_measures_match_the_ranks_of_the_searcher(world: World) -> None:
    """Compares with the formulas for one relevant document, applied to the rank of the right page."""
    queries, judgements = {}, []
    for n in range(0, CHUNKS, 7):
        # Three words of the first sentence.
        queries[f"q{n}"] = " ".join(page(n).split()[5:8])
        judgements.append(Judgement(f"q{n}", f"{n:03}.md", 1))
    add_set(world.connection, "words", get_source(world.connection, "docs"), queries, judgements)
    evaluate(world, "words")
    searcher = world.searcher()
    mode: Any
    for mode, mode_result in last(world, "words").modes.items():
        ranks = []
        for judgement in judgements:
            request = SearchRequest(queries[judgement.query], mode=mode, k=10)
            hits = searcher.search(request, AccessScope.owner())
            keys = [hit.key for hit in hits]
            ranks.append(keys.index(judgement.document) + 1 if judgement.document in keys else 99)
        for k in (1, 5, 10):
            expected = sum(rank <= k for rank in ranks) / len(ranks)
            assert mode_result.measures[f"recall@{k}"].value == pytest.approx(expected)
        reciprocal = sum(1 / rank for rank in ranks if rank < 99) / len(ranks)
        assert 0 < reciprocal == pytest.approx(mode_result.measures["MRR@10"].value)


def test_a_passage_is_found_by_the_chunks_that_overlap_it(world: World) -> None:
    """Edits above a passage move it. Once its text is gone, its query is outdated."""
    paragraphs = [f"{page(n + 1000)[12:]}{page(n + 2000)[12:]}" for n in range(6)]
    text = "# Long\n\n" + "\n\n".join(paragraphs)
    world.write({"long.md": text, "copy.md": page(5)})
    world.fill()
    start = text.index(paragraphs[3])
    spans = {"q3": (start, start + 150), "gone": (text.index(paragraphs[5]), len(text) - 1)}
    add_set(
        world.connection,
        "passages",
        get_source(world.connection, "docs"),
        {"q3": paragraphs[3][:80], "gone": paragraphs[5][:80]},
        [Judgement(query, "long.md", 1, span) for query, span in spans.items()],
    )
    evaluate(world, "passages")
    assert last(world, "passages").modes["sparse"].measures["recall@1"].value == 1
    world.write({"long.md": "# Long\n\nA new opening.\n\n" + "\n\n".join(paragraphs[1:5])})
    world.fill()
    evaluate(world, "passages")
    evaluation = last(world, "passages")
    assert (evaluation.queries, evaluation.outdated) == (1, 1)
    assert evaluation.modes["sparse"].measures["recall@1"].value == 1
    for name in ("long.md", "copy.md"):
        (world.folder / "docs" / name).unlink()
    world.fill()
    with pytest.raises(ConfigError, match="has none of the answers that its 2 queries expect"):
        evaluate(world, "passages")


def test_an_equal_text_in_another_document_counts_as_relevant(world: World) -> None:
    world.write({"copies/005.md": page(5)})
    world.fill()
    question = " ".join(page(5).split()[4:12])
    source = get_source(world.connection, "docs")
    for n, key in enumerate(("005.md", "copies/005.md")):
        add_set(world.connection, f"copy{n}", source, {"q": question}, [Judgement("q", key, 1)])
        evaluate(world, f"copy{n}")
        assert last(world, f"copy{n}").modes["sparse"].measures["recall@1"].value == 1
    (world.folder / "docs" / "copies/005.md").unlink()
    world.fill()


def test_building_a_set_twice_yields_the_same_questions(world: World) -> None:
    build_set(world.connection, "again", "docs", QUERIES)
    questions = [
        world.connection.execute(
            """SELECT query_id, text FROM retrieval_queries q JOIN retrieval_sets s ON s.id = q.set_id
               WHERE s.name = %s ORDER BY 1""",
            [name],
        ).fetchall()
        for name in ("known", "again")
    ]
    assert questions[0] == questions[1]
    assert get_set(world.connection, "again").queries == QUERIES
    build_set(world.connection, "all", "docs", 10_000)
    assert get_set(world.connection, "all").queries == CHUNKS


def test_a_set_that_does_not_match_its_source_is_rejected(world: World) -> None:
    source = get_source(world.connection, "docs")
    wrong: list[tuple[list[Judgement], str]] = [
        ([Judgement("q", "nowhere.md", 1)], "'nowhere.md': expected the key of a document of docs"),
        ([Judgement("q", "001.md", 1, (0, 99999))], "expected a passage within its"),
        ([Judgement("q", "001.md", 1, (0, 5)), Judgement("q", "002.md", 1)], "in every judgement"),
    ]
    for judgements, expected in wrong:
        with pytest.raises(ConfigError) as error:
            add_set(world.connection, "wrong", source, {"q": "text"}, judgements)
        assert expected in str(error.value)
    with pytest.raises(ConfigError, match="already"):
        build_set(world.connection, "known", "docs", 5)
    with pytest.raises(ConfigError, match="expected 1 to 100 characters, found 101"):
        build_set(world.connection, "x" * 101, "docs", 5)
    with pytest.raises(ConfigError, match="known: known"):
        remove_set(world.connection, "wrong")


# Failures ---------------------------------------------------------------------------------------------------------


Rows = list[dict[str, Any]]


def swap(rows: Rows) -> Rows:
    """A tenth of the rows, each with the vector of another of these rows."""
    changed = rows[:: len(rows) // (CHUNKS // 10)]
    moved = [*changed[1:], changed[0]]
    return [{**row, "vector": other["vector"]} for row, other in zip(changed, moved)]


def truncate(rows: Rows) -> Rows:
    """All rows, each reduced to its four terms of least weight."""
    return [
        {**row, "vector": dict(sorted(row["vector"].items(), key=lambda item: item[1])[:4])}
        for row in rows
    ]


def scale(rows: Rows) -> Rows:
    """All rows with vectors of norm 1 to 8, as from a model without normalisation."""
    return [
        {**row, "vector": [value * (1 + n % 8) for value in row["vector"]]}
        for n, row in enumerate(rows)
    ]


def all_rows(world: World, kind: str) -> Rows:
    """All rows in the order of their documents' keys, so that a test is the same each time although ids differ."""
    rows = world.store.client.query(
        f"{kind}_collection", filter='id >= ""', output_fields=["*"], limit=1000
    )
    keys = dict(world.connection.execute("SELECT id::text, source_key FROM documents").fetchall())
    return sorted((dict(row) for row in rows), key=lambda row: keys[row["document_id"]])


def upsert(world: World, kind: str, rows: Rows) -> None:
    for start in range(0, len(rows), 100):
        world.store.client.upsert(f"{kind}_collection", rows[start : start + 100])


@pytest.mark.parametrize(
    ("kind", "damage", "expected"),
    [
        ("sparse", truncate, {INDEXES}),
        ("dense", scale, {INDEXES}),
    ],
)
def test_wrong_vectors_make_a_check_fail(
    world: World, kind: str, damage: Callable[[Rows], Rows], expected: set[str]
) -> None:
    rows = all_rows(world, kind)
    try:
        upsert(world, kind, damage(rows))
        assert failed(world) >= expected
    finally:
        upsert(world, kind, rows)


def test_lost_rows_make_a_check_fail(world: World) -> None:
    kind = "dense"
    rows = all_rows(world, kind)
    deleted = rows[::10]
    try:
        world.store.client.delete(f"{kind}_collection", ids=[row["id"] for row in deleted])
        checks = evaluate(world)
        assert not checks[ITEMS].passed
        table = checks[ITEMS].metadata["evidence"]
        assert isinstance(table, dg.TableMetadataValue)
        lost = {str(record.data["query (its chunk)"]) for record in table.records}
        assert lost <= {row["id"].split("_")[0] for row in deleted}
    finally:
        upsert(world, kind, deleted)


def test_swapped_vectors_fail_every_check_until_their_evaluation_is_accepted(world: World) -> None:
    rows = all_rows(world, "sparse")
    try:
        upsert(world, "sparse", swap(rows))
        assert failed(world) == {QUALITY, INDEXES, ITEMS}
        accept_evaluation(world.connection, last(world).id)
        # The recall of the index has a fixed minimum, whatever was accepted.
        assert failed(world) == {INDEXES}
    finally:
        upsert(world, "sparse", rows)


# Publication ------------------------------------------------------------------------------------------------------


def test_a_rebuild_with_worse_retrieval_does_not_serve(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows have each other's vectors; ids and fingerprints are right, so the full comparison finds no difference."""
    before = serving_collections(world)
    write = MilvusStore.upsert_dense

    def shuffled(self: MilvusStore, name: str, rows: Any, vectors: Any, *rest: Any) -> list[int]:
        return write(self, name, rows, vectors[::-1].copy(), *rest)

    with monkeypatch.context() as patch:
        patch.setattr(MilvusStore, "upsert_dense", shuffled)
        answer = rebuild(world, success=False)
    assert "retrieval set known" in answer["message"]
    assert "exact neighbours" in answer["message"]
    assert serving_collections(world) == before
    assert set(world.store.client.list_collections()) == set(before.values())
    rebuild(world)
    assert serving_collections(world) != before
    assert failed(world) == set()


def test_a_new_model_with_worse_retrieval_does_not_serve(world: World) -> None:
    """The new model's vectors are consistent but random, so no query finds its document."""
    before = serving_collections(world)
    other = world.configured(embedder="tests.support.embedders:CountingEmbedder")
    other.fill()
    assert "known items that were found before" in blocked_publication(other)
    assert serving_collections(world) == before
    assert failed(world) == set()
    remove_set(world.connection, "known")
    other.publish()
    assert all(after != before[kind] for kind, after in serving_collections(world).items())
    world.fill()
    world.publish()
    assert serving_collections(world).keys() == before.keys()
