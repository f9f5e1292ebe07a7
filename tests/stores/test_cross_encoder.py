"""The reranker `cross-encoder` against the library's own `predict`. The model is small and has random weights."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny_bge_m3 import CORPUS
from tests.support.tiny_cross_encoder import MAX_LENGTH, make_tiny_cross_encoder

# An import would cost each test process seconds.
if find_spec("sentence_transformers") is None:
    pytest.skip("the extra sentence-transformers is not installed", allow_module_level=True)

from resources import extras
from resources.errors import ConfigError, RerankerFailed
from resources.rerankers import cross_encoder
from resources.rerankers.cross_encoder import CrossEncoderReranker

QUERY = "when is a backup taken"
#: From one letter to far more than the model's limit, not sorted by length, more than one batch.
TEXTS = ["a", *CORPUS, "backup " * 100, "a backup", *(f"text {n}" * n for n in range(1, 9))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_cross_encoder(tmp_path_factory.mktemp("cross-encoder"))


def reranker(folder: Path, **options: Any) -> CrossEncoderReranker:
    return CrossEncoderReranker(model=str(folder), device="cpu", **options)


def test_scores_are_those_of_the_library_within_0_and_1(folder: Path) -> None:
    from sentence_transformers import CrossEncoder

    scores = reranker(folder).scores(QUERY, TEXTS)
    library = CrossEncoder(str(folder), device="cpu")
    assert scores == pytest.approx(library.predict([(QUERY, text) for text in TEXTS]), abs=1e-5)
    assert all(0 < score < 1 for score in scores) and len(set(scores)) > len(TEXTS) // 2
    # In any company.
    assert reranker(folder).scores(QUERY, TEXTS[:1]) == pytest.approx(scores[:1], abs=1e-5)


def test_a_long_text_is_cut_at_the_models_maximum_or_earlier(folder: Path, tmp_path: Path) -> None:
    long, longer = "backup " * 100, "backup " * 200
    first, second = reranker(folder).scores(QUERY, [long, longer])
    assert first == pytest.approx(second, abs=1e-5)
    cut = reranker(folder, max_length=32).scores(QUERY, [long, "backup " * 20])
    assert cut[0] == pytest.approx(cut[1], abs=1e-5) != first
    # A tokenizer that knows no maximum, and a greater number than the model's, are no errors.
    shutil.copytree(folder, tmp_path / "unlimited")
    config = tmp_path / "unlimited" / "tokenizer_config.json"
    config.write_text(config.read_text().replace(f'"model_max_length": {MAX_LENGTH}', '"x": 0'))
    assert '"x": 0' in config.read_text()
    assert reranker(tmp_path / "unlimited").scores(QUERY, [long]) == pytest.approx(
        [first], abs=1e-5
    )
    assert reranker(folder, max_length=512).scores(QUERY, [long]) == pytest.approx(
        [first], abs=1e-5
    )


def test_a_model_that_cannot_rank_is_an_error_that_names_the_setting(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = make_tiny_cross_encoder(tmp_path / "labels", labels=3)
    with pytest.raises(ConfigError, match="has 3 labels: expected one"):
        reranker(labels).scores(QUERY, TEXTS)
    monkeypatch.setattr("sentence_transformers.CrossEncoder.modalities", ["text", "image"])
    with pytest.raises(ConfigError, match="reads more than texts"):
        reranker(folder, max_length=33).scores(QUERY, TEXTS)
    (tmp_path / "empty").mkdir()
    for model in (tmp_path / "empty", Path("nobody/no-such-model")):
        with pytest.raises(ConfigError, match=r"cannot be loaded: .*\nFix RAG_RERANKER_MODEL"):
            reranker(model).scores(QUERY, TEXTS)
    monkeypatch.setitem(extras.MODULES, "sentence-transformers", ("no_such_module",))
    cross_encoder._load.cache_clear()
    with pytest.raises(ConfigError, match="RAG_RERANKER=cross-encoder needs the packages"):
        reranker(folder).scores(QUERY, TEXTS)


def test_a_model_that_fails_or_is_slow_gives_a_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = reranker(folder, timeout=0.05)
    model.scores(QUERY, TEXTS[:1])
    monkeypatch.setattr(cross_encoder.time, "monotonic", iter(range(1000)).__next__)
    with pytest.raises(RerankerFailed, match=rf"scored 0 of {len(TEXTS)} texts in 0.05 s"):
        model.scores(QUERY, TEXTS)
    monkeypatch.undo()
    with cross_encoder._LOCK:
        with pytest.raises(RerankerFailed, match=r"other searches used the model for 0.05 s"):
            model.scores(QUERY, TEXTS)
    encoder = cross_encoder._load(str(folder), "", "cpu", None)
    bias = encoder.model.classifier.bias
    monkeypatch.setattr(bias, "data", bias.data * float("nan"))
    with pytest.raises(RerankerFailed, match="expected finite scores"):
        reranker(folder).scores(QUERY, TEXTS)
    monkeypatch.setattr(encoder, "predict", lambda *_, **__: 1 / 0)
    with pytest.raises(RerankerFailed, match="ZeroDivisionError"):
        reranker(folder).scores(QUERY, TEXTS)
