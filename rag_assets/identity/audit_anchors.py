"""Anchors: the head of the audit's chain, kept outside the database.

Whoever can change everything in the database can also write a chain that verifies. An anchor shows it: the chain no
longer has the record that the anchor names. There is a log line, a line of a file that is only appended to, and, if a
URL is set, a POST of JSON.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from rag_assets.pipeline.audit_chain import ChainHead, time_text
from resources.errors import ConfigError
from resources.http_answers import reason

log = logging.getLogger(__name__)

#: Seconds that the receiver of a POST may take, between two tries, and at the end of the process.
POST_SECONDS = 5.0
RETRY_SECONDS = 5.0


class Anchors:
    """Writes anchors, at most one in `seconds`. Its failures are logged and tried again; they stop nothing else."""

    def __init__(self, file: Path, url: str = "", seconds: float = 10.0) -> None:
        self.file, self.seconds = file, seconds
        self._last, self._next = -1, 0.0
        self._posts = _Posts(url) if url else None

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._next

    def write(self, head: ChainHead) -> None:
        """Anchor the head of a committed chain, unless it is anchored already."""
        self._next = time.monotonic() + self.seconds
        if head.sequence in (0, self._last):
            return
        line = anchor_line(head)
        log.info("audit head: record %d, hash %s", head.sequence, head.hash.hex())
        try:
            # One write to a file opened for appending: processes do not mix their lines.
            descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._last = head.sequence
        except OSError as error:
            log.error("The head of the audit was not anchored in %s: %s", self.file, error.strerror)
        if self._posts:
            self._posts.send(line)

    def close(self) -> None:
        """Wait, a few seconds, until the last anchor is sent."""
        if self._posts:
            self._posts.close()


def anchor_line(head: ChainHead) -> bytes:
    """Return a line of the file, which is also the body of the POST."""
    values = {
        "sequence": head.sequence,
        "hash": head.hash.hex(),
        "anchored_at": time_text(datetime.now(UTC)),
    }
    return (json.dumps(values) + "\n").encode()


def read_anchors(file: Path) -> Iterator[ChainHead]:
    """Yield the anchors of a file; none if it does not exist. Raises ConfigError for a line that is no anchor."""
    with suppress(FileNotFoundError), file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                values = json.loads(line)
                yield ChainHead(int(values["sequence"]), bytes.fromhex(values["hash"]))
            except (ValueError, KeyError, TypeError, RecursionError):
                # A line without an end: the machine stopped while it was written.
                if line.endswith(b"\n"):
                    raise ConfigError(
                        f"{file}, line {number}: expected an anchor of the audit (a JSON object with sequence and "
                        "hash), found something else. Restore the file, or verify with --anchors and another one."
                    ) from None


class _Posts:
    """Sends the newest anchor in a thread of its own, until it is received or there is a newer one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._changed = threading.Condition()
        self._body: bytes | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    def send(self, body: bytes) -> None:
        with self._changed:
            self._body = body
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="audit anchors", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(POST_SECONDS + 1)

    def _run(self) -> None:
        # 40 ms of import.
        import urllib3

        pool = urllib3.PoolManager(num_pools=1, maxsize=1)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._body is not None or self._closing)
                body = self._body
                if body is None:
                    return
            received = self._post(pool, body)
            with self._changed:
                if received and self._body is body:
                    self._body = None
                elif not received:
                    if self._closing:
                        return
                    self._changed.wait(RETRY_SECONDS)

    def _post(self, pool: object, body: bytes) -> bool:
        import urllib3

        assert isinstance(pool, urllib3.PoolManager)
        try:
            response = pool.request(
                "POST",
                self._url,
                body=body,
                headers={"Content-Type": "application/json", "User-Agent": "rag-assets"},
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=urllib3.Timeout(total=POST_SECONDS),
            )
            with closing(response):
                status = response.status
            found = "" if 200 <= status < 300 else f"expected status 2xx, found {status}"
        except urllib3.exceptions.HTTPError as error:
            found = reason(error)
        if found:
            # Without the URL: it may contain a token.
            log.warning("The head of the audit was not received at RAG_AUDIT_ANCHOR_URL: %s", found)
        return not found
