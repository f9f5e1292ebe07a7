"""The private folder of a server's Unix socket."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path

from resources.errors import StackError

#: Maximum bytes of a socket's path: 107 on Linux, 103 on macOS.
SOCKET_PATH_LIMIT = 103


def socket_folder(home: Path, name: str, socket: str, uid: int, gid: int | None = None) -> Path:
    """Return the folder of a server's socket, which nobody but the user may enter; create it if it is missing.

    It is `run/<name>` of home if that is short and plain enough for any URL, else in the temporary folder, named by a
    hash of home.
    """
    folder = home / "run" / name
    if not _fits(folder / socket):
        name = f"rag-{name}-{uid}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
        bases = (Path(tempfile.gettempdir()), Path("/tmp"))
        folder = next(base / name for base in bases if _fits(base / name / socket))
    folder.mkdir(mode=0o700, exist_ok=True)
    if gid is not None and folder.lstat().st_uid == 0:
        os.chown(folder, uid, gid, follow_symlinks=False)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid:
        raise StackError(
            f"{folder} is not a folder of user {uid}, so the socket in it would not be private; remove it"
        )
    folder.chmod(0o700)
    return folder


def _fits(path: Path) -> bool:
    plain = re.fullmatch(r"[A-Za-z0-9_./-]+", str(path)) is not None
    return plain and len(str(path)) <= SOCKET_PATH_LIMIT
