"""The audit of a process: one thread writes the records of all requests in batches.

`write` returns when the record is durable. `note`, for searches, returns at once: it is written within a second.
Nothing is dropped: while PostgreSQL is away, notes wait, and once `WAITING` of them wait, the next search is refused.
What cannot be written even at the end of the process goes to the log, whole.

Changes that are made in a transaction call `append` of `resources.postgres.identity.audit_chain` in that transaction.
No caller may write here from inside a transaction that has appended: both would wait for each other.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import islice

from rag_assets.identity.audit_anchors import Anchors
from rag_assets.pipeline.audit_chain import FIELDS, ChainHead, RecordTexts, record_texts
from rag_assets.pipeline.audit_record import AuditRecord
from resources.errors import Overloaded, StoreUnavailable
from resources.postgres.connection_pool import Connections
from resources.postgres.identity.audit_chain import append_texts, chain_head

log = logging.getLogger(__name__)

#: Notes that may wait: usually 5 MB.
WAITING = 10_000
#: Records of one transaction.
BATCH = 1_000
#: Seconds that a note waits for others, and between two tries while PostgreSQL is away.
NOTE_SECONDS = 0.25
RETRY_SECONDS = 1.0
#: Seconds that PostgreSQL may take to give a connection, and for each statement; seconds of tries at the end.
CONNECTION_SECONDS = 5.0
STATEMENT_SECONDS = 10.0
CLOSING_SECONDS = 10.0


class AuditLog:
    """Safe in threads. `write` and `note` raise StoreUnavailable after `close`."""

    def __init__(self, url: str, anchors: Anchors, *, waiting: int = WAITING) -> None:
        # A pool of its own: no request that waits for the audit has the connection that the audit needs.
        self._connections = Connections(
            url, size=1, timeout=CONNECTION_SECONDS, statement_seconds=STATEMENT_SECONDS
        )
        self._anchors, self._waiting = anchors, waiting
        self._changed = threading.Condition()
        self._writes: deque[tuple[RecordTexts, Future[ChainHead]]] = deque()
        self._notes: deque[RecordTexts] = deque()
        self._failing = self._closing = False
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def write(self, record: AuditRecord) -> ChainHead:
        """Write a record, and return once it is durable. Raises StoreUnavailable if it may not be."""
        return self._submit(record).result()

    def note(self, record: AuditRecord) -> None:
        """Leave a record to be written within a second. Raises Overloaded if too many wait."""
        texts = record_texts(record)
        with self._changed:
            self._require_open()
            if len(self._notes) >= self._waiting:
                raise Overloaded(
                    "Too many records of searches wait to be written to the audit. Try again later.",
                    RETRY_SECONDS,
                )
            self._notes.append(texts)
            # The thread wakes up for the first one, and waits for others by itself.
            if len(self._notes) in (1, BATCH):
                self._changed.notify()

    def close(self) -> None:
        """Write the remaining records, anchor the head, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._connections.close()
        self._anchors.close()

    def _submit(self, record: AuditRecord) -> Future[ChainHead]:
        texts, future = record_texts(record), Future[ChainHead]()
        # A caller cannot cancel what may be written already.
        future.set_running_or_notify_cancel()
        with self._changed:
            self._require_open()
            self._writes.append((texts, future))
            self._changed.notify()
        return future

    def _require_open(self) -> None:
        if self._closing:
            raise StoreUnavailable("The service is stopping. Try again later.")

    # The thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        deadline: float | None = None
        while True:
            writes, notes = self._next_batch()
            if self._closing and deadline is None:
                deadline = time.monotonic() + CLOSING_SECONDS
            if writes or notes:
                self._write(writes, notes)
            elif self._closing:
                self._anchor(None)
                return
            if self._anchors.due and not self._failing:
                self._anchor(None)
            if self._failing and deadline is not None and time.monotonic() > deadline:
                self._give_up()
                return

    def _next_batch(
        self,
    ) -> tuple[list[tuple[RecordTexts, Future[ChainHead]]], list[RecordTexts]]:
        """Wait for records, or until an anchor may be due. Returns writes and notes. Notes stay queued."""
        with self._changed:
            if self._failing:
                # A write is tried at once.
                self._changed.wait_for(lambda: bool(self._writes), RETRY_SECONDS)
            else:
                self._changed.wait_for(
                    lambda: bool(self._writes or self._notes or self._closing),
                    self._anchors.seconds,
                )
                self._changed.wait_for(
                    lambda: (
                        not self._notes
                        or bool(self._writes or self._closing)
                        or len(self._notes) >= BATCH
                    ),
                    NOTE_SECONDS,
                )
            writes = [self._writes.popleft() for _ in range(min(len(self._writes), BATCH))]
            return writes, list(islice(self._notes, BATCH - len(writes)))

    def _write(
        self,
        writes: Sequence[tuple[RecordTexts, Future[ChainHead]]],
        notes: Sequence[RecordTexts],
    ) -> None:
        try:
            with self._connections.connection() as connection, connection.transaction():
                head = append_texts(connection, [*notes, *(texts for texts, _ in writes)])
        except BaseException as error:
            if not self._failing:
                log.error("The audit cannot be written: %s", error)
            self._failing = True
            for _, future in writes:
                failure = StoreUnavailable(
                    "The audit cannot be written, so the request is not acknowledged. Try again later."
                )
                failure.__cause__ = error
                future.set_exception(failure)
            return
        if self._failing:
            log.info("The audit can be written again.")
        self._failing = False
        with self._changed:
            for _ in notes:
                self._notes.popleft()
        for _, future in writes:
            future.set_result(head)
        if self._anchors.due:
            self._anchor(head)

    def _anchor(self, head: ChainHead | None) -> None:
        """Anchor the head; None: that of the table, to which other processes and transactions append too."""
        try:
            if head is None:
                with self._connections.connection() as connection:
                    head = chain_head(connection)
            self._anchors.write(head)
        except Exception as error:
            log.warning("The head of the audit was not anchored: %s", error)

    def _give_up(self) -> None:
        with self._changed:
            notes, writes = list(self._notes), list(self._writes)
        for _, future in writes:
            future.set_exception(StoreUnavailable("The service is stopping. Try again later."))
        for texts in notes:
            values = dict(zip(FIELDS[2:], texts))
            log.error("Not written to the audit: %s", json.dumps(values, ensure_ascii=False))
