"""A child process that answers on a socket: `python -m MODULE FD`, with a `multiprocessing` connection at both ends.

Who asks what, and what becomes of a child that dies or hangs, is its users'. Plain processes instead of
`multiprocessing`: its children import the parent's main module, 1.3 s where that is Dagster's; these start in 0.2 s.
A child sees the end of its socket when its parent is gone, however that ended, and a parent when its child is.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

_ROOT = Path(__file__).parents[1]


class ChildProcess:
    """`environment` is added to ours. What the child prints is dropped; its errors, unless `errors`, too."""

    def __init__(
        self, module: str, environment: Mapping[str, str] | None = None, *, errors: bool = False
    ) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, **(environment or {}), "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if errors else subprocess.DEVNULL,
            )
        self.connection = Connection(ours.detach())

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> str:
        """Ends it, however busy. Returns what ended it, also if that was before: "signal 9", "exit code 1"."""
        if self._process.poll() is None:
            self._process.kill()
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"
