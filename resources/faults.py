"""Fault points: named places where a crash would hurt most. Unarmed, a passage costs one comparison.

`RAG_FAULT=<name>:<nth>` kills this process with SIGKILL at the nth passage of the point; `RAG_FAULT=<name>:<nth>:<pid>`
kills that process (a server) instead, with RAG_FAULT_SIGNAL (default KILL), and goes on.
"""

from __future__ import annotations

import os
import signal
import threading

_armed = os.environ.get("RAG_FAULT", "")
_passages = 0
_lock = threading.Lock()


def passage(point: str) -> None:
    """Marks that a process passes `point`."""
    if _armed:
        _pass(point)


def _pass(point: str) -> None:
    global _passages
    name, nth, *victim = _armed.split(":")
    if name != point:
        return
    with _lock:
        _passages += 1
        if _passages == int(nth):
            sign = signal.Signals[f"SIG{os.environ.get('RAG_FAULT_SIGNAL', 'KILL')}"]
            os.kill(int(victim[0]) if victim else os.getpid(), sign if victim else signal.SIGKILL)
