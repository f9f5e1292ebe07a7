"""Parsing under a time limit and a memory limit: risky files are parsed in processes that may hang, grow or crash.

`_in_process_format` selects the files that this process parses itself; `worker` is the code of a worker process.
Libraries of process pools limit the time of a task, but not its memory.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType

import psutil

from rag_assets.pipeline.copies import once_per_copy
from resources.child_process import ChildProcess
from resources.errors import ParseError
from resources.parsing.document import ParsedDocument, read_document
from resources.parsing.formats import Format, detect_format
from resources.parsing.worker import try_parse

#: Up to this size, this process parses the formats of our own readers. The worst known text of this size (32,000
#: combining marks) takes 1.3 s, the worst of 400 KiB half a minute; a page of Markdown 0.2 ms.
IN_PROCESS_BYTES = 64 * 1024
_IN_PROCESS_READERS = frozenset(
    ("text", "markdown", "table", "json", "subtitles", "calendar", "xml")
)
#: Signatures of office files: format detection already reads their content.
_CONTAINERS = (b"PK", b"\xd0\xcf\x11\xe0")
#: Interval between checks of a busy worker. Memory can grow by about 100 MiB in it.
_POLL_SECONDS = 0.05
#: Limit for Python and the libraries to load, which takes 0.3 s on an idle machine.
_START_SECONDS = 60


class LimitExceeded(ParseError):
    """A document took too long or too much memory; higher limits may allow it."""


class ParserPool:
    """A context manager that parses documents; thread-safe, with at most one worker process for each calling thread.

    Workers start on demand. The pool kills them when it closes, even busy ones, so an interrupted run does not wait.
    """

    def __init__(self, *, seconds: float = 60, memory_mib: int = 1024) -> None:
        self.seconds = seconds
        self.memory_mib = memory_mib
        self._read = once_per_copy(read_document)
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

    def parse(
        self, data: bytes, key: str, *, language: str | None = None, charset: str | None = None
    ) -> ParsedDocument:
        """Parse like `parse_document`. Raises ParseError also if the parser fails, crashes twice or exceeds a limit."""
        if file_format := _in_process_format(data, key):
            result = try_parse(data, key, language, charset, file_format, self._read)
        else:
            # The first crash may have an outside cause, such as a kill: try again once.
            result = self._parse_in_worker(data, key, language, charset)
            result = result or self._parse_in_worker(data, key, language, charset, attempt=2)
        if isinstance(result, ParsedDocument):
            return result
        raise ParseError(result)

    def _parse_in_worker(
        self,
        data: bytes,
        key: str,
        language: str | None,
        charset: str | None = None,
        attempt: int = 1,
    ) -> ParsedDocument | str | None:
        with self._lock:
            if self._closed:
                raise RuntimeError("the parser pool is closed")
            worker = self._idle.pop() if self._idle else _Worker()
            self._busy.add(worker)
        reusable = False
        try:
            request = (data, key, language, charset, self.seconds)
            result = worker.ask(request, self.seconds, self.memory_mib)
            # Memory that a worker retains must not count against the next file.
            reusable = worker.memory_mib() < self.memory_mib / 2
            return result
        except (EOFError, ConnectionError):
            return None if attempt == 1 else f"the parser crashed ({worker.kill()})"
        finally:
            with self._lock:
                self._busy.remove(worker)
                if reusable and not self._closed:
                    self._idle.append(worker)
                else:
                    worker.kill()


class _Worker(ChildProcess):
    def __init__(self) -> None:
        # Parsers print warnings; the results come through the connection.
        super().__init__("resources.parsing.worker")
        self._ready = False

    def ask(self, request: object, seconds: float, memory_mib: int) -> ParsedDocument | str:
        """Return the worker's result. Raises LimitExceeded, or EOFError or ConnectionError if the worker died."""
        if not self._ready:
            if not self.connection.poll(_START_SECONDS):
                raise LimitExceeded(f"the parser did not start within {_START_SECONDS} s")
            self._ready = self.connection.recv()
        started = time.monotonic()
        self.connection.send(request)
        while not self.connection.poll(_POLL_SECONDS):
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


def _in_process_format(data: bytes, key: str) -> Format | None:
    """Return the format of a file that is safe to parse in this process, else None.

    Safe files are small and read by our own code, in linear time. Raises ParseError if the format is unsupported.
    """
    if len(data) > IN_PROCESS_BYTES or data.startswith(_CONTAINERS):
        return None
    file_format = detect_format(data, key)
    return file_format if file_format.reader in _IN_PROCESS_READERS else None
