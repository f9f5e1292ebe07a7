"""The embedder `openai` against a real server on loopback, which misbehaves like real servers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest

from rag_assets.definitions import build_definitions, build_resources
from rag_assets.pipeline.model_probe import PROBE_TEXTS
from rag_assets.settings.load import load_settings
from resources import waiting
from resources.embedders import openai_server
from resources.embedders.lexical import LexicalEmbedder
from resources.embedders.registry import create_embedder
from resources.errors import ConfigError, EmbedderUnavailable
from resources.postgres.documents.documents import failed_documents
from resources.postgres.vectors.rejections import forget_rejections
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


def test_a_server_that_breaks_off_its_answers_is_given_up_soon_and_reported_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openai_server, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(waiting, "NOTICE", 0.02)
    reports: list[str] = []
    monkeypatch.setattr(waiting, "_listener", lambda awaited, seconds: reports.append(awaited))
    part = b'HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{"data": ['
    with breaking_server(part) as (url, requests):
        broken = create_embedder(
            "openai", base_url=url, model="m", dimensions=1024, batch_texts=1, requests=2
        )
        with pytest.raises(EmbedderUnavailable, match="no response"):
            broken.embed(TEXTS[:2], {"dense"})
    assert len(requests) <= 2 * openai_server.SILENT_ATTEMPTS
    # One line for both requests.
    assert len(reports) == 1 and reports[0].startswith(f"the embedding server, {url}/embeddings: ")


@contextmanager
def breaking_server(part: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the URL of a server that sends a part of each answer, and the requests."""
    requests: list[bytes] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    requests.append(connection.recv(65536))
                    connection.sendall(part)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", requests
        listener.shutdown(socket.SHUT_RDWR)


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


#: A response's items, and the place of the one to damage.
Damage = Callable[[list[Any], int], object]

DAMAGED_ITEMS: Mapping[str, Damage] = {
    "shorter": lambda items, at: items[at].update(embedding=items[at]["embedding"][:48]),
    "empty": lambda items, at: items[at].update(embedding=[]),
    "null": lambda items, at: items[at].update(embedding=None),
    "without": lambda items, at: items[at].pop("embedding"),
    "NaN": lambda items, at: items[at]["embedding"].__setitem__(5, None),
    "zeros": lambda items, at: items[at].update(embedding=[0.0] * 1024),
    "too large": lambda items, at: items[at]["embedding"].__setitem__(5, 10**400),
    "nested": lambda items, at: items[at].update(embedding=[items[at]["embedding"]]),
    "words": lambda items, at: items[at].update(embedding=["many", "words"]),
    "base64": lambda items, at: items[at].update(embedding="not base64"),
    "missing item": lambda items, at: items.pop(at),
    "moved up": lambda items, at: [items.pop(at), *(item.update(index=n) for n, item in enumerate(items))],
    "two vectors": lambda items, at: items.append({**items[at], "embedding": [1.0] * 1024}),
    "negative index": lambda items, at: items[at].update(index=-1),
    "index of another": lambda items, at: items[at].update(index=items[at]["index"] - 1 or 2),
    "index as text": lambda items, at: items[at].update(index="0"),
    "no index": lambda items, at: items[at].pop("index"),
    "no item": lambda items, at: items.__setitem__(at, None),
}  # fmt: skip

REFUSALS: Mapping[str, tuple[int, Any]] = {
    "400": (400, {"error": "must have less than 512 tokens", "error_type": "Validation"}),
    "401 of a gateway": (401, b"blocked"),
    "403 of a filter": (403, {"error": {"message": "blocked by the content policy"}}),
    "404 of a firewall": (404, b"not found"),
    # TEI, for a text that is too long.
    "413": (413, {"error": "must have less than 512 tokens"}),
    "422": (422, {"detail": "input"}),
    "451": (451, b""),
    # Ollama, if the model's vector contains NaN.
    "500": (500, {"error": "unsupported value: NaN"}),
    "200 with an error": (200, {"error": {"message": "blocked by the content policy"}}),
    "200 with an error beside no data": (200, {"data": [], "error": {"code": "content_filter"}}),
    "200 with a page": (200, b"<html>Access denied"),
    "200 with nothing": (200, b""),
    "200 with a list": (200, []),
}


@pytest.mark.parametrize("damage", DAMAGED_ITEMS.values(), ids=DAMAGED_ITEMS)
def test_a_text_that_is_answered_wrongly_fails_alone(
    server: EmbeddingServer, damage: Damage
) -> None:
    def damaged(request: dict[str, Any]) -> Any:
        answer = server.answer({**request, "encoding_format": "float"})
        bad = [at for at, text in enumerate(request["input"]) if "opens at 7" in text]
        for at in bad:
            damage(answer["data"], at)
        return 200, answer

    server.reply = damaged
    result = embedder(server).embed(TEXTS, {"dense"})
    assert result.failures.keys() == {7} and "expected" in result.failures[7]
    assert_others_are_embedded(result, 7)


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refused_text_fails_alone(server: EmbeddingServer, refusal: tuple[int, Any]) -> None:
    server.reply = lambda request: (
        refusal if any("opens at 7" in text for text in request["input"]) else None
    )
    result = embedder(server).embed(TEXTS, {"dense"})
    assert (
        result.failures.keys() == {7}
        and str(refusal[0] if refusal[0] != 200 else "") in result.failures[7]
    )
    assert_others_are_embedded(result, 7)
    # Once before the batch is divided, and once before the failure counts.
    assert sum(request["input"] == ["test"] for request in server.requests) == 2


def assert_others_are_embedded(result: Any, failed: int) -> None:
    assert not result.dense[failed].any()
    others = [i for i in range(len(TEXTS)) if i != failed]
    np.testing.assert_allclose(result.dense[others], expected()[others], atol=1e-6)


def test_an_item_that_is_sent_twice_is_no_fault(server: EmbeddingServer) -> None:
    def twice(request: dict[str, Any]) -> Any:
        answer = server.answer(request)
        return 200, {**answer, "data": [*answer["data"], answer["data"][0]]}

    server.reply = twice
    result = embedder(server).embed(TEXTS, {"dense"})
    assert not result.failures
    np.testing.assert_allclose(result.dense, expected(), atol=1e-6)


def test_a_server_that_breaks_down_on_the_way_fails_no_text(server: EmbeddingServer) -> None:
    """It rejects one text, still embeds the harmless one, and then rejects everything."""
    broken = False

    def break_down(request: dict[str, Any]) -> Any:
        nonlocal broken
        probes = sum(request["input"] == ["test"] for request in server.requests)
        broken |= any("opens at 7" in text for text in request["input"])
        works = request["input"] == ["test"] and probes == 1
        return (400, {"error": "out of order"}) if broken and not works else None

    server.reply = break_down
    with pytest.raises(ConfigError, match="rejects even 'test': HTTP 400: out of order"):
        embedder(server, requests=1).embed(TEXTS, {"dense"})


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
    ((404, {"error": {"message": "no model lexical"}}),
     r"no model lexical. Fix RAG_OPENAI_MODEL \(lexical\) or RAG_OPENAI_BASE"),
    ((429, {"error": {"code": "insufficient_quota", "message": "Exceeded"}}), "Exceeded. Raise the account's quota"),
    ((307, b"", {"Location": "https://u:hush@there/v1"}), r"to https://u:\*\*\*@there/v1. Fix RAG_OPENAI_BASE_URL"),
    ((400, {"message": "no such thing"}), "rejects even 'test': HTTP 400: no such thing. Fix RAG_OPENAI_MODEL"),
    ((200, b"<html>"), 'expected JSON with "data".*found JSONDecodeError.*Fix RAG_OPENAI_BASE_URL'),
    ((200, {"error": {"message": f"no {KEY}"}}), r'expected JSON with "data".*found no \*\*\*\.'),
    ((200, {"data": []}), "rejects even 'test'.* expected index 0, found none"),
    ((200, {"data": [{"index": 1, "embedding": [1.0]}] * 4}), "index 0, found .1, 1, 1, 1"),
    ((200, {"data": [{"index": 0, "embedding": [1.0]}]}), "dimension 1024, found 1. Set RAG_OPENAI_DIMENSIONS=1 "),
    ((200, {"data": [{"index": 0, "embedding": []}]}), "even for 'test': expected a vector, found an empty one"),
    ((200, {"data": [{"index": 0, "embedding": [0.0] * 1024}]}), "even for 'test': expected finite numbers"),
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
    invalid = {"VECTORS": "dense,multi", "OPENAI_BASE_URL": "http://me:hush@host/v1"}
    for name, value in {"EMBEDDER": "openai", **invalid}.items():
        monkeypatch.setenv(f"RAG_{name}", value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    message = str(caught.value)
    assert (
        "set RAG_VECTORS=dense,sparse or RAG_VECTORS=dense" in message
        and "RAG_OPENAI_MODEL" in message
    )
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


def test_a_rejected_text_is_asked_for_once(world: World, server: EmbeddingServer) -> None:
    """The server rejects the first request, and four texts; later one of these. Another source has one of them, too."""
    rejected = ["REJECT", "TWO VECTORS"]

    def unreliable(request: dict[str, Any]) -> Any:
        if len(server.requests) == 1:
            return 500, {"error": "loading"}
        if any("REJECT" in text and "REJECT" in rejected for text in request["input"]):
            return 413, {"message": "too long\0"}
        answer = server.answer({**request, "encoding_format": "float"})
        for item, text in zip(answer["data"], request["input"], strict=True):
            if "TWO VECTORS" in text and "TWO VECTORS" in rejected:
                item["embedding"] = [item["embedding"], item["embedding"]]
        return 200, answer

    def texts_of(request: dict[str, Any]) -> list[str]:
        return [text for text in request["input"] if text not in (*PROBE_TEXTS, "test")]

    def asked() -> list[list[str]]:
        """Return the texts of each request since the last call, without harmless ones."""
        requests, server.requests[:] = list(server.requests), [{"input": []}]
        return [texts for request in requests if (texts := texts_of(request))]

    server.reply = unreliable
    world = world.configured(
        embedder="openai",
        vectors=("dense",),
        openai_base_url=server.url,
        openai_model="lexical",
        openai_query_prefix="query: ",
    )
    files = {f"{n}.md": f"REJECT number {n}." for n in range(3)}
    files |= {"a.md": "The observatory opens at nine.", "c.md": "Tea.", "two.md": "TWO VECTORS."}
    world.write(files)
    world.add()
    plan = world.fill()["chunk_embeddings"]
    assert (plan["inserted"], plan["failed"]) == (2, 4)
    states = dict(
        world.connection.execute(
            "SELECT source_key, error_message FROM documents WHERE indexing_status = 'failed'"
        ).fetchall()
    )
    assert states["0.md"] == "could not be embedded: HTTP 413: too long"
    assert "expected a list of numbers" in states["two.md"] and len(states) == 4
    assert world.search("when does the observatory open", k=1)[0].key == "a.md"

    asked()
    world.write({"same.md": "REJECT number 1.", "new.md": "Sugar."}, source="other")
    world.add("other")
    world.fill("other")
    world.fill()
    assert asked() == [["Sugar."]]
    assert world.failed_checks() == {}
    (same,) = failed_documents(world.connection, step="embed", limit=None)[-1:]
    assert (same.source, same.key) == ("other", "same.md") and same.reason.endswith("too long")

    # Another text is another attempt, and so is a person's wish: each text alone.
    world.write({"0.md": "REJECT no more: coffee."})
    forget_rejections(world.connection, [world.one("SELECT id FROM sources WHERE name = 'other'")])
    rejected.remove("REJECT")
    world.fill()
    assert asked() == [["REJECT no more: coffee."], ["REJECT number 1."]]
    assert [document.key for document in failed_documents(world.connection)] == [
        "2.md",
        "two.md",
        "same.md",
    ]
    world.fill("other")
    assert (
        asked() == []
        and world.one("SELECT error_message FROM documents WHERE source_key = 'same.md'") is None
    )
    settings = world.settings
    world.connection.execute("DELETE FROM documents WHERE indexing_status = 'failed'")
    world.fill()
    assert disagreements(settings.postgres_url, settings.milvus_uri, ("dense",)) == []
