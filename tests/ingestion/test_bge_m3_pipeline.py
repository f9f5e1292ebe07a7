"""A tiny BGE-M3 of the real shape in the whole pipeline: the vectors in Milvus are those of FlagEmbedding."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_assets.ingestion import embed
from tests.support.stored import assert_consistent
from tests.support.texts import ENGLISH, JAPANESE, PERSIAN
from tests.support.tiny_bge_m3 import MAX_LENGTH, make_tiny_bge_m3
from tests.support.world import World

# An import would cost each test process seconds.
if find_spec("FlagEmbedding") is None:
    pytest.skip("the extra bge-m3 is not installed: make test installs it", allow_module_level=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bge_m3(tmp_path_factory.mktemp("bge-m3"))


def test_vectors_in_milvus_are_those_of_flag_embedding(
    world: World, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from FlagEmbedding import BGEM3FlagModel

    monkeypatch.setattr(embed, "CALL_CHARS", 1)
    monkeypatch.setattr(embed, "FILE_SECONDS", 0)

    world = world.configured(
        embedder="bge-m3",
        bge_m3_model=str(model),
        bge_m3_max_length=MAX_LENGTH,
        bge_m3_precision="fp32",
        bge_m3_device="cpu",
        vectors=("dense", "sparse", "multi"),
    )
    world.write({"en.md": ENGLISH, "ja.md": JAPANESE, "fa.md": PERSIAN})
    world.add()
    (embedded,) = world.run("sync_source").asset_materializations_for_node("chunk_embeddings")
    assert_consistent(world, ("dense", "sparse", "multi"))

    chunks = world.connection.execute("SELECT id::text, content FROM document_chunks").fetchall()
    numbers: Any = {name: value.value for name, value in embedded.metadata.items()}
    assert numbers["tokens"] > len(chunks) and numbers["truncated"] == 0
    # Without padding, because each call has one text.
    assert numbers["tokens_per_second"] > 0 and numbers["padding_share"] == 0
    # A file that is due is closed after a call, not at the end of the run.
    assert world.one("SELECT count(*) FROM embedding_files") == len({text for _, text in chunks})

    expected: Any = BGEM3FlagModel(str(model), use_fp16=False, devices="cpu").encode(
        [content for _, content in chunks],
        return_dense=True,
        return_sparse=True,
        return_colbert_vecs=True,
        max_length=MAX_LENGTH,
    )
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
