"""Rebuild of Parquet: finds the lost and damaged embeddings, estimates the cost, and embeds exactly those texts again.

Rows in Milvus are not touched: the same text under the same model has the same vectors.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rag_assets.ingestion.embed import embed_texts
from rag_assets.ingestion.stage import Stage
from rag_assets.pipeline.vectors import Embedder
from resources.files import FileStore
from resources.postgres.connection import Connection
from resources.postgres.vectors.embeddings import (
    bytes_per_text,
    files_in_use,
    forget_file,
    lost_texts,
)
from resources.postgres.vectors.target import Target


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A recorded file that is gone or differs from its record."""

    id: uuid.UUID
    path: str
    reason: str


@dataclass
class Reembedding:
    """The lost embeddings of a source and, unless it was a dry run, the numbers of texts `embedded` and `failed`.

    `bytes`: the expected size in Parquet, None if no file exists to estimate it from.
    """

    source: str
    files: list[dict[str, str]] = field(default_factory=list)
    texts: int = 0
    characters: int = 0
    tokens: int = 0
    bytes: int | None = None
    embedded: int = 0
    failed: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def damaged_files(
    connection: Connection, files: FileStore, model: str, source_id: uuid.UUID | None
) -> list[DamagedFile]:
    """Return the files in use whose bytes differ from the recorded ones. Reads each whole (about 1 GB/s per core)."""
    damaged = []
    for file in files_in_use(connection, model, source_id):
        size = files.size(file.path)
        if size is None:
            damaged.append(DamagedFile(file.id, file.path, "gone"))
        elif size != file.byte_count:
            reason = f"expected {file.byte_count} bytes, found {size}"
            damaged.append(DamagedFile(file.id, file.path, reason))
        elif files.checksum(file.path).checksum != file.checksum:
            damaged.append(DamagedFile(file.id, file.path, "its checksum differs"))
    return damaged


def lost_embeddings(
    connection: Connection, files: FileStore, target: Target, source: str
) -> tuple[Reembedding, list[DamagedFile]]:
    """Return what `reembed` would embed again, and the damaged files. Changes nothing."""
    damaged = damaged_files(connection, files, target.model, target.scope.source_id)
    lost = lost_texts(connection, target, [file.id for file in damaged])
    text_bytes = bytes_per_text(connection, target.model)
    report = Reembedding(
        source,
        [{"path": file.path, "reason": file.reason} for file in damaged],
        lost.texts,
        lost.characters,
        lost.tokens,
        None if text_bytes is None else round(text_bytes * lost.texts),
    )
    return report, damaged


def reembed(
    stage: Stage, files: FileStore, model: Embedder, target: Target, precision: str
) -> Reembedding:
    """Embed the lost texts again, into new files. After a crash, the next call embeds those that are still lost."""
    report, damaged = lost_embeddings(stage.connection, files, target, stage.source.name)
    if not report.texts and not damaged:
        return report
    _delete_damaged(stage, files, damaged)
    plan = embed_texts(stage, files, model, target, precision, all_documents=True).plan
    report.embedded, report.failed = plan.inserted, plan.failed
    return report


def _delete_damaged(stage: Stage, files: FileStore, damaged: Sequence[DamagedFile]) -> None:
    """Delete each file, first its record."""
    for file in damaged:
        stage.log.warning(f"{file.path}: {file.reason}; its texts are embedded again")
        with stage.writer.transaction() as connection:
            forget_file(connection, file.id)
        files.delete(file.path)
