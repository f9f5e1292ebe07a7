"""The command `rag` in a fresh home, measured as a process: seconds, peak memory, and output."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resources.embedded.stack import stop

ROOT = Path(__file__).resolve().parents[2]
RAG = str(Path(sys.executable).with_name("rag"))


class NotFinished(Exception):
    """A command that was ended at its time limit."""


@dataclass(frozen=True)
class Finished:
    """`seconds` from start to end of the process, including interpreter and imports. `processor`: seconds in user and
    system mode, of its children too. `peak_rss` in bytes.
    """

    seconds: float
    processor: float
    peak_rss: int
    output: str

    def json(self) -> Any:
        return json.loads(self.output)

    def report(self) -> Any:
        """Return the report of the source that `rag ingest` synced. Other programs print it alone."""
        document = self.json()
        return document["sources"][0] if "sources" in document else document


@contextmanager
def fresh_home() -> Iterator[Path]:
    """Yield a folder for a separate stack; at the end, stop its servers and remove it."""
    # SystemExit on SIGTERM, so that the `finally` below runs.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    home = Path(tempfile.mkdtemp(prefix="rag-bench-"))
    try:
        yield home
    finally:
        stop(home, timeout=120)
        shutil.rmtree(home, ignore_errors=True)


def command(
    home: Path, *arguments: str, vectors: str = "dense", **settings: str
) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of `rag` with the free embedder, `settings`, and otherwise the defaults."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAG_")}
    changes = {
        "PYTHONPATH": str(ROOT),
        "RAG_HOME": str(home),
        "RAG_EMBEDDER": "tests.benchmarks.free_embedder:FreeEmbedder",
        "RAG_VECTORS": vectors,
    } | {f"RAG_{name.upper()}": value for name, value in settings.items()}
    return [RAG, *arguments], inherited | changes


def rag(
    home: Path,
    *arguments: str,
    vectors: str = "dense",
    fails: bool = False,
    program: Sequence[str] = (RAG,),
    limit: float | None = None,
    **settings: str,
) -> Finished:
    """Run `rag`, or a program in its place. Ends the benchmark if it fails; with `fails`, exit code 1 is allowed, as of
    a check with findings. Raises NotFinished after `limit` seconds.
    """
    argv, environment = command(home, *arguments, vectors=vectors, **settings)
    argv = [*program, *argv[1:]]
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(argv, env=environment, stdout=output, cwd=ROOT)
        late = threading.Event()
        timer = threading.Timer(limit or threading.TIMEOUT_MAX, _kill, (process.pid, late))
        timer.daemon = True
        timer.start()
        # The usage of the process and of the children that it waited for. Linux passes the peak on through fork and
        # exec, so it is never below that of this process: 40 MB, as long as nothing heavy is imported here.
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            timer.cancel()
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = output.read()
    if late.is_set():
        raise NotFinished(f"not finished in {limit:g} s")
    if process.returncode and not (fails and process.returncode == 1):
        raise SystemExit(f"{' '.join(argv)}: exit code {process.returncode}\n{printed}")
    unit = 1 if sys.platform == "darwin" else 1024
    processor = usage.ru_utime + usage.ru_stime
    return Finished(seconds, processor, usage.ru_maxrss * unit, printed)


def _kill(pid: int, late: threading.Event) -> None:
    late.set()
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
