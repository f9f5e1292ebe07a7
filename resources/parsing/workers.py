"""Parsing under a time limit and a memory limit: risky files in processes that may hang, swell or die.

What is done in this process, and why it may be, says `_format_here`; what a worker does is in `worker`. Libraries of
process pools limit the time of a task, but not its memory.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType

import psutil

from resources.child_process import ChildProcess
from resources.errors import ParseError
from resources.parsing.document import ParsedDocument
from resources.parsing.formats import Format, detect_format
from resources.parsing.worker import answer

#: Up to this size, formats that are read by our own code stay in this process. The worst text of this size that we
#: know (32,000 combining marks) takes 1.3 s, the worst of 400 KiB half a minute; a page of Markdown 0.2 ms.
HERE_BYTES = 64 * 1024
_HERE_READERS = frozenset(("text", "markdown", "table", "json", "subtitles", "xml"))
#: How office files begin: to tell their kind is already reading them.
_CONTAINERS = (b"PK", b"\xd0\xcf\x11\xe0")
#: Seconds between two looks at a busy worker. Memory can grow by about 100 MiB between them.
_LOOK = 0.05
#: For Python and the libraries to load, which takes 0.3 s on an idle machine.
_START_SECONDS = 60


class LimitExceeded(ParseError):
    """A document that took too long or too much memory: it may be read under other limits."""


class ParserPool:
    """Parses documents; safe to call from several threads, with at most one worker process for each.

    Workers start when they are needed and end with the pool, which is a context manager; also those that are busy, so
    that an interrupted run need not wait for them.
    """

    def __init__(self, *, seconds: float = 60, memory_mib: int = 1024) -> None:
        self.seconds = seconds
        self.memory_mib = memory_mib
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._closed = False

    def __enter__(self) -> ParserPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closed = True
            for worker in [*self._idle, *self._busy]:
                worker.kill()

    def parse(self, data: bytes, key: str, *, language: str | None = None) -> ParsedDocument:
        """As `parse_document`. ParseError too when the parser fails, crashes (twice) or exceeds a limit."""
        if format_here := _format_here(data, key):
            found = answer(data, key, language, format_here)
        else:
            # An innocent worker may be killed from outside: only who dies a second time is at fault.
            found = self._in_worker(data, key, language) or self._in_worker(data, key, language, 2)
        if isinstance(found, ParsedDocument):
            return found
        raise ParseError(found)

    def _in_worker(
        self, data: bytes, key: str, language: str | None, attempt: int = 1
    ) -> ParsedDocument | str | None:
        with self._lock:
            if self._closed:
                raise RuntimeError("the parser pool is closed")
            worker = self._idle.pop() if self._idle else _Worker()
            self._busy.add(worker)
        sound = False
        try:
            found = worker.ask((data, key, language, self.seconds), self.seconds, self.memory_mib)
            # What a worker keeps of this file must not count against the next one.
            sound = worker.memory_mib() < self.memory_mib / 2
            return found
        except (EOFError, ConnectionError):
            return None if attempt == 1 else f"the parser crashed ({worker.kill()})"
        finally:
            with self._lock:
                self._busy.remove(worker)
                if sound and not self._closed:
                    self._idle.append(worker)
                else:
                    worker.kill()


class _Worker(ChildProcess):
    def __init__(self) -> None:
        # Parsers warn; what matters comes as an answer.
        super().__init__("resources.parsing.worker")
        self._ready = False

    def ask(self, request: object, seconds: float, memory_mib: int) -> ParsedDocument | str:
        """The answer. LimitExceeded; EOFError or ConnectionError where the worker died."""
        if not self._ready:
            if not self.connection.poll(_START_SECONDS):
                raise LimitExceeded(f"the parser did not start within {_START_SECONDS} s")
            self._ready = self.connection.recv()
        started = time.monotonic()
        self.connection.send(request)
        while not self.connection.poll(_LOOK):
            if time.monotonic() - started > seconds:
                raise LimitExceeded(
                    f"parsing took longer than {seconds:g} s; RAG_PARSE_SECONDS allows more"
                )
            if self.memory_mib() > memory_mib:
                raise LimitExceeded(
                    f"parsing needed more than {memory_mib} MiB; RAG_PARSE_MEMORY_MIB allows more"
                )
        return self.connection.recv()

    def memory_mib(self) -> float:
        try:
            return psutil.Process(self.pid).memory_info().rss / 2**20
        except psutil.Error:
            return 0.0


def _format_here(data: bytes, key: str) -> Format | None:
    """The format of a file that can neither hang nor swell: small, and read by code of ours, linear in its size.

    ParseError: of a kind that is not read, as its first bytes say.
    """
    if len(data) > HERE_BYTES or data.startswith(_CONTAINERS):
        return None
    found = detect_format(data, key)
    return found if found.reader in _HERE_READERS else None
