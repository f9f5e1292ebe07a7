"""All operations that read or write files, on object storage: moto's server stands for S3."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from rag_assets.ingestion import embed
from resources.errors import ConfigError
from resources.files import FileStore
from tests.support.embedders import CountingEmbedder
from tests.support.operations import compact, finish_forgetting, rebuild, repair, request_to_forget
from tests.support.servers import S3
from tests.support.stored import assert_consistent, embedding_places, texts_of
from tests.support.texts import long_text
from tests.support.world import World


def use(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.credentials["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.credentials["secret"])
    monkeypatch.setenv("AWS_REGION", "us-east-1")


def objects(s3: S3) -> set[str]:
    return {name for name in s3.files.find("bucket/rag/embeddings") if name.endswith(".parquet")}


def texts_in(s3: S3) -> set[str]:
    text_hashes: set[str] = set()
    for name in objects(s3):
        with s3.files.open(name) as file:
            table = pq.read_table(file, columns=["text_hash"])
            text_hashes.update(table["text_hash"].to_pylist())
    return text_hashes


def test_a_bucket_that_does_not_exist_is_no_loss_of_its_files(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repair embeds again what is lost: a wrong name of the bucket must not look like that."""
    use(s3, monkeypatch)
    missing, present = FileStore("s3://nobody/rag"), FileStore("s3://bucket/rag")
    assert present.size("raw/a") is None and not list(present.list("raw"))
    for request in (
        lambda: missing.size("raw/a"),
        lambda: missing.read("raw/a"),
        lambda: missing.checksum("raw/a"),
        lambda: list(missing.list("raw")),
        lambda: missing.write("raw/a", b"x"),
        lambda: missing.delete("raw/a"),
    ):
        with pytest.raises(
            ConfigError, match="Create the bucket, or name another one in RAG_STORAGE"
        ):
            request()


def test_a_deployment_works_on_object_storage(
    world: World, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync, all checks, compaction, a rebuild, a lost object, its repair, an erasure, a clean-up."""
    monkeypatch.setattr(embed, "CALL_CHARS", 1_500)
    monkeypatch.setattr(embed, "FILE_BYTES", 1)
    use(s3, monkeypatch)
    counting = {"embedder": "tests.support.embedders:CountingEmbedder", "vectors": ("dense",)}
    world = world.configured(storage_url="s3://bucket/rag", **counting)
    world.write({f"{n}.md": long_text(f"town {n}", 4) for n in range(2)})
    world.add()
    world.fill()
    texts, small = CountingEmbedder.texts, objects(s3)
    assert len(small) > 1

    assert compact(world)["files_written"] == 1
    rebuild(world)
    assert CountingEmbedder.texts == texts

    (large,) = objects(s3) - small
    s3.files.rm_file(large)
    report = repair(world)
    assert report["clean"] and report["also_found"]["damaged_files"] == 1
    assert CountingEmbedder.texts > texts

    erased = texts_of(world, "0.md")
    assert erased < texts_in(s3)
    request_to_forget(world, "0.md")
    assert finish_forgetting(world, "0.md")["verified"]
    assert not erased & texts_in(s3)
    world.connection.execute("UPDATE embedding_files SET retired_at = retired_at - interval '25 h'")
    world.fill()
    assert objects(s3) == {f"bucket/rag/{path}" for path, _ in embedding_places(world).values()}
    assert_consistent(world, ("dense",))
