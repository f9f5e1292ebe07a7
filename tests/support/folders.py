"""Data folders of the tests' servers: in memory if there is room.

A killed process loses no more in memory than on a disk. On a busy disk the syncs of nine new data folders took 30 s.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")
#: Free bytes required in memory: containers have 64 MB there by default.
ROOM = 2 << 30


@contextmanager
def servers_folder(prefix: str) -> Iterator[Path]:
    """Yield a new folder, deleted afterwards. Not under tmp_path, which every start of pytest closes to other users:
    for root, PostgreSQL runs as another user.
    """
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=MEMORY if roomy else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
