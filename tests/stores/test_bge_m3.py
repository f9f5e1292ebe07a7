"""The BGE-M3 embedder against FlagEmbedding's own output, alone and in the pipeline, and its failures for bad texts.

The model has the real shape and random weights (`tests.support.tiny_bge_m3`) and runs in the real library. The only
fake is a hook that makes the model's forward pass fail.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tiny_bge_m3 import CORPUS, MAX_LENGTH, make_tiny_bge_m3

# An import would cost each test process seconds.
if find_spec("FlagEmbedding") is None:
    pytest.skip("the extra bge-m3 is not installed", allow_module_level=True)

from rag_assets.ingestion import embed
from rag_assets.pipeline.vectors import KINDS, NORM_TOLERANCE
from resources.embedders import bge_m3_model
from resources.embedders.bge_m3 import BgeM3Embedder
from resources.embedders.registry import create_embedder
from resources.errors import ConfigError
from tests.support.bge_m3 import (
    TOLERANCE,
    assert_equal,
    assert_failed,
    embedder_of,
    fault,
    rows_with,
    terms,
    tokens_of,
)
from tests.support.extent import only_in_soak
from tests.support.stored import assert_consistent
from tests.support.texts import ENGLISH, JAPANESE, PERSIAN
from tests.support.world import World

#: From one word to far more than the model's limit; ten scripts, code, repetition, unknown characters, inner and outer
#: white space; not sorted by length.
TEXTS = [
    *CORPUS,
    "backup",
    " ".join(CORPUS),
    "the the the the backup the backup",
    "  outer\n\n\tand  inner   white space \n",
    "a",
    "🎉 ΩΨΞ unknown",
    " ".join(CORPUS) * 20,
    "数",
    CORPUS[0] * 3,
    "<s> special </s> tokens <pad> in <mask> text <unk>",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    # The threads of a model this small mostly wait for each other, and use a core while they do.
    torch.set_num_threads(1)
    return make_tiny_bge_m3(tmp_path_factory.mktemp("bge-m3"))


@pytest.fixture(scope="module")
def embedder(folder: Path) -> BgeM3Embedder:
    return embedder_of(folder)


@pytest.fixture(scope="module")
def stock(folder: Path) -> Callable[..., Any]:
    """FlagEmbedding's own `encode`, with its own instance of the model."""
    from FlagEmbedding import BGEM3FlagModel

    model = BGEM3FlagModel(str(folder), use_fp16=False, devices="cpu")

    def encode(texts: list[str], max_length: int = MAX_LENGTH) -> Any:
        return model.encode(
            texts,
            # Else all texts get the length of the longest, twice.
            batch_size=1,
            max_length=max_length,
            return_dense=True,
            return_sparse=True,
            return_colbert_vecs=True,
        )

    return encode


@pytest.mark.parametrize("max_length", [MAX_LENGTH, 16])
def test_all_kinds_equal_those_of_flag_embedding(
    folder: Path, stock: Callable[..., Any], max_length: int
) -> None:
    actual = embedder_of(folder, max_length=max_length, batch_tokens=600).embed(TEXTS, KINDS)
    expected = stock(TEXTS, max_length)
    assert actual.dense is not None and actual.dense.dtype == np.float32
    assert actual.failures == {}
    np.testing.assert_allclose(actual.dense, expected["dense_vecs"], atol=TOLERANCE, rtol=0)
    for i in range(len(TEXTS)):
        weights = {term: float(w) for term, w in expected["lexical_weights"][i].items()}
        assert terms(actual, i) == pytest.approx(weights, abs=TOLERANCE)
        np.testing.assert_allclose(
            tokens_of(actual, i), expected["colbert_vecs"][i], atol=TOLERANCE, rtol=0
        )


def test_the_arrays_have_the_documented_shapes_and_types(embedder: BgeM3Embedder) -> None:
    texts = TEXTS[:5]
    result = embedder.embed(texts, KINDS)
    assert result.dense is not None and result.sparse is not None and result.multi is not None
    n = len(texts)
    assert result.dense.shape == (n, embedder.dimension)
    assert len(result.sparse) == len(result.multi) == n
    assert result.multi.vectors.shape == (result.multi.offsets[-1], embedder.token_dimension)
    assert [a.dtype for a in (result.sparse.indptr, result.sparse.indices)] == ["int64", "uint32"]
    assert [a.dtype for a in (result.sparse.values, result.multi.vectors)] == ["float32"] * 2
    assert result.multi.offsets.dtype == np.int64
    assert np.all(result.sparse.values > 0)
    for vectors in (result.dense, result.multi.vectors):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=NORM_TOLERANCE)
    # Each token except <s> has a token vector.
    assert result.tokens == result.multi.offsets[-1] + n


def test_padding_is_counted(folder: Path) -> None:
    alone = embedder_of(folder, batch_tokens=1).embed(TEXTS, ["dense"])
    assert alone.padding == 0
    together = embedder_of(folder, batch_tokens=10**6).embed(["backup", CORPUS[0]], ["dense"])
    lengths = [embedder_of(folder).embed([t], ["dense"]).tokens for t in ("backup", CORPUS[0])]
    assert together.padding == abs(lengths[0] - lengths[1]) > 0


def test_only_the_requested_kinds_are_returned(embedder: BgeM3Embedder) -> None:
    dense = embedder.embed(TEXTS[:2], ["dense"])
    assert dense.dense is not None and dense.sparse is None and dense.multi is None
    other = embedder.embed(TEXTS[:2], {"sparse", "multi"})
    assert other.dense is None and other.sparse is not None and other.multi is not None


def test_order_and_batch_size_change_no_vector(folder: Path, embedder: BgeM3Embedder) -> None:
    # The longest text is compared with FlagEmbedding above.
    texts = sorted(TEXTS, key=len)[:-1]
    expected = embedder.embed(texts, KINDS)
    for batch_tokens in (1, 100_000):
        assert_equal(embedder_of(folder, batch_tokens=batch_tokens).embed(texts, KINDS), expected)
    backwards = embedder.embed(texts[::-1], KINDS)
    assert backwards.dense is not None and expected.dense is not None
    np.testing.assert_allclose(backwards.dense[::-1], expected.dense, atol=TOLERANCE, rtol=0)
    for i in range(len(texts)):
        j = len(texts) - 1 - i
        assert terms(backwards, j) == pytest.approx(terms(expected, i), abs=TOLERANCE)
        np.testing.assert_allclose(
            tokens_of(backwards, j), tokens_of(expected, i), atol=TOLERANCE, rtol=0
        )


@pytest.mark.parametrize("texts", [[], ["", " \n\t\u3000"]])
def test_blank_texts_return_empty_vectors(embedder: BgeM3Embedder, texts: list[str]) -> None:
    result = embedder.embed(texts, KINDS)
    n = len(texts)
    assert result.dense is not None and result.dense.shape == (n, 1024)
    assert result.sparse is not None and result.sparse.indptr.tolist() == [0] * (n + 1)
    assert result.multi is not None and result.multi.offsets.tolist() == [0] * (n + 1)
    assert result.multi.vectors.shape == (0, 1024)
    assert result.failures == dict.fromkeys(range(n), "blank")
    assert result.tokens == result.truncated == 0


def test_texts_that_cannot_be_tokenized_fail_alone(embedder: BgeM3Embedder) -> None:
    texts = ["", TEXTS[0], "half a \ud800 pair", TEXTS[1], "  "]
    result = embedder.embed(texts, KINDS)
    assert_failed(result, [0, 2, 4], texts, embedder.embed(TEXTS[:2], KINDS))
    assert result.failures[0] == "blank"
    assert "not valid Unicode: surrogates not allowed at character 7" in result.failures[2]


def test_a_text_without_terms_of_positive_weight_does_not_fail(embedder: BgeM3Embedder) -> None:
    result = embedder.embed(["<unk>", "backup"], KINDS)
    assert result.failures == {}
    assert terms(result, 0) == {} and terms(result, 1)
    assert result.dense is not None and np.linalg.norm(result.dense[0]) == pytest.approx(1)
    assert len(tokens_of(result, 0)) > 0


def test_truncation_is_counted(folder: Path) -> None:
    embedder = embedder_of(folder, max_length=8)
    length = embedder.embed(["backup"], ["dense"]).tokens
    assert length < 8
    result = embedder.embed(["backup", TEXTS[0], TEXTS[1]], ["multi"])
    assert result.truncated == 2
    assert result.tokens == length + 16
    # A text that fits exactly is not cut.
    fits = next(n for n in range(1, 9) if embedder.embed(["数" * n], ["dense"]).tokens == 8)
    assert embedder.embed(["数" * fits], ["dense"]).truncated == 0
    assert embedder.embed(["数" * (fits + 1)], ["dense"]).truncated == 1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a kernel failed"),
        *only_in_soak(MemoryError("out of memory"), IndexError("position")),
    ],
)
def test_a_text_on_which_the_model_fails_is_found_by_halving(
    folder: Path, error: Exception
) -> None:
    # All texts in one batch.
    embedder = embedder_of(folder, batch_tokens=100_000)
    texts = [f"{text} backup" for text in CORPUS[:7]] + ["restore 数"]
    bad = rows_with("数", embedder)
    assert [i for i, text in enumerate(texts) if "数" in text] == [7]
    expected = embedder.embed(texts[:7], KINDS)

    def effect(ids: Any, output: Any) -> Any:
        if bad(ids).any():
            raise error
        return output

    with fault(embedder, effect) as rows:
        result = embedder.embed(texts, KINDS)
    assert_failed(result, [7], texts, expected)
    assert result.failures[7] == f"{type(error).__name__}: {error}"
    # The batch, its halves down to the bad text, then the harmless text that proves the model works.
    assert rows == [8, 4, 4, 2, 2, 1, 1, 1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["dense_vecs", "sparse_vecs", "colbert_vecs"])
def test_a_vector_that_is_not_finite_fails_its_text_alone(
    embedder: BgeM3Embedder, kind: str, value: float
) -> None:
    texts = [CORPUS[0], "数", CORPUS[1]]
    bad = rows_with("数", embedder)
    expected = embedder.embed([texts[0], texts[2]], KINDS)

    def effect(ids: Any, output: Any) -> Any:
        output[kind][bad(ids)] = value
        return output

    with fault(embedder, effect):
        result = embedder.embed(texts, KINDS)
    assert_failed(result, [1], texts, expected)
    assert "not finite" in result.failures[1]


def test_a_fault_that_would_repeat_is_raised(embedder: BgeM3Embedder) -> None:
    def effect(_ids: Any, _output: Any) -> Any:
        raise RuntimeError("the device is gone")

    with fault(embedder, effect) as rows, pytest.raises(RuntimeError, match="the device is gone"):
        embedder.embed(TEXTS, KINDS)
    # One text was enough to detect it.
    assert rows[-2:] == [1, 1] and len(rows) < len(TEXTS)


def test_a_single_bad_text_is_not_a_fault_of_the_model(embedder: BgeM3Embedder) -> None:
    bad = rows_with("数", embedder)

    def effect(ids: Any, output: Any) -> Any:
        if bad(ids).any():
            raise RuntimeError("this text")
        return output

    with fault(embedder, effect):
        assert embedder.embed(["数"], KINDS).failures == {0: "RuntimeError: this text"}


def test_queries_and_documents_have_equal_vectors(embedder: BgeM3Embedder) -> None:
    assert_equal(embedder.embed_queries(TEXTS[:3], KINDS), embedder.embed(TEXTS[:3], KINDS))


def test_bf16_returns_the_nearest_documents_of_fp32(folder: Path) -> None:
    """Ten documents for each sentence, and queries: the tenth document is .1 nearer than the eleventh."""
    chance = random.Random(0)
    words = " ".join(CORPUS).split()
    documents = [f"{text} {chance.choice(words)}" for text in CORPUS[:5] for _ in range(10)]
    queries = [f"{text} {chance.choice(words)}" for text in CORPUS[:5] for _ in range(2)]
    vectors, tops = [], []
    for precision in ("fp32", "bf16"):
        result = embedder_of(folder, precision=precision).embed(
            documents + queries, ["dense", "multi"]
        )
        assert result.dense is not None and result.multi is not None
        for array in (result.dense, result.multi.vectors):
            assert array.dtype == np.float32
            np.testing.assert_allclose(np.linalg.norm(array, axis=1), 1, atol=NORM_TOLERANCE)
        vectors.append(result.dense)
        scores = result.dense[len(documents) :] @ result.dense[: len(documents)].T
        tops.append([set(row) for row in np.argsort(-scores)[:, :10]])
    assert np.einsum("ij,ij->i", *vectors).min() >= 0.999
    assert np.mean([exact == rounded for exact, rounded in zip(*tops)]) >= 0.98


def test_the_identity_changes_with_everything_that_changes_vectors(
    folder: Path, tmp_path: Path
) -> None:
    identity = embedder_of(folder).identity
    assert embedder_of(folder).identity == identity
    assert embedder_of(folder, batch_tokens=1).identity == identity
    assert embedder_of(folder, max_length=16).identity != identity
    assert embedder_of(folder, precision="bf16").identity != identity
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    assert embedder_of(copy).identity == identity
    (copy / "README.md").write_text("not part of the model")
    assert embedder_of(copy).identity == identity
    head = (copy / "sparse_linear.pt").read_bytes()
    (copy / "sparse_linear.pt").write_bytes(head[:-1] + bytes([head[-1] ^ 1]))
    assert embedder_of(copy).identity != identity


def test_the_tiny_model_is_reproducible(folder: Path, tmp_path: Path) -> None:
    assert embedder_of(make_tiny_bge_m3(tmp_path)).identity == embedder_of(folder).identity


def test_a_model_is_loaded_once_per_process(folder: Path, embedder: BgeM3Embedder) -> None:
    embedder.embed(["backup"], ["dense"])
    before = bge_m3_model.load.cache_info().misses
    embedder_of(folder).embed(["backup"], ["dense"])
    assert bge_m3_model.load.cache_info().misses == before


def test_a_folder_without_heads_is_an_error(folder: Path, tmp_path: Path) -> None:
    """FlagEmbedding would load it with random heads."""
    copy = shutil.copytree(folder, tmp_path / "headless")
    (copy / "sparse_linear.pt").unlink()
    (copy / "config.json").write_text('{"hidden_size": 768}')
    with pytest.raises(ConfigError) as error:
        embedder_of(copy).embed(["backup"], ["dense"])
    assert "sparse_linear.pt is missing" in str(error.value)
    assert "hidden_size: expected 1024, found 768" in str(error.value)


def test_a_length_above_the_model_limit_is_an_error(folder: Path) -> None:
    with pytest.raises(ConfigError, match=f"Set max_length={MAX_LENGTH}"):
        embedder_of(folder, max_length=MAX_LENGTH + 1).embed(["backup"], ["dense"])


def test_each_of_several_devices_has_a_process_with_the_same_model(folder: Path) -> None:
    several = embedder_of(folder, device="cpu, cpu", precision="bf16")
    assert several._devices is not None
    for device in several._devices._devices:
        spec, options = device._start
        single: Any = create_embedder(spec, **options)
        assert single.identity == several.identity
        assert single._batch_tokens == several._batch_tokens and single._devices is None


def test_the_error_for_a_model_that_cannot_be_downloaded_contains_the_command() -> None:
    embedder = BgeM3Embedder("no-one/no-model", revision="0" * 40, device="cpu", precision="fp32")
    with pytest.raises(ConfigError, match="hf download no-one/no-model --revision 0000"):
        embedder.embed(["backup"], ["dense"])


def test_vectors_in_milvus_are_those_of_flag_embedding(
    world: World, folder: Path, stock: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole pipeline. In this module, since a second process would load torch and the model again: 10 s."""
    monkeypatch.setattr(embed, "CALL_CHARS", 1)
    monkeypatch.setattr(embed, "FILE_SECONDS", 0)

    world = world.configured(
        embedder="bge-m3",
        bge_m3_model=str(folder),
        bge_m3_max_length=MAX_LENGTH,
        bge_m3_precision="fp32",
        bge_m3_device="cpu",
        vectors=KINDS,
    )
    world.write({"en.md": ENGLISH, "ja.md": JAPANESE, "fa.md": PERSIAN})
    world.add()
    (embedded,) = world.run("sync_source").asset_materializations_for_node("chunk_embeddings")
    assert_consistent(world, KINDS)

    chunks = world.connection.execute("SELECT id::text, content FROM document_chunks").fetchall()
    numbers: Any = {name: value.value for name, value in embedded.metadata.items()}
    assert numbers["tokens"] > len(chunks) and numbers["truncated"] == 0
    # Without padding, because each call has one text.
    assert numbers["tokens_per_second"] > 0 and numbers["padding_share"] == 0
    # A file that is due is closed after a call, not at the end of the run.
    assert world.one("SELECT count(*) FROM embedding_files") == len({text for _, text in chunks})

    expected = stock([content for _, content in chunks])
    client = world.store.client
    for index, (chunk, _) in enumerate(chunks):
        (dense,) = client.get("dense_collection", [f"{chunk}_dense"], output_fields=["vector"])
        np.testing.assert_allclose(dense["vector"], expected["dense_vecs"][index], atol=1e-5)

        weights = {int(term): weight for term, weight in expected["lexical_weights"][index].items()}
        (sparse,) = client.get("sparse_collection", [f"{chunk}_sparse"], output_fields=["vector"])
        assert sparse["vector"].keys() == weights.keys()
        for term, weight in weights.items():
            assert sparse["vector"][term] == pytest.approx(weight, abs=1e-5)

        tokens = expected["colbert_vecs"][index]
        ids = [f"{chunk}_multi_{token:05d}" for token in range(len(tokens))]
        rows = client.get("multi_collection", ids, output_fields=["id", "vector"])
        vectors = {row["id"]: row["vector"] for row in rows}
        np.testing.assert_allclose([vectors[row_id] for row_id in ids], tokens, atol=1e-5)
        assert not client.get("multi_collection", [f"{chunk}_multi_{len(tokens):05d}"])

    assert world.search("observatory opens at nine", k=3, mode="multi")
