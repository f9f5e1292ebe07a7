"""The embedder `openai` against a real server on loopback, which misbehaves like real servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rag_assets.definitions import build_definitions, build_resources
from rag_assets.settings.load import load_settings
from resources.embedders import openai_server
from resources.embedders.lexical import LexicalEmbedder
from resources.embedders.registry import create_embedder
from resources.errors import ConfigError, EmbedderUnavailable
from tests.support.embedding_server import EmbeddingServer, embedding_server
from tests.support.oracle import disagreements
from tests.support.world import World

TEXTS = [f"the observatory opens at {n} {'and closes late ' * (n % 5)}" for n in range(23)]
KEY = "sk-hush"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddingServer]:
    monkeypatch.setattr(openai_server, "FIRST_PAUSE", 0.01)
    with embedding_server() as server:
        yield server


def embedder(server: EmbeddingServer, **options: Any) -> Any:
    defaults = {"base_url": server.url, "model": "lexical", "dimensions": 1024, "api_key": KEY}
    return create_embedder("openai", **{**defaults, "batch_texts": 4, **options})


def expected(texts: list[str] = TEXTS) -> np.ndarray:
    dense = LexicalEmbedder().embed(texts, ["dense"]).dense
    assert dense is not None
    return dense


def test_vectors_have_norm_1_and_the_order_of_the_texts(server: EmbeddingServer) -> None:
    def backwards(request: dict[str, Any]) -> Any:
        time.sleep(0.01 * (len(server.requests) % 3))
        answer = server.answer(request)
        return 200, {**answer, "data": answer["data"][::-1]}

    server.reply = backwards
    texts = [*TEXTS[:5], " \n", *TEXTS[5:], "half a pair \ud800"]
    result = embedder(server, batch_chars=200, document_prefix="").embed(texts, {"dense"})
    assert result.failures.keys() == {5, 24} and not result.dense[[5, 24]].any()
    np.testing.assert_allclose(np.delete(result.dense, [5, 24], 0), expected(), atol=1e-6)
    assert result.tokens == len(TEXTS)
    for request in server.requests:
        assert len(request["input"]) <= 4 and sum(map(len, request["input"])) <= 200
        assert request["model"] == "lexical" and request["encoding_format"] == "base64"
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    request_count = len(server.requests)
    model = embedder(server)
    assert model.embed([], {"dense"}).dense.shape == (0, 1024)
    assert model.embed(["", " "], {"dense"}).failures == {0: "blank", 1: "blank"}
    assert len(server.requests) == request_count
    with pytest.raises(ConfigError, match="no sparse ones: set RAG_VECTORS=dense"):
        model.embed(TEXTS, {"dense", "sparse"})


def test_the_identity_contains_what_changes_a_stored_vector(server: EmbeddingServer) -> None:
    prefixed = {"document_prefix": "passage: ", "query_prefix": "query: "}
    model = embedder(server, **prefixed, dimensions=None)
    assert model.identity == embedder(server, **prefixed).identity
    # The dimension is learned once.
    assert model.dimension == 1024 and len(server.requests) == 1
    result = model.embed_queries(["when"], {"dense"})
    np.testing.assert_allclose(result.dense, expected(["query: when"]), atol=1e-6)
    model.embed(["at nine"], {"dense"})
    assert server.requests[-1]["input"] == ["passage: at nine"]
    assert "dimensions" not in server.requests[-1]
    identity = model.identity
    assert KEY not in str(identity) and "127.0.0.1" not in str(identity)
    for irrelevant in (
        {"base_url": "http://elsewhere/v1"},
        {"query_prefix": "q: "},
        {"api_key": ""},
    ):
        assert embedder(server, **{**prefixed, **irrelevant}).identity == identity
    for relevant in ({"model": "e5"}, {"dimensions": 512}, {"document_prefix": ""}):
        assert embedder(server, **{**prefixed, **relevant}).identity != identity


def test_a_request_to_a_busy_server_is_repeated(server: EmbeddingServer) -> None:
    replies = [(429, {"error": "slow down"}, {"Retry-After": "1"}), (503, b""), (408, b"")]

    def busy_at_first(_: dict[str, Any]) -> Any:
        return replies.pop() if replies else None

    server.reply = busy_at_first
    started = time.monotonic()
    result = embedder(server).embed(TEXTS[:3], {"dense"})
    np.testing.assert_allclose(result.dense, expected(TEXTS[:3]), atol=1e-6)
    assert time.monotonic() - started >= 1 and len(server.requests) == 4


@pytest.mark.parametrize("status", [429, 500])
def test_a_server_that_stays_down_is_a_transient_error_and_fails_no_text(
    server: EmbeddingServer, status: int
) -> None:
    server.reply = lambda _: (status, {"error": {"message": f"not now, {KEY}"}})
    with pytest.raises(EmbedderUnavailable, match=rf"HTTP {status}: not now, \*\*\*") as caught:
        embedder(server).embed(TEXTS, {"dense"})
    assert caught.value.transient and server.url in str(caught.value)


def test_a_server_that_hangs_or_is_gone_is_unavailable(server: EmbeddingServer) -> None:
    awake = threading.Event()

    def hang(_: dict[str, Any]) -> None:
        awake.wait(5)

    server.reply = hang
    with pytest.raises(EmbedderUnavailable, match=r"no response: .*timed out"):
        embedder(server, query_timeout=0.1).embed_queries(["when"], {"dense"})
    awake.set()
    with pytest.raises(EmbedderUnavailable, match="refused"):
        embedder(server, base_url="http://127.0.0.1:1/v1").embed_queries(["when"], {"dense"})


@pytest.mark.parametrize("status", [400, 413, 500])
def test_a_rejected_text_fails_alone(server: EmbeddingServer, status: int) -> None:
    """413: TEI, for a text that is too long. 500: Ollama, if the model's vector contains NaN."""

    def reject(request: dict[str, Any]) -> Any:
        if any("opens at 7" in text for text in request["input"]):
            return status, {"error": "must have less than 512 tokens", "error_type": "Validation"}
        return None

    server.reply = reject
    result = embedder(server).embed(TEXTS, {"dense"})
    assert result.failures == {7: f"HTTP {status}: must have less than 512 tokens"}
    assert not result.dense[7].any()
    others = [i for i in range(len(TEXTS)) if i != 7]
    np.testing.assert_allclose(result.dense[others], expected()[others], atol=1e-6)
    assert sum(request["input"] == ["test"] for request in server.requests) == 1


def test_a_text_with_an_invalid_vector_fails_alone(server: EmbeddingServer) -> None:
    def invalid_vectors(request: dict[str, Any]) -> Any:
        answer = server.answer({**request, "encoding_format": "float"})
        for text, item in zip(request["input"], answer["data"], strict=True):
            if "at 3" in text:
                item["embedding"][5] = None
            if "at 9" in text or always:
                item["embedding"] = [0.0] * 1024
        return 200, answer

    always, server.reply = False, invalid_vectors
    # The server returns floats, although the request asks for base64.
    result = embedder(server).embed(TEXTS, {"dense"})
    assert result.failures.keys() == {3, 9} and "finite" in result.failures[3]
    np.testing.assert_allclose(result.dense[4], expected()[4], atol=1e-6)
    always = True
    with pytest.raises(ConfigError, match="even for 'test': expected finite numbers"):
        embedder(server).embed(TEXTS, {"dense"})


def test_fields_that_a_server_rejects_are_omitted(server: EmbeddingServer) -> None:
    """For models without matryoshka representation, vLLM rejects `dimensions`, even the model's own number."""

    def strict(request: dict[str, Any]) -> Any:
        if unknown := request.keys() - {"model", "input"}:
            return 400, {"detail": f"not supported: {sorted(unknown)}"}
        return None

    server.reply = strict
    model = embedder(server)
    for _ in range(2):
        result = model.embed(TEXTS, {"dense"})
        assert not result.failures
        np.testing.assert_allclose(result.dense, expected(), atol=1e-6)
    with pytest.raises(ConfigError, match=r"dimension 512, found 1024 .*not supported.*=1024"):
        embedder(server, dimensions=512).embed(TEXTS, {"dense"})


REPLIES: list[tuple[Any, str]] = [
    ((401, {"error": {"message": f"Incorrect API key {KEY}"}}), r"Incorrect API key \*\*\*.*_API_KEY"),
    ((403, {"error": {"message": "not yours"}}), "not yours. Fix RAG_OPENAI_API_KEY"),
    ((404, {"error": {"message": "no model lexical"}}), "no model lexical. Fix RAG_OPENAI_MODEL or RAG_OPENAI_BASE"),
    ((429, {"error": {"code": "insufficient_quota", "message": "Exceeded"}}), "Exceeded. Raise the account's quota"),
    ((307, b"", {"Location": "https://u:hush@there/v1"}), r"to https://u:\*\*\*@there/v1. Fix RAG_OPENAI_BASE_URL"),
    ((400, {"message": "no such thing"}), "rejects even 'test': HTTP 400: no such thing. Fix RAG_OPENAI_MODEL"),
    ((200, b"<html>"), 'expected JSON with "data".*found JSONDecodeError'),
    ((200, {"data": []}), "expected 4 vectors with the indices 0 to 3, found"),
    ((200, {"data": [{"index": 1, "embedding": [1.0]}] * 4}), "indices 0 to 3, found .1, 1, 1, 1"),
    ((200, {"data": [{"index": i, "embedding": [1.0] * (i + 1)} for i in range(4)]}), "of one dimension, found"),
    ((200, {"data": [{"index": i, "embedding": [1.0]} for i in range(4)]}), "dimension 1024, found 1. Set RAG_"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "message"), REPLIES, ids=lambda value: str(value)[:20])
def test_an_error_that_no_retry_fixes_states_the_remedy(
    server: EmbeddingServer, reply: Any, message: str
) -> None:
    server.reply = lambda _: reply
    with pytest.raises(ConfigError, match=message) as caught:
        embedder(server).embed(TEXTS[:4], {"dense"})
    assert "hush" not in str(caught.value) and len(server.requests) <= 5


def test_all_invalid_settings_are_reported_without_the_key(
    server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"EMBEDDER": "openai", "OPENAI_BASE_URL": "http://me:hush@host/v1"}.items():
        monkeypatch.setenv(f"RAG_{name}", value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    message = str(caught.value)
    assert "set RAG_VECTORS=dense" in message and "RAG_OPENAI_MODEL" in message
    assert "without a user in it" in message and "hush" not in message

    valid = {"VECTORS": "dense", "OPENAI_BASE_URL": server.url + "/", "OPENAI_MODEL": "lexical"}
    for name, value in {**valid, "OPENAI_API_KEY": KEY, "OPENAI_DIMENSIONS": "64"}.items():
        monkeypatch.setenv(f"RAG_{name}", value)
    settings = load_settings()
    assert KEY not in str(settings.embedder_options)
    resources = build_resources(settings)
    resources["embedder"].open().embed(["a text"], ["dense"])
    assert server.requests[0]["dimensions"] == 64
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    # Dagster shows and stores the configuration of resources: it gets none.
    job = build_definitions(resources, settings).resolve_job_def("sync_source")
    assert KEY not in repr(job.get_job_snapshot())
    with pytest.raises(ConfigError, match="printable") as caught:
        create_embedder("openai", **settings.embedder_options, api_key="hush\nx")
    assert "hush" not in str(caught.value)


def test_a_sync_records_the_rejected_text_and_indexes_the_others(
    world: World, server: EmbeddingServer
) -> None:
    """The server rejects the first request and one text."""

    def unreliable(request: dict[str, Any]) -> Any:
        if len(server.requests) == 1:
            return 500, {"error": "loading"}
        if any("REJECT" in text for text in request["input"]):
            return 413, {"message": "too long"}
        return None

    server.reply = unreliable
    world = world.configured(
        embedder="openai",
        vectors=("dense",),
        openai_base_url=server.url,
        openai_model="lexical",
        openai_query_prefix="query: ",
    )
    world.write({"a.md": "The observatory opens at nine.", "b.md": "REJECT this.", "c.md": "Tea."})
    world.add()
    plan = world.sync()["chunk_embeddings"]
    assert (plan["inserted"], plan["failed"]) == (2, 1)
    error = world.one(
        "SELECT embedding_error FROM document_chunks WHERE embedding_status = 'failed'"
    )
    assert error == "HTTP 413: too long"
    assert world.search("when does the observatory open", k=1)[0].key == "a.md"
    assert server.requests[-1]["input"] == ["query: when does the observatory open"]
    world.connection.execute("DELETE FROM documents WHERE source_key = 'b.md'")
    world.sync()
    urls = world.settings.postgres_url, world.settings.milvus_uri
    assert disagreements(*urls, ("dense",)) == []
