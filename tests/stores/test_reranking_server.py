"""The reranker `endpoint` against a real server on loopback, which misbehaves like real servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from resources.errors import ConfigError, RerankerFailed
from resources.rerankers import endpoint
from resources.rerankers.registry import create_reranker
from tests.support.reranking_server import RerankingServer, relevance, reranking_server

QUERY = "when does it open"
TEXTS = ["It opens at nine in the evening.", "Tea.", "天文台は夜の九時に開きます。", "half \ud800"]
SCORES = [relevance(text) for text in TEXTS]
KEY = "sk-hush"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RerankingServer]:
    monkeypatch.setattr(endpoint, "PAUSE", 0.01)
    with reranking_server() as server:
        yield server


def reranker(server: RerankingServer, **options: Any) -> Any:
    defaults = {"url": server.url, "model": "ranker", "api_key": KEY, "timeout": 5}
    return create_reranker("endpoint", **{**defaults, **options})


def test_scores_have_the_order_of_the_texts_in_the_form_of_cohere(server: RerankingServer) -> None:
    assert reranker(server, url=server.url + "/").scores(QUERY, TEXTS) == pytest.approx(SCORES)
    (request,) = server.requests
    assert request.pop("documents")[:3] == TEXTS[:3]
    assert request == {"model": "ranker", "query": QUERY, "top_n": 4}
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("model", ["", "ranker"])
def test_the_form_of_tei_is_found_and_remembered(server: RerankingServer, model: str) -> None:
    server.form = "tei"
    model_of_tei = reranker(server, model=model)
    for _ in range(2):
        assert model_of_tei.scores(QUERY, TEXTS) == pytest.approx(SCORES)
    asked = [request for request in server.requests if "texts" in request]
    assert len(asked) == 2 and all(request["truncate"] for request in asked)
    assert len(server.requests) == (4 if model else 2)
    assert "model" not in asked[0] or model


def test_a_server_that_cuts_texts_only_if_told_to_is_told_to(server: RerankingServer) -> None:
    def strict(request: dict[str, Any]) -> Any:
        return None if "truncate_prompt_tokens" in request else (400, {"message": "too long"})

    server.reply = strict
    assert reranker(server).scores(QUERY, TEXTS) == pytest.approx(SCORES)


def test_a_busy_server_is_asked_twice(server: RerankingServer) -> None:
    replies: list[Any] = [(503, b"")]
    server.reply = lambda _: replies.pop(0) if replies else None
    assert reranker(server).scores(QUERY, TEXTS) == pytest.approx(SCORES)
    replies += [(429, {"error": "slow"}, {"Retry-After": "600"}), (503, b""), (503, b"")]
    # The wait that it asks for exceeds the time.
    with pytest.raises(RerankerFailed, match="HTTP 429: slow"):
        reranker(server).scores(QUERY, TEXTS)
    assert len(server.requests) == 3
    with pytest.raises(RerankerFailed, match="HTTP 503"):
        reranker(server).scores(QUERY, TEXTS)
    assert replies == []


def test_a_server_that_does_not_answer_in_time_is_given_up(server: RerankingServer) -> None:
    server.reply = lambda _: time.sleep(0.5)
    with pytest.raises(RerankerFailed, match=r"no answer within 0.1 s \(RAG_RERANKER_TIMEOUT\)"):
        reranker(server, timeout=0.1).scores(QUERY, TEXTS)
    with pytest.raises(RerankerFailed, match=r"127.0.0.1:1/rerank: no response"):
        reranker(server, url="http://127.0.0.1:1").scores(QUERY, TEXTS)


def results(*scores: Any) -> Any:
    return 200, {"results": [{"index": i, "relevance_score": score} for i, score in scores]}


FAULTS: list[tuple[Any, str]] = [
    (results((0, 1), (1, 1), (2, 1)), "expected 4 scores, found 3"),
    (results((0, 1), (0, 1)), "expected each index from 0 to 3 once, found 0"),
    (results((4, 1)), "each index from 0 to 3 once, found 4"),
    (results((-1, 1)), "found -1"),
    (results((True, 1)), "found True"),
    (results((0, float("nan"))), "a finite number as the score, found nan"),
    (results((0, 10**400)), "a finite number as the score"),
    (results((0, "1")), "a finite number as the score, found '1'"),
    (results((0, None)), "found None"),
    ((200, b"<html>"), "expected JSON with \"results\".*found JSONDecodeError"),
    ((200, b"[" * 100_000), "found RecursionError"),
    ((200, {"error": f"no {KEY}"}), r"found no \*\*\*"),
    ((200, [1]), "found an item 1"),
    ((200, b" " * 1_100_000), "the response is wrong: expected at most .* bytes, found more"),
    ((402, {"message": "pay"}), "HTTP 402: pay"),
    ((429, {"error": {"code": "insufficient_quota", "message": "Exceeded"}}), "429: Exceeded"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "reason"), FAULTS, ids=lambda value: str(value)[:30])
def test_a_wrong_answer_is_a_failure_with_a_reason(
    server: RerankingServer, reply: Any, reason: str
) -> None:
    server.reply = lambda _: reply
    with pytest.raises(RerankerFailed, match=reason) as caught:
        reranker(server).scores(QUERY, TEXTS)
    assert "hush" not in str(caught.value)


def test_a_text_that_is_rejected_is_a_failure_with_the_reason_of_the_right_form(
    server: RerankingServer,
) -> None:
    def limited(request: dict[str, Any]) -> Any:
        many = len(request.get("texts", ())) > 2
        return (422, {"error": "batch size 4 > maximum 2"}) if many else None

    server.form, server.reply = "tei", limited
    with pytest.raises(RerankerFailed, match=r"rerank: HTTP 422: batch size 4 > maximum 2$"):
        reranker(server).scores(QUERY, TEXTS)


SETUPS: list[tuple[Any, str]] = [
    ((401, {"message": f"wrong key {KEY}"}), r"wrong key \*\*\*. Fix RAG_RERANKER_API_KEY"),
    ((403, b""), "HTTP 403. Fix RAG_RERANKER_API_KEY or its permissions"),
    ((404, {"error": {"message": "no ranker"}}), "no ranker. Fix RAG_RERANKER_URL .* or RAG_RERANKER_MODEL"),
    ((307, b"", {"Location": "https://u:hush@there/v1"}), r"to https://u:\*\*\*@there/v1. Fix RAG_RERANKER_URL"),
    ((400, {"message": "no such model"}), r"even 'test': HTTP 400: no such model. Fix RAG_RERANKER_MODEL \(ranker\)"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "message"), SETUPS, ids=lambda value: str(value)[:20])
def test_a_wrong_setup_is_an_error_that_names_the_setting(
    server: RerankingServer, reply: Any, message: str
) -> None:
    server.reply = lambda _: reply
    with pytest.raises(ConfigError, match=message) as caught:
        reranker(server).scores(QUERY, TEXTS)
    assert "hush" not in str(caught.value)


def test_a_key_that_cannot_be_sent_and_wrong_tls_are_errors(server: RerankingServer) -> None:
    with pytest.raises(ConfigError, match="RAG_RERANKER_API_KEY: expected printable") as caught:
        reranker(server, api_key="hush\nx")
    assert "hush" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"cannot be reached: .*Fix RAG_RERANKER_URL"):
        reranker(server, url=server.url.replace("http:", "https:")).scores(QUERY, TEXTS)
