"""Unit tests are pure: a test of this folder that starts a process or opens a connection fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

IMPURE = {
    "subprocess.Popen",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.system",
    "socket.connect",
}
_watched = False


def _reject(event: str, arguments: tuple[object, ...]) -> None:
    if not _watched or event not in IMPURE:
        return
    # The import of croniter asks the program `file` about Python's own executable.
    if arguments[:1] != ("file",):
        raise AssertionError(f"a unit test caused {event} {arguments[:2]}: move it to tests/stores")


# An audit hook cannot be removed: it stays, unwatched, while this process runs other folders.
sys.addaudithook(_reject)


@pytest.fixture(autouse=True)
def pure() -> Iterator[None]:
    global _watched
    _watched = True
    yield
    _watched = False
