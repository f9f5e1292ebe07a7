"""Settings: read from the environment, and every problem told at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rag_assets.settings import Settings, load_settings
from resources.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in os.environ:
        if name.startswith("RAG_"):
            monkeypatch.delenv(name)


def test_the_defaults_are_the_schema_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_MILVUS_URI", "http://milvus:19530")
    settings = load_settings()
    assert settings.dense_index == {
        "index_type": "HNSW",
        "metric_type": "IP",
        "params": {"M": 16, "efConstruction": 256},
    }
    assert settings.dense_search == {"ef": 128}
    assert settings.sparse_index["params"] == {"drop_ratio_build": 0.2}
    assert (settings.milvus_shards, settings.search_limit, settings.milvus_timeout) == (2, 100, 30)
    assert settings.effective_storage_url == str(settings.home / "storage")


def test_milvus_lite_has_an_index_that_it_builds_quickly() -> None:
    settings = load_settings()
    assert (settings.dense_index["index_type"], settings.dense_search) == ("IVF_FLAT", {"nprobe": 64})  # fmt: skip


def test_every_problem_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "RAG_VECTORS": "dense,dance",
        "RAG_CHUNK_MAX_CHARS": "300",
        "RAG_CHUNK_MIN_CHARS": "301",
        "RAG_BGE_M3_MAX_LENGTH": "few",
        "RAG_MILVUS_TIMEOUT": "0",
        "RAG_PARQUET_PRECISION": "float8",
        "RAG_DENSE_INDEX": "{not json",
        "RAG_DENSE_SEARCH": "[1]",
        "RAG_SPARSE_INDEX": '{"params": {}}',
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    message = str(caught.value)
    assert all(name in message for name in wrong), message
    assert (
        message.count("\n  RAG_") == len(wrong) - 1
    )  # the maximum is right, and named by the minimum
    assert "dance" in message and "few" in message and "index_type" in message


def test_values_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAG_VECTORS", " multi , dense,dense")
    monkeypatch.setenv("RAG_DENSE_SEARCH", '{"ef": 64}')
    monkeypatch.setenv("RAG_HOME", "~/rag")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAG_EMBEDDER", "bge-m3")
    monkeypatch.setenv("RAG_BGE_M3_BATCH_TOKENS", "")  # empty: as if it were not set
    monkeypatch.setenv("RAG_UNKNOWN", "is left to whoever reads it")
    settings = load_settings()
    assert settings.vectors == ("dense", "multi")  # in one order, each once
    assert settings.dense_search == {"ef": 64}
    assert settings.home == tmp_path / "rag"
    assert settings.bge_m3_batch_tokens is None


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().embedder = "other"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("index", "search"),
    [("HNSW", {"ef": 128}), ("IVF_FLAT", {"nprobe": 64}), ("FLAT", {})],
)
def test_search_parameters_are_those_of_the_index(
    monkeypatch: pytest.MonkeyPatch, index: str, search: dict[str, int]
) -> None:
    declared = {"index_type": index, "metric_type": "IP"}
    monkeypatch.setenv("RAG_DENSE_INDEX", json.dumps(declared))
    assert load_settings().dense_search == search
    monkeypatch.setenv("RAG_DENSE_SEARCH", '{"nprobe": 8}')
    assert load_settings().dense_search == {"nprobe": 8}
