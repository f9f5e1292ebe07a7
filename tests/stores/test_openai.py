"""The embedder `openai` against a real server on loopback, which misbehaves as real ones do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rag_assets.definitions import build_definitions, build_resources, without_secrets
from rag_assets.settings.load import load_settings
from resources.embedders import openai_server
from resources.embedders.lexical import LexicalEmbedder
from resources.embedders.registry import create_embedder
from resources.errors import ConfigError, EmbedderUnavailable
from tests.conftest import World
from tests.support.embedding_server import EmbeddingServer, embedding_server
from tests.support.oracle import disagreements

TEXTS = [f"the observatory opens at {n} {'and closes late ' * (n % 5)}" for n in range(23)]
KEY = "sk-hush"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingServer]:
    monkeypatch.setattr(openai_server, "FIRST_PAUSE", 0.01)
    with embedding_server() as server:
        yield server


def embedder(server: EmbeddingServer, **options: Any) -> Any:
    given = {"base_url": server.url, "model": "lexical", "dimensions": 1024, "api_key": KEY}
    return create_embedder("openai", **{**given, "batch_texts": 4, **options})


def expected(texts: list[str] = TEXTS) -> np.ndarray:
    dense = LexicalEmbedder().embed(texts, ["dense"]).dense
    assert dense is not None
    return dense


def test_vectors_in_the_order_of_the_texts_of_norm_1(server: EmbeddingServer) -> None:
    def backwards(request: dict[str, Any]) -> Any:
        time.sleep(0.01 * (len(server.requests) % 3))
        answer = server.answer(request)
        return 200, {**answer, "data": answer["data"][::-1]}

    server.reply = backwards
    texts = [*TEXTS[:5], " \n", *TEXTS[5:], "half a pair \ud800"]
    found = embedder(server, batch_chars=200, document_prefix="").embed(texts, {"dense"})
    assert found.failures.keys() == {5, 24} and not found.dense[[5, 24]].any()
    np.testing.assert_allclose(np.delete(found.dense, [5, 24], 0), expected(), atol=1e-6)
    assert found.tokens == len(TEXTS)
    for request in server.requests:
        assert len(request["input"]) <= 4 and sum(map(len, request["input"])) <= 200
        assert request["model"] == "lexical" and request["encoding_format"] == "base64"
    assert {each["authorization"] for each in server.headers} == {f"Bearer {KEY}"}
    asked = len(server.requests)
    model = embedder(server)
    assert model.embed([], {"dense"}).dense.shape == (0, 1024)
    assert model.embed(["", " "], {"dense"}).failures == {0: "blank", 1: "blank"}
    assert len(server.requests) == asked
    with pytest.raises(ConfigError, match="no sparse ones: set RAG_VECTORS=dense"):
        model.embed(TEXTS, {"dense", "sparse"})


def test_prefixes_and_what_the_identity_knows(server: EmbeddingServer) -> None:
    prefixed = {"document_prefix": "passage: ", "query_prefix": "query: "}
    model = embedder(server, **prefixed, dimensions=None)
    assert model.identity == embedder(server, **prefixed).identity
    assert model.dimension == 1024 and len(server.requests) == 1  # learned, and only once
    found = model.embed_queries(["when"], {"dense"})
    np.testing.assert_allclose(found.dense, expected(["query: when"]), atol=1e-6)
    model.embed(["at nine"], {"dense"})
    assert server.requests[-1]["input"] == ["passage: at nine"]
    assert "dimensions" not in server.requests[-1]
    named = model.identity
    assert KEY not in str(named) and "127.0.0.1" not in str(named)
    for same in ({"base_url": "http://elsewhere/v1"}, {"query_prefix": "q: "}, {"api_key": ""}):
        assert embedder(server, **{**prefixed, **same}).identity == named
    for other in ({"model": "e5"}, {"dimensions": 512}, {"document_prefix": ""}):
        assert embedder(server, **{**prefixed, **other}).identity != named


def test_a_busy_server_is_asked_again(server: EmbeddingServer) -> None:
    replies = [(429, {"error": "slow down"}, {"Retry-After": "1"}), (503, b""), (408, b"")]

    def busy_at_first(_: dict[str, Any]) -> Any:
        return replies.pop() if replies else None

    server.reply = busy_at_first
    started = time.monotonic()
    found = embedder(server).embed(TEXTS[:3], {"dense"})
    np.testing.assert_allclose(found.dense, expected(TEXTS[:3]), atol=1e-6)
    assert time.monotonic() - started >= 1 and len(server.requests) == 4


@pytest.mark.parametrize("status", [429, 500])
def test_a_server_that_stays_out_of_order_loses_no_text(
    server: EmbeddingServer, status: int
) -> None:
    server.reply = lambda _: (status, {"error": {"message": f"not now, {KEY}"}})
    with pytest.raises(EmbedderUnavailable, match=rf"HTTP {status}: not now, \*\*\*") as caught:
        embedder(server).embed(TEXTS, {"dense"})
    assert caught.value.transient and server.url in str(caught.value)


def test_a_server_that_hangs_or_is_gone(server: EmbeddingServer) -> None:
    awake = threading.Event()

    def hang(_: dict[str, Any]) -> None:
        awake.wait(5)

    server.reply = hang
    with pytest.raises(EmbedderUnavailable, match=r"no answer: .*timed out"):
        embedder(server, query_timeout=0.1).embed_queries(["when"], {"dense"})
    awake.set()
    with pytest.raises(EmbedderUnavailable, match="refused"):
        embedder(server, base_url="http://127.0.0.1:1/v1").embed_queries(["when"], {"dense"})


@pytest.mark.parametrize("status", [400, 413, 500])
def test_a_text_that_is_refused_fails_alone(server: EmbeddingServer, status: int) -> None:
    """413: TEI, for a text that is too long. 500: Ollama, where the model's vector has a NaN."""

    def refuse(request: dict[str, Any]) -> Any:
        if any("opens at 7" in text for text in request["input"]):
            return status, {"error": "must have less than 512 tokens", "error_type": "Validation"}
        return None

    server.reply = refuse
    found = embedder(server).embed(TEXTS, {"dense"})
    assert found.failures == {7: f"HTTP {status}: must have less than 512 tokens"}
    assert not found.dense[7].any()
    others = [i for i in range(len(TEXTS)) if i != 7]
    np.testing.assert_allclose(found.dense[others], expected()[others], atol=1e-6)
    assert sum(request["input"] == ["test"] for request in server.requests) == 1


def test_a_vector_without_a_direction_is_its_texts_failure(server: EmbeddingServer) -> None:
    def lame(request: dict[str, Any]) -> Any:
        answer = server.answer({**request, "encoding_format": "float"})
        for text, item in zip(request["input"], answer["data"], strict=True):
            if "at 3" in text:
                item["embedding"][5] = None
            if "at 9" in text or always:
                item["embedding"] = [0.0] * 1024
        return 200, answer

    always, server.reply = False, lame
    found = embedder(server).embed(TEXTS, {"dense"})  # floats, whatever was asked for
    assert found.failures.keys() == {3, 9} and "finite" in found.failures[3]
    np.testing.assert_allclose(found.dense[4], expected()[4], atol=1e-6)
    always = True
    with pytest.raises(ConfigError, match="even for 'test': expected a vector of finite"):
        embedder(server).embed(TEXTS, {"dense"})


def test_fields_that_a_server_does_not_know_are_left_out(server: EmbeddingServer) -> None:
    """vLLM refuses `dimensions` for models without matryoshka representation, even their own number."""

    def strict(request: dict[str, Any]) -> Any:
        if unknown := request.keys() - {"model", "input"}:
            return 400, {"detail": f"not supported: {sorted(unknown)}"}
        return None

    server.reply = strict
    model = embedder(server)
    for _ in range(2):
        found = model.embed(TEXTS, {"dense"})
        assert not found.failures
        np.testing.assert_allclose(found.dense, expected(), atol=1e-6)
    with pytest.raises(ConfigError, match=r"dimension 512, found 1024 .*not supported.*=1024"):
        embedder(server, dimensions=512).embed(TEXTS, {"dense"})


REPLIES: list[tuple[Any, str]] = [
    ((401, {"error": {"message": f"Incorrect API key {KEY}"}}), r"Incorrect API key \*\*\*.*_API_KEY"),
    ((403, {"error": {"message": "not yours"}}), "not yours. Mend RAG_OPENAI_API_KEY"),
    ((404, {"error": {"message": "no model lexical"}}), "no model lexical. Mend RAG_OPENAI_MODEL, or RAG_OPENAI_BASE"),
    ((429, {"error": {"code": "insufficient_quota", "message": "Exceeded"}}), "Exceeded. Mend the account's quota"),
    ((307, b"", {"Location": "https://u:hush@there/v1"}), r"to https://u:\*\*\*@there/v1. Mend RAG_OPENAI_BASE_URL"),
    ((400, {"message": "no such thing"}), "does not take even 'test': HTTP 400: no such thing. Mend RAG_OPENAI_MODEL"),
    ((200, b"<html>"), 'expected JSON with "data".*found JSONDecodeError'),
    ((200, {"data": []}), "expected 4 vectors with the indices 0 to 3, found"),
    ((200, {"data": [{"index": 1, "embedding": [1.0]}] * 4}), "indices 0 to 3, found .1, 1, 1, 1"),
    ((200, {"data": [{"index": i, "embedding": [1.0] * (i + 1)} for i in range(4)]}), "of one dimension, found"),
    ((200, {"data": [{"index": i, "embedding": [1.0]} for i in range(4)]}), "dimension 1024, found 1. Set RAG_"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "message"), REPLIES, ids=lambda value: str(value)[:20])
def test_what_no_further_try_mends_says_what_does(
    server: EmbeddingServer, reply: Any, message: str
) -> None:
    server.reply = lambda _: reply
    with pytest.raises(ConfigError, match=message) as caught:
        embedder(server).embed(TEXTS[:4], {"dense"})
    assert "hush" not in str(caught.value) and len(server.requests) <= 5


def test_settings_are_told_all_at_once_and_keep_the_key(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"EMBEDDER": "openai", "OPENAI_BASE_URL": "http://me:hush@host/v1"}.items():
        monkeypatch.setenv(f"RAG_{name}", value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    message = str(caught.value)
    assert "set RAG_VECTORS=dense" in message and "RAG_OPENAI_MODEL" in message
    assert "without a user in it" in message and "hush" not in message

    right = {"VECTORS": "dense", "OPENAI_BASE_URL": server.url + "/", "OPENAI_MODEL": "lexical"}
    for name, value in {**right, "OPENAI_API_KEY": KEY, "OPENAI_DIMENSIONS": "64"}.items():
        monkeypatch.setenv(f"RAG_{name}", value)
    settings = load_settings()
    assert KEY not in str(settings.embedder_options)
    resources = build_resources(settings)
    resources["embedder"].open().embed(["a text"], ["dense"])
    assert server.requests[0]["dimensions"] == 64
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    shown = without_secrets(resources, settings)["embedder"]
    assert KEY not in repr(shown) and build_definitions({**resources, "embedder": shown})
    with pytest.raises(ConfigError, match="printable") as refused:
        create_embedder("openai", **settings.embedder_options, api_key="hush\nx")
    assert "hush" not in str(refused.value)


def test_a_deployment_on_a_server(world: World, server: EmbeddingServer) -> None:
    """Its first request is turned away, one text is refused: the sync says which, and all else is found."""

    def moody(request: dict[str, Any]) -> Any:
        if len(server.requests) == 1:
            return 500, {"error": "loading"}
        if any("REFUSE" in text for text in request["input"]):
            return 413, {"message": "too long"}
        return None

    server.reply = moody
    world = world.configured(
        embedder="openai",
        vectors=("dense",),
        openai_base_url=server.url,
        openai_model="lexical",
        openai_query_prefix="query: ",
    )
    world.write({"a.md": "The observatory opens at nine.", "b.md": "REFUSE this.", "c.md": "Tea."})
    world.add()
    plan = world.sync()["chunk_embeddings"]
    assert (plan["inserted"], plan["failed"]) == (2, 1)
    error = world.one(
        "SELECT embedding_error FROM document_chunks WHERE embedding_status = 'failed'"
    )
    assert error == "HTTP 413: too long"
    assert world.searcher().search("when does the observatory open", k=1)[0].key == "a.md"
    assert server.requests[-1]["input"] == ["query: when does the observatory open"]
    world.connection.execute("DELETE FROM documents WHERE source_key = 'b.md'")
    world.sync()
    urls = world.settings.postgres_url, world.settings.milvus_uri
    assert disagreements(*urls, ("dense",)) == []
