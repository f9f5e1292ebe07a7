"""Starts the processes of `rag serve`, starts one that died again, and ends them all in order."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rag_assets.serving.options import READY, ServeOptions, listening_socket
from resources.errors import StackError

#: Seconds that a process may take until it serves.
START_SECONDS = 60.0
#: A process that lived for less before it died is started again only after this time.
PAUSE_SECONDS = 2.0
_WORKER = (sys.executable, "-m", "rag_assets.serving.worker")


@dataclass
class Supervisor:
    """Runs the workers of the options. `drain_seconds`: what requests in progress get at the end."""

    options: ServeOptions
    drain_seconds: float
    environment: Mapping[str, str]
    report: Callable[[str], None]
    _workers: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False)
    _ending: threading.Event = field(default_factory=threading.Event, init=False)

    def start(self) -> int:
        """Start the workers and wait until all serve. Returns the port. Raises StackError if one does not."""
        # Bound and not listening: it keeps the port while workers come and go, and finds a free one for 0.
        self._reserved = listening_socket(self.options.host, self.options.port)
        port = self._reserved.getsockname()[1]
        self.options = ServeOptions(**{**vars(self.options), "port": port})
        self._workers = [self._spawn() for _ in range(self.options.workers)]
        deadline = time.monotonic() + START_SECONDS
        for worker in self._workers:
            if not _says_ready(worker, deadline):
                code = worker.poll()
                self.end()
                state = "does not serve" if code is None else f"ended with code {code}"
                raise StackError(f"A process of the service {state}; its messages are above.")
        return port

    def run(self) -> None:
        """Look after the workers until `stop` is called."""
        while not self._ending.wait(0.2):
            for n, worker in enumerate(self._workers):
                if worker.poll() is None:
                    continue
                self.report(
                    f"process {worker.pid} of the service ended with code {worker.returncode}; starting it again"
                )
                if self._ending.wait(PAUSE_SECONDS):
                    break
                self._workers[n] = self._spawn()
        self.end()

    def stop(self) -> None:
        self._ending.set()

    def signal(self, number: int) -> None:
        """Pass a signal on to the workers."""
        for worker in self._workers:
            if worker.poll() is None:
                worker.send_signal(number)

    def end(self) -> None:
        """End the workers: they finish the requests in progress."""
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + self.drain_seconds + 5
        for worker in self._workers:
            try:
                worker.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    pipe.close()
        self._reserved.close()

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            _WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **self.environment, **self.options.environment()},
            # Ctrl-C in a terminal reaches this process alone, which ends the others in order.
            start_new_session=True,
        )


def _says_ready(worker: subprocess.Popen[bytes], deadline: float) -> bool:
    assert worker.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(worker.stdout, selectors.EVENT_READ)
        if not selector.select(max(0.0, deadline - time.monotonic())):
            return False
    return worker.stdout.readline().decode().strip() == READY
