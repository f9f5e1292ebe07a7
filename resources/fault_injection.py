"""Fault points: named places where a crash would hurt most. Unarmed, a passage costs one comparison (0.03 µs).

`RAG_FAULT=<name>:<nth>` kills this process at the nth passage of the point, with RAG_FAULT_SIGNAL (default KILL; STOP
halts it there). `<name>:<nth>:<pid>` kills that process (a server) instead, waits for its end and goes on;
`<name>:<nth>:<pid>:<ms>` does so only so many milliseconds later, while this process goes on. The names are listed in
tests/faults/points.py.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter

#: Passages of each point since it was armed.
passages: Counter[str] = Counter()

_armed = os.environ.get("RAG_FAULT", "")
_lock = threading.Lock()

#: Seconds that a killed server has to end in.
_END = 10.0


def fault_point(point: str) -> None:
    """Mark that the process passes `point`."""
    if _armed:
        _pass(point)


def arm(fault: str) -> None:
    """Arms a fault in this process, as RAG_FAULT does; `count:0` only counts passages."""
    global _armed
    passages.clear()
    _armed = fault


def _pass(point: str) -> None:
    name, nth, *victim = _armed.split(":")
    with _lock:
        passages[point] += 1
        if name != point or passages[point] != int(nth):
            return
    if not victim:
        # By thread: of a process some thread takes the signal, and this one would go on until it did.
        signal.pthread_kill(threading.get_ident(), _signal())
    elif len(victim) == 1:
        _kill(int(victim[0]))
    else:
        threading.Timer(int(victim[1]) / 1000, _kill, [int(victim[0])]).start()


def _signal() -> signal.Signals:
    return signal.Signals[f"SIG{os.environ.get('RAG_FAULT_SIGNAL', 'KILL')}"]


def _kill(pid: int) -> None:
    import psutil

    process = psutil.Process(pid)
    process.send_signal(_signal())
    deadline = time.monotonic() + _END
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} did not end")
        time.sleep(0.001)
