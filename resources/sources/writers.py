"""Whether another process is still writing a file.

A file that is closed is read at once. One that is being written is left for the next sync, so that half a file never
replaces a whole one. After PATIENCE seconds without a write it is read as it is: some programs keep files open.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from functools import lru_cache

#: Seconds without a change after which an open file counts as finished.
PATIENCE = 600.0
#: Seconds without a change that a file waits for where the system does not tell who has it open.
_QUIET = 1.0
#: Seconds that a scan of the processes' open files is used for.
_SCAN_SECONDS = 1.0
#: File systems of other machines: they grant a lease only if their server does, whoever has the file open.
_REMOTE = re.compile(r"nfs|cifs|smb|9p|ceph|gluster|afs|lustre|gpfs|beegfs|fuse|virtiofs")

_lock = threading.Lock()
_scanned: tuple[float, frozenset[tuple[int, int]]] = (0.0, frozenset())


def why_unfinished(descriptor: int, before: os.stat_result, *, now: float) -> str:
    """Return why the bytes that were just read may be a part of the file; empty if they are whole.

    `before`: the file's state before they were read.
    """
    # The time of the last change is the kernel's; programs set the time of modification.
    quiet = now - before.st_ctime
    writing = is_open_for_writing(descriptor) if quiet < PATIENCE else False
    if writing is None and -_QUIET < quiet < _QUIET:
        time.sleep(_QUIET - max(quiet, 0.0))
    if _state(before) != _state(os.fstat(descriptor)):
        return "it changed while it was read"
    return "another process has it open for writing" if writing else ""


def _state(info: os.stat_result) -> tuple[int, int, int]:
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns


def is_open_for_writing(descriptor: int) -> bool | None:
    """Return whether a process of this machine may write the open file; None if the system does not tell.

    Linux grants a read lease only for a file that nobody has open for writing. Leases are for the file's owner and
    root, and some file systems have none; then the open files of this user's processes are looked through.
    """
    if (writing := _refuses_lease(descriptor)) is not None:
        return writing
    info = os.fstat(descriptor)
    return True if (info.st_dev, info.st_ino) in _open_files() else None


def _refuses_lease(descriptor: int) -> bool | None:
    """Return whether the file gets no read lease; None if this file system or user can have none."""
    if _is_remote(descriptor):
        return None
    try:
        import fcntl

        # A process that opens the file meanwhile waits for microseconds. The signal about it is one that is ignored
        # by default; the usual one, SIGIO, ends a process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except (OSError, ImportError, AttributeError):
        return None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _is_remote(descriptor: int) -> bool:
    try:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return False
    mounts = _mounts(int(time.monotonic()) // 60)
    below = [(len(point), kind) for point, kind in mounts if f"{path}/".startswith(point)]
    return bool(below) and _REMOTE.search(max(below)[1]) is not None


@lru_cache(maxsize=1)
def _mounts(minute: int) -> list[tuple[str, str]]:
    """Return (mount point with a final slash, type) of the file systems, read once a minute."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        place, _, kind = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), place.split()[4])
        found.append((point.rstrip("/") + "/", kind.split()[0]))
    return found


def _open_files() -> frozenset[tuple[int, int]]:
    """Return (device, inode) of the files that are open for writing, as far as /proc shows them to this user."""
    global _scanned
    with _lock:
        if time.monotonic() - _scanned[0] > _SCAN_SECONDS:
            _scanned = (time.monotonic(), frozenset(_scan()))
        return _scanned[1]


def _scan() -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    try:
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return found
    for process in processes:
        try:
            with os.scandir(f"/proc/{process}/fd") as links:
                # The permissions of the link are those of the open file.
                writable = [x.path for x in links if x.stat(follow_symlinks=False).st_mode & 0o200]
        except OSError:
            continue
        for path in writable:
            try:
                info = os.stat(path)
            except OSError:
                continue
            found.add((info.st_dev, info.st_ino))
    return found
