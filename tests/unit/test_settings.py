"""Settings: read from the environment and the settings file; every problem is reported at once."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from rag_assets.settings.listing import list_settings
from rag_assets.settings.load import (
    SECRETS,
    Settings,
    load_settings,
    settings_file,
    write_setting,
)
from rag_assets.settings.unknown_variables import unknown_variables
from resources.errors import ConfigError


@pytest.fixture(autouse=True)
def _without_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("RAG_"):
            monkeypatch.delenv(name)


#: Users have these variables in their environments and settings files.
VARIABLES = """
    BGE_M3_BATCH_TOKENS BGE_M3_DEVICE BGE_M3_MAX_LENGTH BGE_M3_MODEL BGE_M3_PRECISION BGE_M3_REVISION CHUNK_MAX_CHARS
    CHUNK_MIN_CHARS COMPACTION_SCHEDULE DENSE_INDEX DENSE_SEARCH EMBEDDER EVAL_MARGIN FUSION GUARD_DOCUMENTS GUARD_SHARE
    HISTORY_DAYS HISTORY_SCHEDULE HOME LOCK_TIMEOUT MILVUS_SHARDS MILVUS_TIMEOUT MILVUS_TOKEN MILVUS_URI
    NIGHTLY_CHECK_SCHEDULE NIGHTLY_EVALUATION_SCHEDULE OPENAI_API_KEY OPENAI_BASE_URL OPENAI_BATCH_CHARS
    OPENAI_BATCH_TEXTS OPENAI_DIMENSIONS OPENAI_DOCUMENT_PREFIX OPENAI_MODEL OPENAI_QUERY_PREFIX OPENAI_QUERY_TIMEOUT
    OPENAI_REQUESTS OPENAI_TIMEOUT OUTBOX_SECONDS PARQUET_PRECISION PARSERS PARSE_MEMORY_MIB PARSE_SECONDS POSTGRES_URL
    QUICK_CHECK_SCHEDULE REPAIR_ATTEMPTS RERANKER RERANKER_API_KEY RERANKER_CANDIDATES RERANKER_DEVICE
    RERANKER_MAX_LENGTH RERANKER_MODEL RERANKER_REVISION RERANKER_TIMEOUT RERANKER_URL RETRY_DELAY
    SEARCH_CONSISTENCY SEARCH_LIMIT SPARSE_INDEX STORAGE_URL
    SYNC_GRACE_MINUTES SYNC_SCHEDULE TIMEZONE VECTORS
"""


def test_no_variable_is_renamed_and_each_is_described() -> None:
    fields = Settings.model_fields
    assert {name.upper() for name in fields} >= set(VARIABLES.split())
    assert [name for name, field in fields.items() if not field.description] == []


def test_the_default_index_depends_on_the_milvus_server(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert settings.dense_index["index_type"] == "IVF_FLAT"
    assert settings.dense_search == {"nprobe": 64, "candidates": 1000}


def test_every_problem_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
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
        "RAG_SYNC_SCHEDULE": "99 99 99 99 99",
        "RAG_HISTORY_SCHEDULE": "nonsense",
        "RAG_MILVUS_URI": "milvus-lite.db",
        "RAG_HOME": __file__,
        "RAG_POSTGRES_POOL_MAX": "2",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    message = str(caught.value)
    assert all(name in message for name in wrong), message
    # RAG_CHUNK_MAX_CHARS itself is valid; the message about the minimum names it.
    assert message.count("\n  RAG_") == len(wrong) - 1
    assert "dance" in message and "few" in message and "index_type" in message
    assert 'RAG_BGE_M3_MAX_LENGTH="few": expected a whole number' in message
    assert 'RAG_MILVUS_TIMEOUT="0": expected more than 0' in message
    assert "RAG_DENSE_SEARCH=[1]: expected a JSON object" in message
    assert 'RAG_HISTORY_SCHEDULE="nonsense": expected a cron expression of five fields' in message
    assert 'RAG_MILVUS_URI="milvus-lite.db": expected the address of a server' in message
    assert "this is a file, not a folder" in message
    assert not re.search(r"Value error|Input should|should match|valid integer", message)


def test_a_reranker_needs_what_it_asks_and_gets_its_options_without_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {"URL": "http://me:hush@host", "CANDIDATES": "0", "TIMEOUT": "inf"}.items():
        monkeypatch.setenv(f"RAG_RERANKER_{name}", value)
    messages: list[str] = []
    for kind in ("other", "cross-encoder", "endpoint"):
        monkeypatch.setenv("RAG_RERANKER", kind)
        with pytest.raises(ConfigError) as caught:
            load_settings()
        messages.append(str(caught.value))
    assert "expected '', 'cross-encoder' or 'endpoint'" in messages[0]
    assert 'RAG_RERANKER_MODEL="": expected the name or folder of a cross-encoder' in messages[1]
    assert "expected the server's address without a user in it" in messages[2]
    assert all("at least 1" in message and "finite" in message for message in messages)
    assert "hush" not in "".join(messages)
    for name, value in {"URL": "http://host/v1", "CANDIDATES": "50", "TIMEOUT": "2"}.items():
        monkeypatch.setenv(f"RAG_RERANKER_{name}", value)
    monkeypatch.setenv("RAG_RERANKER_API_KEY", "hush")
    options = {"url": "http://host/v1", "model": "", "timeout": 2}
    assert load_settings().reranker_options == options
    monkeypatch.setenv("RAG_RERANKER", "cross-encoder")
    monkeypatch.setenv("RAG_RERANKER_MODEL", str(tmp_path))
    monkeypatch.setenv("RAG_RERANKER_REVISION", "main")
    with pytest.raises(ConfigError, match="expected none for a folder"):
        load_settings()
    monkeypatch.delenv("RAG_RERANKER_REVISION")
    assert load_settings().reranker_options.keys() == {
        *("model", "revision", "device", "max_length", "timeout")
    }


def test_values_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAG_VECTORS", " multi , dense,dense")
    monkeypatch.setenv("RAG_DENSE_SEARCH", '{"nprobe": 32}')
    monkeypatch.setenv("RAG_HOME", "~/rag")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAG_EMBEDDER", "bge-m3")
    # An empty value counts as not set.
    monkeypatch.setenv("RAG_BGE_M3_BATCH_TOKENS", "")
    settings = load_settings()
    # Each kind once, in a fixed order.
    assert settings.vectors == ("dense", "multi")
    assert settings.dense_search == {"nprobe": 32}
    assert settings.home == tmp_path / "rag"
    assert settings.bge_m3_batch_tokens is None


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().embedder = "other"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("index", "search"),
    [("HNSW", {"ef": 128}), ("IVF_FLAT", {"nprobe": 64, "candidates": 1000}), ("FLAT", {})],
)
def test_the_default_search_parameters_fit_the_index(
    monkeypatch: pytest.MonkeyPatch, index: str, search: dict[str, int]
) -> None:
    declared = {"index_type": index, "metric_type": "IP"}
    monkeypatch.setenv("RAG_DENSE_INDEX", json.dumps(declared))
    assert load_settings().dense_search == search


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"dense_index": {"index_type": "HNWS"}}, "index_type: expected one of FLAT, IVF_FLAT"),
        ({"dense_index": {"index_type": "SCANN"}}, "IVF_SQ8, HNSW, HNSW_SQ; found SCANN"),
        ({"dense_index": {"index_type": "FLAT", "metric_type": "L2"}}, "metric_type: expected IP"),
        ({"dense_index": {"index_type": "HNSW", "params": {"M": 4096}}}, "from 2 to 2048, found 4096"),
        ({"dense_index": {"index_type": "HNSW", "params": {"nlist": 4}}}, "nlist: HNSW has M, efConstruction"),
        ({"dense_search": {"ef": 64}}, "ef: IVF_FLAT has nprobe"),
        ({"dense_search": {"nprobe": 0}}, "nprobe: expected a whole number from 1 to 65536, found 0"),
        ({"dense_search": {"nprobe": 129}}, "nprobe: expected at most nlist, 128, found 129"),
    ],
)  # fmt: skip
def test_a_parameter_that_an_index_does_not_have_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, dict[str, object]], expected: str
) -> None:
    for name, value in variables.items():
        full = {"metric_type": "IP", **value} if name == "dense_index" else value
        monkeypatch.setenv(f"RAG_{name.upper()}", json.dumps(full))
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert expected in str(caught.value)


def test_the_environment_overrides_the_settings_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAG_HOME", str(tmp_path))
    settings_file(tmp_path).write_text("RAG_SEARCH_LIMIT=50\n")
    for nprobe in (16, 32):
        write_setting(tmp_path, "RAG_DENSE_SEARCH", json.dumps({"nprobe": nprobe}))
    settings = load_settings()
    assert (settings.search_limit, settings.dense_search) == (50, {"nprobe": 32})
    monkeypatch.setenv("RAG_DENSE_SEARCH", '{"nprobe": 8}')
    assert load_settings().dense_search == {"nprobe": 8}
    monkeypatch.delenv("RAG_DENSE_SEARCH")
    write_setting(tmp_path, "RAG_DENSE_SEARCH", '{"ef": 8}')
    with pytest.raises(ConfigError, match=r"ef: IVF_FLAT has nprobe(.|\n)*settings\.env"):
        load_settings()


def test_a_settings_file_in_another_encoding_is_named_without_its_lines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAG_HOME", str(tmp_path))
    settings_file(tmp_path).write_bytes("RAG_OPENAI_API_KEY=clé\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"settings\.env is not UTF-8") as caught:
        load_settings()
    assert "cl" not in str(caught.value).replace(str(tmp_path), "")


def test_unknown_variables_are_named_with_the_setting_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = settings_file(tmp_path)
    file.write_text("# RAG_COMMENT=1\nexport RAG_SEARCH_LIMITS=5\nRAG_VECTORS='dense'\nOTHER=1\n")
    monkeypatch.setattr("sys.argv", ["rag", "sources", "add", "x", "password=@RAG_WIKI"])
    environment = {
        "RAG_POSTGRES_URI": "postgresql://me:hush@host/x",
        "RAG_TYPO": "1",
        "RAG_HOME": str(tmp_path),
        "RAG_CREDENTIALS_KEY": "read by resources/credentials.py",
        "RAG_WIKI": "referenced by the command line",
        "RAG_SWEEP": "of the tests",
        "STORAGE_URL": "not ours",
    }
    assert [(v.name, v.place, v.nearest) for v in unknown_variables(environment, file)] == [
        ("RAG_POSTGRES_URI", "the environment", "RAG_POSTGRES_URL"),
        ("RAG_TYPO", "the environment", ""),
        ("RAG_SEARCH_LIMITS", str(file), "RAG_SEARCH_LIMIT"),
    ]
    assert "hush" not in "".join(map(str, unknown_variables(environment, file)))


def test_the_settings_are_listed_with_their_origin_and_without_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAG_HOME", str(tmp_path))
    monkeypatch.setenv("RAG_MILVUS_TOKEN", "hush-1")
    monkeypatch.setenv("RAG_POSTGRES_URL", "postgresql://me:hush-2@host/x")
    settings_file(tmp_path).write_text("RAG_SEARCH_LIMIT=50\n")
    entries = {entry.name: entry for entry in list_settings(load_settings())}
    assert list(entries) == [f"RAG_{name.upper()}" for name in Settings.model_fields]
    assert entries["RAG_SEARCH_LIMIT"][1:4] == (50, 100, "settings.env")
    assert entries["RAG_MILVUS_TOKEN"][1:4] == ("***", "", "environment")
    assert entries["RAG_VECTORS"][1:4] == (["dense", "sparse"], ["dense", "sparse"], "default")
    assert "hush" not in repr(entries)
    assert all(entry.meaning for entry in entries.values())
    # A new setting that sounds like a secret must be listed as one, or not be a text.
    assert {
        name
        for name, field in Settings.model_fields.items()
        if field.annotation is str and re.search("token|key|password|secret", name)
    } == SECRETS


def test_no_group_of_settings_replaces_a_validator_of_another_one() -> None:
    """In one class, methods of the same name are one: the validator of the other group would not run."""
    names = [
        name
        for group in Settings.__bases__
        for name in vars(group)
        if name in group.__pydantic_decorators__.field_validators
        or name in group.__pydantic_decorators__.model_validators
    ]
    assert len(names) > 20
    assert sorted(names) == sorted(set(names))


def test_servers_of_limits_authorities_and_proxies_are_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    wrong = {
        "RAG_REDIS_URL": ("http://u:secret-1@redis", "expected redis://"),
        "RAG_REDIS_CA": (str(tmp_path / "nope"), "found none"),
        "RAG_MILVUS_CA": (str(tmp_path / "ca.pem"), "found another one"),
        "RAG_TRUSTED_PROXIES": ("10.0.0.0/8,10.0.0.1/8", "10.0.0.1/8"),
    }
    for name, (value, _) in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    for name, (_, part) in wrong.items():
        assert any(part in line for line in str(caught.value).splitlines() if name in line)
        monkeypatch.delenv(name)
    assert "secret-1" not in str(caught.value)
    monkeypatch.setenv("RAG_REDIS_URL", "rediss://:secret-2@redis:6379/1?password=secret-2")
    shown = {entry.name: entry.value for entry in list_settings(load_settings())}
    assert shown["RAG_REDIS_URL"] == "rediss://:***@redis:6379/1?password=***"
    assert shown["RAG_TRUSTED_PROXIES"] == ["127.0.0.0/8", "::1/128"]
