"""Sessions of PostgreSQL that ended without an error, kept for the next use in this process.

A new session costs the server about 20 ms, in which it reads the catalogue of the partitioned tables; the steps of one
run open about 20 sessions, one after the other. psycopg's pool is not used here: it connects in threads of its own,
which a forked process does not have, and reports a wrong password as a timeout.
"""

from __future__ import annotations

import os
import select
import threading
import time
from typing import NamedTuple

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

#: Sessions kept for one URL. The main thread of a run has one or two at a time.
KEPT = 2

#: Seconds after which an idle session is not used again: its server or a firewall may have forgotten it.
SECONDS = 30.0

#: Removes what a session has beyond a new one. Prepared statements stay.
_RESET = "CLOSE ALL; RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD TEMP"

Session = psycopg.Connection[TupleRow]


class _Idle(NamedTuple):
    session: Session
    process: int
    since: float


_idle: dict[str, list[_Idle]] = {}
_lock = threading.Lock()


def take(url: str) -> Session | None:
    """Return an idle session of this URL that its server has not ended, or None."""
    while (entry := _next(url)) is not None:
        # A forked process shares the socket with its parent, and must not end the session.
        if entry.process == os.getpid():
            if time.monotonic() - entry.since < SECONDS and not _has_ended(entry.session):
                return entry.session
            entry.session.close()
    return None


def keep(url: str, session: Session) -> bool:
    """Keep a session for the next use. Returns False if the caller must close it."""
    if session.closed or session.info.transaction_status != TransactionStatus.IDLE:
        return False
    with _lock:
        if len(_idle.get(url, ())) >= KEPT:
            return False
    try:
        session.autocommit = True
        session.execute(_RESET)
    except psycopg.Error:
        return False
    with _lock:
        _idle.setdefault(url, []).append(_Idle(session, os.getpid(), time.monotonic()))
    return True


def _next(url: str) -> _Idle | None:
    with _lock:
        entries = _idle.get(url)
        return entries.pop() if entries else None


def _has_ended(session: Session) -> bool:
    # An idle server sends nothing but its farewell.
    return bool(select.select([session.fileno()], [], [], 0)[0])
