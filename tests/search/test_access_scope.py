"""A scope of two of three sources gives the answers of a deployment without the third, in every field.

The sources: tests/support/three_sources.py. Each answer is compared with the answer after `vault` is removed, and with
the owner's, who must see the difference: so every test can fail. New fields of `Hit`, `Answer`, `Stage` and of
explanations are tested as soon as they exist.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rag_assets.deployment import Deployment
from rag_assets.operations.lineage import explain, explain_at
from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.filters import Filters
from rag_assets.pipeline.hits import Hit
from rag_assets.search.answer import Answer
from rag_assets.search.candidates import Stage
from rag_assets.search.request import MODES, SearchRequest
from resources.errors import ConfigError
from resources.milvus.search_request import Nearest
from resources.milvus.store import MilvusStore
from resources.postgres.documents.near_duplicates import near_duplicates, similar_documents
from resources.postgres.registry.sources import remove_source
from resources.postgres.registry.visible_sources import visible_sources
from resources.postgres.search.hydration import hydrate, surroundings
from tests.support.scoped_reads import MISTAKES, READS, READS_AT, erased_document
from tests.support.three_sources import (
    LICENCE,
    NOTHING,
    OWNER,
    QUERY,
    REQUESTS,
    SCOPE,
    TIMES,
    Seen,
    Views,
    chunks,
    document,
    lineage,
    look,
    observe,
    rounded,
    shown,
    three_sources,
)
from tests.support.world import World


@pytest.fixture(scope="module")
def world(
    home: Path, postgres_url: str, milvus_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with three_sources(home, postgres_url, milvus_uri, tmp_path_factory.mktemp("scope")) as world:
        yield world


@pytest.fixture(scope="module")
def seen(world: World) -> Seen:
    return observe(world)


@pytest.fixture(scope="module")
def alone(world: World, seen: Seen) -> Views:
    """The same scope after `vault` is removed. The tests that use it are the last ones of this file."""
    remove_source(world.connection, "vault")
    return look(world, SCOPE, seen.requests)


# With `vault` in place ------------------------------------------------------------------------------------------------


def test_nothing_of_a_source_out_of_scope_is_in_any_output(seen: Seen) -> None:
    text = seen.scoped.as_json()
    assert [secret for secret in seen.secrets if secret in text] == []
    # The owner sees them: only the erased document, and a run that embedded no text of the others, are in no output.
    owner = seen.owner.as_json()
    unseen = {secret for secret in seen.secrets if secret not in owner} - {"clavichord.md"}
    assert unseen < seen.runs
    assert all(answer.hits for answer in seen.scoped.answers.values())


def test_pages_follow_one_another_within_the_scope(world: World, seen: Seen) -> None:
    searcher, request = world.searcher(), SearchRequest(QUERY, k=50)
    whole = [hit.chunk_id for hit in searcher.search(request, SCOPE)]
    parts = [
        hit
        for offset in range(0, len(whole), 2)
        for hit in searcher.search(replace(request, k=2, offset=offset), SCOPE)
    ]
    assert [hit.chunk_id for hit in parts] == whole
    assert [hit.rank for hit in parts] == list(range(1, len(whole) + 1))
    assert {hit.source for hit in parts} == {"north", "south"}


def test_an_answer_is_exhausted_when_the_scope_is(seen: Seen) -> None:
    assert seen.scoped.answers["every hit"].exhausted
    assert not seen.owner.answers["every hit"].exhausted


def test_several_modes_at_once_stay_in_scope(world: World, seen: Seen) -> None:
    answers = world.searcher().answers(SearchRequest(QUERY, k=50), MODES, SCOPE)
    for mode, answer in answers.items():
        assert shown(answer) == shown(seen.scoped.answers[mode])


def test_asearch_stays_in_scope(world: World, seen: Seen) -> None:
    answer = asyncio.run(world.searcher().asearch(REQUESTS["hybrid"], SCOPE))
    assert shown(answer) == shown(seen.scoped.answers["hybrid"])


def test_one_searcher_answers_every_scope(world: World, seen: Seen) -> None:
    """It keeps query vectors and term statistics between searches."""
    searcher = world.searcher()
    for scope, views in ((OWNER, seen.owner), (SCOPE, seen.scoped), (OWNER, seen.owner)):
        answer = searcher.answer(REQUESTS["sparse"], scope)
        assert shown(answer) == shown(views.answers["sparse"])


def test_a_scope_without_sources_sees_nothing_and_does_not_ask_milvus(world: World) -> None:
    class Unasked(MilvusStore):
        def nearest(self, *_: Any, **__: Any) -> list[Nearest]:
            raise AssertionError("Milvus was asked")

    searcher = world.searcher()
    unasked = Unasked(searcher.milvus.uri, searcher.milvus.token)
    searcher = replace(searcher, collections=replace(searcher.collections, milvus=unasked))
    for request in REQUESTS.values():
        if not request.filters.source:
            answer = searcher.answer(request, NOTHING)
            assert not answer.hits and answer.exhausted
            assert not any(stage.scores for stage in answer.stages)
    assert near_duplicates(world.connection, NOTHING) == []
    assert visible_sources(world.connection, NOTHING) == []


def test_hits_are_counted_for_documents_in_scope_only(world: World) -> None:
    world.connection.execute("UPDATE document_chunks SET search_count = 0")
    for scope, counted in ((SCOPE, {"north", "south"}), (OWNER, {"north", "south", "vault"})):
        with Deployment(world.settings).searcher() as searcher:
            searcher.search(SearchRequest(QUERY, k=50), scope)
        rows = world.connection.execute(
            """SELECT DISTINCT s.name FROM document_chunks c JOIN sources s ON s.id = c.source_uuid
               WHERE c.search_count > 0"""
        )
        assert {source for (source,) in rows} == counted


@pytest.fixture
def moved(world: World, seen: Seen) -> Iterator[uuid.UUID]:
    """A document of `north` in Milvus that PostgreSQL has in `vault`."""
    twin = document(world, "twin.md", "north")
    move = (
        "UPDATE documents SET source_uuid = (SELECT id FROM sources WHERE name = %s) WHERE id = %s"
    )
    world.connection.execute(move, ["vault", twin])
    yield twin
    world.connection.execute(move, ["north", twin])


@pytest.mark.parametrize("name", REQUESTS)
def test_a_row_of_milvus_that_claims_another_source_is_dropped(
    world: World, moved: uuid.UUID, name: str
) -> None:
    ids = {str(moved), *map(str, chunks(world, moved))}
    answer = world.searcher().answer(REQUESTS[name], SCOPE)
    text = json.dumps(answer.as_dict())
    assert answer.hits and not any(row_id in text for row_id in ids)


def test_a_row_of_milvus_that_claims_another_source_is_a_candidate(
    world: World, moved: uuid.UUID
) -> None:
    """So the test above tests that PostgreSQL decides."""
    answer = world.searcher().answer(REQUESTS["source in scope"], OWNER)
    ids = {str(chunk) for chunk in chunks(world, moved)}
    assert ids & {chunk for stage in answer.stages for chunk, _ in stage.scores}
    assert not ids & {hit.chunk_id for hit in answer.hits}


# What PostgreSQL hydrates ---------------------------------------------------------------------------------------------


def vault_hits(seen: Seen, name: str) -> list[Hit]:
    hits = [hit for hit in seen.owner.answers[name].hits if hit.source == "vault"]
    assert hits
    return hits


def test_hydration_is_in_scope(world: World, seen: Seen) -> None:
    ids = [hit.chunk_id for hit in vault_hits(seen, "hybrid")]
    for filters in (Filters(), Filters(source=("vault",)), Filters(source=("vault", "north"))):
        assert hydrate(world.connection, ids, filters, SCOPE) == {}
        assert len(hydrate(world.connection, ids, filters, OWNER)) == len(ids)
    assert hydrate(world.connection, ids, Filters(), NOTHING) == {}


def test_holders_are_in_scope(world: World, seen: Seen) -> None:
    (hit,) = [hit for hit in seen.scoped.answers["hybrid"].hits if LICENCE in hit.content]

    def holders(scope: AccessScope) -> set[str]:
        texts = hydrate(world.connection, [hit.chunk_id], Filters(), scope)
        return {holder.source for text in texts.values() for holder in text.also_in} | {
            text.source for text in texts.values()
        }

    assert holders(OWNER) == {"north", "south", "vault"}
    assert holders(SCOPE) == {"north", "south"}
    assert holders(NOTHING) == set()


def test_surroundings_are_in_scope(world: World, seen: Seen) -> None:
    bare = [
        replace(hit, before=(), after=(), section=None) for hit in vault_hits(seen, "neighbours")
    ]
    assert surroundings(world.connection, bare, 2, SCOPE) == bare
    assert surroundings(world.connection, bare, 2, OWNER) != bare


def test_the_chunk_that_opens_a_section_is_in_scope(world: World, seen: Seen) -> None:
    chunk = str(chunks(world, document(world, "hours.md", "north"))[0])

    def section(views: Views) -> str | None:
        hits = {hit.chunk_id: hit for hit in views.answers["neighbours"].hits}
        return hits[chunk].section

    assert "treasure" in (section(seen.owner) or "")
    assert section(seen.scoped) is None


# Explanations ---------------------------------------------------------------------------------------------------------


def test_every_key_of_an_explanation_has_a_read(seen: Seen) -> None:
    for life in seen.scoped.explained.values():
        assert life.keys() == READS.keys()
    for life in seen.scoped.explained_at.values():
        assert life.keys() - {"at"} == READS_AT.keys()


@pytest.mark.parametrize(
    ("key", "read"),
    [*READS.items(), *READS_AT.items()],
    ids=[*READS, *(f"{key} at a moment" for key in READS_AT)],
)
def test_explanations_read_nothing_out_of_scope(
    world: World, key: str, read: Callable[[World, uuid.UUID, AccessScope], object]
) -> None:
    treasure = document(world, "treasure.md")
    assert not read(world, treasure, SCOPE)
    assert not read(world, treasure, NOTHING)
    assert read(world, treasure, OWNER)


def test_similar_documents_are_in_scope(world: World) -> None:
    near = document(world, "near.md", "north")
    similar = {scope: similar_documents(world.connection, near, scope) for scope in (SCOPE, OWNER)}
    assert {row["source"] for row in similar[SCOPE]} == {"south"}
    assert {row["source"] for row in similar[OWNER]} == {"south", "vault"}


def test_both_documents_of_a_near_duplicate_are_in_scope(world: World, seen: Seen) -> None:
    pairs = {(row.source, row.other_source) for row in seen.scoped.near_duplicates}
    assert pairs == {("south", "north")}
    everything = {(row.source, row.other_source) for row in seen.owner.near_duplicates}
    assert everything == pairs | {("north", "vault"), ("south", "vault"), ("vault", "north")}
    narrow = AccessScope("a reader of the south", frozenset({"south"}))
    assert near_duplicates(world.connection, narrow) == []
    assert near_duplicates(world.connection, SCOPE, "vault") == []


# Errors ---------------------------------------------------------------------------------------------------------------


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as error:
        call()
    return str(error.value)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_source_out_of_scope_is_an_unknown_source(world: World, mistake: str) -> None:
    call = MISTAKES[mistake]
    foreign = error_of(lambda: call(world, "vault", SCOPE))
    assert foreign.replace("vault", "nosuch") == error_of(lambda: call(world, "nosuch", SCOPE))
    call(world, "vault", OWNER)


def test_the_list_of_sources_in_an_error_is_in_scope(world: World) -> None:
    messages = {
        scope: error_of(lambda scope=scope: MISTAKES["a filter"](world, "nosuch", scope))
        for scope in (OWNER, SCOPE, NOTHING)
    }
    assert "known: north, south, vault. " in messages[OWNER]
    assert "known: north, south. " in messages[SCOPE]
    assert "known: none. " in messages[NOTHING]


@pytest.mark.parametrize("at", [False, True])
def test_a_document_out_of_scope_is_an_unknown_document(world: World, at: bool) -> None:
    def ask(name: str, scope: AccessScope) -> object:
        if at:
            return explain_at(lineage(world), name, None, datetime.now(UTC), scope)
        return explain(lineage(world), name, None, scope)

    for known, unknown in (
        ("xylophone.md", "quadrangle.md"),
        (str(document(world, "xylophone.md")), str(uuid.uuid4())),
        (str(erased_document(world)), str(uuid.uuid4())),
        ("clavichord.md", "quadrangle.md"),
    ):
        foreign = error_of(lambda known=known: ask(known, SCOPE))
        nowhere = error_of(lambda unknown=unknown: ask(unknown, SCOPE))
        assert foreign.replace(known, unknown) == nowhere
    ask("xylophone.md", OWNER)


def test_suggested_keys_are_in_scope(world: World) -> None:
    messages = {
        scope: error_of(lambda scope=scope: explain(lineage(world), "treasures.md", None, scope))
        for scope in (OWNER, SCOPE)
    }
    assert "Perhaps: vault/treasure.md" in messages[OWNER]
    assert "vault" not in messages[SCOPE] and "treasure.md" not in messages[SCOPE]


def test_a_key_names_the_documents_in_scope(world: World) -> None:
    several = {
        scope: error_of(lambda scope=scope: explain(lineage(world), "hours.md", None, scope))
        for scope in (OWNER, SCOPE)
    }
    assert "'hours.md' is the key of 3 documents" in several[OWNER]
    assert "'hours.md' is the key of 2 documents" in several[SCOPE]
    assert "vault" not in several[SCOPE]
    narrow = AccessScope("a reader of the north", frozenset({"north"}))
    assert explain(lineage(world), "hours.md", None, narrow)["source"] == "north"


# The scope itself -----------------------------------------------------------------------------------------------------


def test_every_search_needs_a_scope(world: World) -> None:
    searcher: Any = world.searcher()
    for call in (searcher.search, searcher.answer, searcher.asearch):
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'scope'"):
            call(QUERY)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'scope'"):
        searcher.answers(QUERY, MODES)


# After `vault` was removed: nothing changes for the scope -------------------------------------------------------------


#: They depend on the request and the reranker alone.
OF_RERANKER = {"reranked", "not_reranked"}


def test_every_field_is_compared() -> None:
    assert {field.name for field in fields(Answer)} - TIMES - OF_RERANKER == {
        "hits",
        "exhausted",
        "stages",
        "hidden",
        "best_hidden",
    }
    assert {field.name for field in fields(Stage)} - TIMES == {"name", "scores"}


@pytest.mark.parametrize("field", [field.name for field in fields(Hit)])
def test_no_field_of_a_hit_depends_on_a_source_out_of_scope(
    seen: Seen, alone: Views, field: str
) -> None:
    def values(views: Views) -> dict[str, list[Any]]:
        return {
            name: [rounded(hit)[field] for hit in answer.hits]
            for name, answer in views.answers.items()
        }

    assert values(seen.scoped) == values(alone)
    assert values(seen.owner) != values(alone)


@pytest.mark.parametrize(
    "field", [field.name for field in fields(Answer) if field.name not in TIMES | OF_RERANKER]
)
def test_no_field_of_an_answer_depends_on_a_source_out_of_scope(
    seen: Seen, alone: Views, field: str
) -> None:
    def values(views: Views) -> dict[str, object]:
        return {name: shown(answer)[field] for name, answer in views.answers.items()}

    assert values(seen.scoped) == values(alone)
    assert values(seen.owner) != values(alone)


@pytest.mark.parametrize("key", READS)
def test_no_key_of_an_explanation_depends_on_a_source_out_of_scope(
    seen: Seen, alone: Views, key: str
) -> None:
    for name, life in seen.scoped.explained.items():
        assert life[key] == alone.explained[name][key]


@pytest.mark.parametrize("key", READS_AT)
def test_no_key_of_an_explanation_of_a_moment_depends_on_a_source_out_of_scope(
    seen: Seen, alone: Views, key: str
) -> None:
    for name, life in seen.scoped.explained_at.items():
        assert life[key] == alone.explained_at[name][key]


def test_no_listing_depends_on_a_source_out_of_scope(seen: Seen, alone: Views) -> None:
    assert seen.scoped.near_duplicates == alone.near_duplicates
    assert seen.scoped.sources == alone.sources == ["north", "south"]
