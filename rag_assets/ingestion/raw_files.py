"""Raw files that nobody refers to: what was fetched by a sync that was killed before it recorded it, whole or in part.

A sync names a raw file by its content and records it afterwards; when the document changes in between, nobody ever asks
for that file again, and nobody could say whose it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from resources.files import FileStore, raw_name
from resources.postgres.connection import Connection
from resources.postgres.documents.raw_files import RawFile, stage_raw_files, unreferenced_raw_files


def sweep(connection: Connection, files: FileStore, grace: Callable[[], float]) -> tuple[int, int]:
    """Deletes those that are older than the grace time, in seconds. Returns (deleted, younger ones that stay).

    `grace` is asked after the listing: a writer that begins then wrote none of these files. One that wants a file that
    goes meanwhile fetches it again, as every file that the raw store lost.
    """
    deleted = stay = 0
    with connection.transaction():
        stage_raw_files(connection, _listed(files))
        seconds = grace()
        for name, age in unreferenced_raw_files(connection):
            if not seconds or (age is not None and age > seconds):
                files.delete(raw_name(name))
                deleted += 1
            else:
                stay += 1
    return deleted, stay


def _listed(files: FileStore) -> Iterator[RawFile]:
    """Folder by folder: as many names as one has are in memory."""
    now = time.time()
    for prefix in range(256):
        for info in files.list(f"raw/{prefix:02x}"):
            age = None if info.mtime is None else now - info.mtime.timestamp()
            yield info.base_name, age
