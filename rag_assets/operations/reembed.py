"""Rebuild of Parquet: which embeddings are gone or damaged, what it would take, and embedding exactly those again.

Rows in Milvus are left as they are: the same text under the same model has the same vectors.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rag_assets.assets.chunk_embeddings import embed_texts
from rag_assets.assets.run_stage import Stage
from rag_assets.pipeline.vectors import Embedder
from resources.files import FileStore
from resources.postgres.connection import Connection
from resources.postgres.vectors.embeddings import (
    EMBEDDABLE,
    Target,
    bytes_a_text,
    files_in_use,
    forget_file,
    lost_texts,
)


@dataclass(frozen=True, slots=True)
class Damaged:
    """A recorded file that is not what was written."""

    id: uuid.UUID
    path: str
    reason: str


@dataclass
class Reembedding:
    """What a source's embeddings lack; and, unless it was a dry run, what was embedded."""

    source: str
    files: list[dict[str, str]] = field(default_factory=list)
    texts: int = 0
    characters: int = 0
    tokens: int = 0
    bytes: int | None = None  # expected in Parquet; unknown where no file is left
    embedded: int = 0
    failed: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def damaged_files(
    connection: Connection, files: FileStore, model: str, source_id: uuid.UUID | None
) -> list[Damaged]:
    """The files in use whose bytes are not those that were written: each is read whole (about 1 GB/s a core)."""
    found = []
    for file_id, path, size, checksum in files_in_use(connection, model, source_id):
        actual = files.size(path)
        if actual is None:
            found.append(Damaged(file_id, path, "gone"))
        elif actual != size:
            found.append(Damaged(file_id, path, f"expected {size} bytes, found {actual}"))
        elif files.checksum(path).checksum != checksum:
            found.append(Damaged(file_id, path, "its checksum differs"))
    return found


def lost_embeddings(
    connection: Connection, files: FileStore, target: Target, source: str
) -> tuple[Reembedding, list[Damaged]]:
    """What would have to be embedded again. Changes nothing."""
    damaged = damaged_files(connection, files, target.model, target.part.source_id)
    texts, characters, tokens = lost_texts(connection, target, [file.id for file in damaged])
    each = bytes_a_text(connection, target.model)
    report = Reembedding(
        source,
        [{"path": file.path, "reason": file.reason} for file in damaged],
        texts,
        characters,
        tokens,
        None if each is None else round(each * texts),
    )
    return report, damaged


def reembed(
    stage: Stage, files: FileStore, model: Embedder, target: Target, precision: str
) -> Reembedding:
    """Embeds again what is lost, into new files. Killed anywhere, the next one finds what is still lost."""
    report, damaged = lost_embeddings(stage.connection, files, target, stage.source.name)
    if not report.texts and not damaged:
        return report
    _forget(stage, files, damaged)
    plan = embed_texts(stage, files, model, target, precision, EMBEDDABLE).plan
    report.embedded, report.failed = plan.inserted, plan.failed
    return report


def _forget(stage: Stage, files: FileStore, damaged: Sequence[Damaged]) -> None:
    for file in damaged:
        stage.log.warning(f"{file.path}: {file.reason}; its texts are embedded again")
        with stage.writer.transaction() as connection:
            forget_file(connection, file.id)
        files.delete(file.path)
