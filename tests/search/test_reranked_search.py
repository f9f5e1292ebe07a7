"""Searches with a reranker: its order, the pages, what it gets to read, and what happens if it fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.hits import Hit
from rag_assets.search.request import MODES, SearchRequest
from rag_assets.search.searcher import Searcher
from resources.errors import ConfigError
from resources.rerankers.registry import create_reranker
from tests.support.reranking_server import RerankingServer, relevance, reranking_server
from tests.support.world import World, empty_world

OWNER = AccessScope.owner()
SIZE = 12
#: 40 texts; two documents have the same one, and each text of `long.md` is a hit of one document.
PAGES = {f"{n:02}.md": f"The comet of hall {n}." + " Look up." * (n * 7 % 40) for n in range(36)}
PAGES |= {"copy.md": PAGES["03.md"]}
PAGES |= {"long.md": "\n\n".join(f"Comet number {n}. " + f"word{n} " * 150 for n in range(4))}
TEXT = "the comet of the hall"


@pytest.fixture(scope="module")
def indexed(
    home: str, postgres_url: str, milvus_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("reranked")
    with empty_world(home, postgres_url, milvus_uri, folder) as world:  # pyright: ignore[reportArgumentType]
        for source, pages in {"docs": PAGES, "secret": {"comet.md": "A secret comet."}}.items():
            world.write(pages, source)
            world.add(source)
            world.fill(source)
        yield world


@pytest.fixture
def server() -> Iterator[RerankingServer]:
    with reranking_server() as server:
        yield server


@pytest.fixture
def searcher(indexed: World, server: RerankingServer) -> Searcher:
    reranker = create_reranker("endpoint", url=server.url, timeout=5.0)
    server.form = "tei"
    return replace(indexed.searcher(), reranker=reranker, reranked=SIZE)


def ids(hits: list[Hit]) -> list[str]:
    return [hit.chunk_id for hit in hits]


@pytest.mark.parametrize("mode", ["hybrid", "dense", "sparse"])
def test_the_first_candidates_are_ordered_by_the_reranker_and_the_others_follow(
    searcher: Searcher, server: RerankingServer, mode: str
) -> None:
    assert mode in MODES
    request = SearchRequest(TEXT, k=30, mode=mode)
    first = searcher.answer(request, OWNER)
    assert not first.reranked and first.hits[0].rerank_score is None
    answer = searcher.answer(replace(request, rerank=True), OWNER)
    assert answer.reranked and answer.not_reranked is None and len(answer.hits) == 30
    head, tail = list(answer.hits[:SIZE]), list(answer.hits[SIZE:])
    assert set(ids(head)) == set(ids(list(first.hits[:SIZE])))
    assert ids(tail) == ids(list(first.hits[SIZE:]))
    assert ids(head) != ids(list(first.hits[:SIZE]))
    for hit in head:
        assert hit.score == hit.rerank_score == pytest.approx(relevance(hit.content))
    assert [hit.score for hit in head] == sorted([hit.score for hit in head], reverse=True)
    assert {hit.rerank_score for hit in tail} == {None}
    assert [hit.rank for hit in answer.hits] == list(range(1, 31))
    stage = answer.stages[-1]
    assert stage.name == "rerank" and len(stage.scores) == SIZE and stage.milliseconds > 0
    (asked,) = server.requests
    assert asked["query"] == TEXT and len(set(asked["texts"])) == SIZE


@pytest.mark.parametrize("by_document", [False, True])
def test_pages_follow_one_another_without_gap_or_double(
    searcher: Searcher,
    server: RerankingServer,
    by_document: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that deeper pages ask for more candidates than the first one.
    monkeypatch.setattr("rag_assets.search.searcher.CANDIDATES", 10)
    # The scores of a hybrid depend on the number of candidates, and so does the order of its tail.
    request = SearchRequest(TEXT, k=100, mode="dense", rerank=True, by_document=by_document)
    whole = searcher.answer(request, OWNER)
    assert whole.exhausted and len(whole.hits) == (38 if by_document else 41)
    step = 5
    pages = [
        searcher.answer(replace(request, k=step, offset=offset), OWNER)
        for offset in range(0, 45, step)
    ]
    assert [hit.chunk_id for page in pages for hit in page.hits] == ids(list(whole.hits))
    # A page behind the candidates needs no reranker.
    assert [page.reranked for page in pages] == [True] * 3 + [False] * 6
    assert pages[3].not_reranked == "only the first 12 results are (RAG_RERANKER_CANDIDATES)"
    assert len(server.requests) == 4


def test_a_reranker_that_fails_leaves_the_first_order_and_a_reason(
    searcher: Searcher, server: RerankingServer
) -> None:
    request = SearchRequest(TEXT, k=10, neighbours=1)
    first = searcher.answer(request, OWNER)
    server.reply = lambda _: (200, [{"index": 0, "score": 1.0}])
    answer = searcher.answer(replace(request, rerank=True), OWNER)
    assert list(answer.hits) == list(first.hits)
    assert not answer.reranked
    assert answer.not_reranked is not None and "expected 12 scores, found 1" in answer.not_reranked
    assert answer.as_dict()["not_reranked"] == answer.not_reranked
    # A wrong setup is none of the search's business to hide.
    server.reply = lambda _: (401, b"")
    with pytest.raises(ConfigError, match="Fix RAG_RERANKER_API_KEY"):
        searcher.answer(replace(request, rerank=True), OWNER)


def test_the_reranker_gets_only_texts_in_scope_and_a_hit_keeps_its_neighbours(
    searcher: Searcher, server: RerankingServer
) -> None:
    request = SearchRequest("secret comet number", k=20, rerank=True, neighbours=1)
    answer = searcher.answer(request, AccessScope("a", frozenset({"docs"})))
    assert answer.reranked and any(hit.before or hit.after for hit in answer.hits)
    assert not any("secret" in text for request in server.requests for text in request["texts"])
    searcher.search(request, OWNER)
    assert "A secret comet." in server.requests[-1]["texts"]


def test_a_search_that_finds_nothing_asks_no_reranker(
    searcher: Searcher, server: RerankingServer
) -> None:
    answer = searcher.answer(SearchRequest(TEXT, rerank=True, radius=1.5), OWNER)
    assert (list(answer.hits), answer.reranked, server.requests) == ([], True, [])
