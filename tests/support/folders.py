"""Where the servers of tests keep their data: in memory where there is room for it.

A process that is killed loses no more there than on a disk. On a busy disk the syncs of nine new data folders took
30 s.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")
#: Bytes free in memory: containers have 64 MB there by default.
ROOM = 2 << 30


@contextmanager
def servers_folder(prefix: str) -> Iterator[Path]:
    """A new folder, gone afterwards. Not under tmp_path: each pytest that starts on this machine closes that to other
    users again, and the PostgreSQL of a root's test runs as another user.
    """
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=MEMORY if roomy else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
