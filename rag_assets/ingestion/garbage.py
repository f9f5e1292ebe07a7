"""Embedding files without a reference: a crash left them unrecorded, or a compaction replaced them."""

from __future__ import annotations

import logging

from resources.files import FileStore
from resources.postgres.connection import Connection
from resources.postgres.vectors.compaction import forget_retired, retired
from resources.postgres.vectors.embeddings import unrecorded

#: Seconds before such a file is deleted. Writing and recording a file takes seconds; a run that planned to read a
#: replaced one ends within a day (`dagster/max_runtime`).
GRACE = 24 * 3600


def sweep(connection: Connection, files: FileStore, log: logging.Logger, model: str) -> None:
    """Delete the unrecorded files of a model and all replaced files, both after the grace time."""
    old = [name for name, age in files.ages(f"embeddings/{model}") if age > GRACE]
    for name in unrecorded(connection, old):
        log.info(f"{name} was never recorded; it is deleted")
        files.delete(name)
    remove_retired(connection, files)


def remove_retired(connection: Connection, files: FileStore) -> None:
    """Delete the files that a compaction replaced longer ago than the grace time: first the file, then its record."""
    expired = retired(connection, seconds=GRACE)
    for file in expired:
        files.delete(file.path)
    if expired:
        forget_retired(connection, [file.id for file in expired])
