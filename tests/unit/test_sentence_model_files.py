"""What is known of a model of sentence-transformers before it is loaded: dimension, identity, and what it cannot do."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from rag_assets.pipeline.identity import model_fingerprint
from rag_assets.settings.load import load_settings
from resources.embedders.registry import create_embedder
from resources.embedders.sentence_model_files import dimension, vocabulary
from resources.errors import ConfigError

LIBRARY = "sentence_transformers."
NORMALIZE = (LIBRARY + "models.Normalize", {})


def transformer(**config: Any) -> tuple[str, dict[str, Any]]:
    return (LIBRARY + "models.Transformer", {"hidden_size": 384, **config})


def pooling(**config: Any) -> tuple[str, dict[str, Any]]:
    return (LIBRARY + "models.Pooling", {"word_embedding_dimension": 384, **config})


def dense(**config: Any) -> tuple[str, dict[str, Any]]:
    return (LIBRARY + "models.Dense", {"out_features": 64, **config})


def splade() -> tuple[str, dict[str, Any]]:
    return (LIBRARY + "sparse_encoder.models.SpladePooling", {"pooling_strategy": "max"})


def model(folder: Path, *modules: tuple[str, dict[str, Any]], **config: Any) -> Path:
    """Write the files of a model, in the layout of the library: the transformer's own are in the folder itself."""
    listed = []
    for number, (kind, content) in enumerate(modules):
        path = "" if number == 0 else f"{number}_{kind.rpartition('.')[2]}"
        listed.append({"idx": number, "name": str(number), "path": path, "type": kind})
        (folder / path).mkdir(parents=True, exist_ok=True)
        if content:
            (folder / path / "config.json").write_text(json.dumps(content))
    if modules:
        (folder / "modules.json").write_text(json.dumps(listed))
    if config:
        (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ([transformer(), pooling(pooling_mode_mean_tokens=True), NORMALIZE], 384),
        ([transformer(), pooling(pooling_mode_cls_token=True, pooling_mode_max_tokens=True)], 768),
        ([transformer(), pooling(pooling_mode=["cls", "mean", "max"])], 3 * 384),
        ([transformer(), pooling(pooling_mode="lasttoken")], 384),
        ([transformer(), (LIBRARY + "models.Pooling", {"embedding_dimension": 5})], 5),
        ([transformer(), pooling(), dense(), dense(out_features=32), NORMALIZE], 32),
        ([transformer(module_output_name="sentence_embedding")], 384),
        # Only the model itself knows.
        ([(LIBRARY + "models.StaticEmbedding", {})], None),
        ([(LIBRARY + "models.Router", {}), NORMALIZE], None),
    ],
)
def test_the_dimension_is_read_from_the_files(
    tmp_path: Path, modules: list[Any], expected: int | None
) -> None:
    folder = model(tmp_path, *modules)
    assert dimension(folder) == expected
    if expected:
        (folder / "config_sentence_transformers.json").write_text('{"truncate_dim": 4}')
        assert dimension(folder) == 4


def test_the_vocabulary_is_read_from_the_files(tmp_path: Path) -> None:
    assert vocabulary(model(tmp_path, transformer(vocab_size=77), splade())) == 77
    assert vocabulary(model(tmp_path / "dense", transformer(vocab_size=77), pooling())) is None


if find_spec("sentence_transformers") is None:
    pytest.skip("the extra sentence-transformers is not installed", allow_module_level=True)


def embedder(folder: Path | str, **options: Any) -> Any:
    options = {"device": "cpu", "precision": "fp32"} | options
    return create_embedder("sentence-transformers", model=str(folder), **options)


def test_the_identity_changes_with_everything_that_changes_stored_vectors(tmp_path: Path) -> None:
    folder = model(tmp_path / "one", transformer(), pooling(), prompts={"query": "a: "})
    identity = embedder(folder).identity
    assert identity == {
        "backend": "sentence-transformers",
        "model": "folder",
        "revision": identity["revision"],
        "max_length": "model",
        "precision": "fp32",
        "normalisation": "l2",
    }
    same = [
        embedder(folder, batch_tokens=1, query_prompt="b: "),
        embedder(model(tmp_path / "two", transformer(), pooling(), prompts={"query": "a: "})),
    ]
    (folder / "README.md").write_text("not part of the model")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"the same in another format")
    same.append(embedder(folder))
    assert [one.identity for one in same] == [identity] * 3
    others = [
        embedder(folder, **option).identity
        for option in (
            {"document_prompt": "b: "},
            {"dimensions": 8},
            {"max_length": 99},
            {"precision": "bf16"},
        )
    ]
    (folder / "1_Pooling" / "config.json").write_text('{"embedding_dimension": 5}')
    others.append(embedder(folder).identity)
    (folder / "model.safetensors").write_bytes(b"Weights")
    others.append(embedder(folder).identity)
    fingerprints = {model_fingerprint(one) for one in (identity, *others)}
    assert len(fingerprints) == 1 + len(others)
    named = embedder("someone/model", revision="f" * 40).identity
    assert (named["model"], named["revision"]) == ("someone/model", "f" * 40)


@pytest.mark.parametrize(
    ("modules", "config", "expected"),
    [
        ([], {}, "modules.json is missing"),
        ([transformer(), splade()], {}, "set RAG_ST_SPARSE_MODEL to it"),
        (
            [transformer(), pooling()],
            {"model_type": "CrossEncoder"},
            "set RAG_RERANKER_MODEL to it",
        ),
        ([transformer()], {"model_type": "MultiVectorEncoder"}, "set RAG_EMBEDDER=bge-m3"),
        ([("their_code.Pooling", {})], {}, "code from the hub, which is not supported"),
        (
            [transformer(), pooling(), dense(activation_function="theirs.Tanh")],
            {},
            "activation function theirs.Tanh of 2_Dense",
        ),
    ],
)
def test_a_folder_that_is_no_dense_encoder_is_an_error_with_the_next_step(
    tmp_path: Path, modules: list[Any], config: dict[str, Any], expected: str
) -> None:
    folder = model(tmp_path, *modules, **config)
    with pytest.raises(ConfigError) as error:
        embedder(folder)
    assert expected in str(error.value) and f"RAG_ST_MODEL={folder}" in str(error.value)


def test_a_cross_encoder_of_earlier_versions_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    with pytest.raises(ConfigError, match="scores pairs of texts"):
        embedder(tmp_path)


def test_every_invalid_argument_is_listed_by_the_name_of_its_setting() -> None:
    with pytest.raises(ConfigError) as error:
        embedder("/no/folder", dimensions=0, max_length=1, batch_tokens=0, precision="int8")
    for name in ("MODEL='/no/folder'", "DIMENSIONS=0", "MAX_LENGTH=1", "BATCH_TOKENS=0"):
        assert f"RAG_ST_{name}" in str(error.value)
    assert "RAG_ST_PRECISION='int8'" in str(error.value)
    with pytest.raises(ConfigError, match="RAG_ST_REVISION: expected a commit of someone/model"):
        embedder("someone/model")


def test_a_missing_library_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match="sentence_transformers is not installed: "):
        embedder("someone/model", revision="f" * 40)


def test_settings_become_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_EMBEDDER", "sentence-transformers")
    with pytest.raises(ConfigError, match=r"RAG_ST_MODEL.*such as sentence-transformers/"):
        load_settings()
    monkeypatch.setenv("RAG_ST_MODEL", "someone/model")
    monkeypatch.setenv("RAG_ST_REVISION", "f" * 40)
    monkeypatch.setenv("RAG_ST_QUERY_PROMPT", "query: ")
    options = load_settings().embedder_options
    assert options == {
        "model": "someone/model",
        "revision": "f" * 40,
        "query_prompt": "query: ",
        "precision": "auto",
    }
    assert create_embedder("sentence-transformers", **options).identity["backend"]
