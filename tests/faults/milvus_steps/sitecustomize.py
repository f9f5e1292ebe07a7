"""Loaded by a Milvus Lite process whose PYTHONPATH contains this folder: the process kills itself at a given step.

RAG_SERVER_FAULT="flush:before save" kills it there in a flush, "maintenance:…" in a compaction or index build. Steps
are the moments before and after a file is written, committed or removed, or an index is built.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from milvus_lite.engine import collection, compaction, flush
from milvus_lite.storage import manifest, wal

_current = threading.local()


def _step(name: str) -> None:
    if f"{getattr(_current, 'name', '')}:{name}" == os.environ["RAG_SERVER_FAULT"]:
        os.kill(os.getpid(), signal.SIGKILL)


def _steps_around(owner: Any, name: str) -> None:
    method = getattr(owner, name)

    def stepping(*arguments: Any, **options: Any) -> Any:
        _step(f"before {name}")
        answer = method(*arguments, **options)
        _step(f"after {name}")
        return answer

    setattr(owner, name, stepping)


def _work(owner: Any, name: str, work: str) -> None:
    method = getattr(owner, name)

    def working(*arguments: Any, **options: Any) -> Any:
        _current.name = work
        try:
            return method(*arguments, **options)
        finally:
            _current.name = ""

    setattr(owner, name, working)


_steps_around(flush, "write_data_file")
_steps_around(compaction, "write_data_file")
_steps_around(manifest.Manifest, "save")
_steps_around(wal.WAL, "close_and_delete")
_steps_around(collection.Collection, "_build_or_load_segment_index")
_steps_around(os, "remove")
_work(collection, "execute_flush", "flush")
_work(collection.Collection, "_bg_compact_and_index", "maintenance")
