"""Unreferenced raw files: fetched, whole or in part, by a sync that was killed before it recorded them.

A sync names a raw file by its content and records it afterwards. If the document changes in between, no later sync asks
for that file, and nothing tells which document it belonged to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from resources.files import FileStore, raw_name
from resources.postgres.connection import Connection
from resources.postgres.documents.raw_files import RawFile, stage_raw_files, unreferenced_raw_files


def sweep(connection: Connection, files: FileStore, grace: Callable[[], float]) -> tuple[int, int]:
    """Delete the unreferenced raw files older than the grace time (seconds). Returns (deleted, younger ones kept).

    `grace` is called after the listing: a writer that starts later wrote none of the listed files. A writer that needs
    a file deleted here fetches it again, like every file that the raw store lost.
    """
    deleted = kept = 0
    with connection.transaction():
        stage_raw_files(connection, _list_raw_files(files))
        seconds = grace()
        for name, age in unreferenced_raw_files(connection):
            if not seconds or (age is not None and age > seconds):
                files.delete(raw_name(name))
                deleted += 1
            else:
                kept += 1
    return deleted, kept


def _list_raw_files(files: FileStore) -> Iterator[RawFile]:
    """Yield the raw files folder by folder: the names of one folder are in memory at a time."""
    now = time.time()
    for prefix in range(256):
        for info in files.list(f"raw/{prefix:02x}"):
            age = None if info.mtime is None else now - info.mtime.timestamp()
            yield RawFile(info.base_name, age)
