"""Waits of libraries that tests need not sit through; what is waited for, and how often, is as ever."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from pymilvus.client import grpc_handler

from rag_assets.assets import run_stage

# Steps are tried again as often as ever, but after 0.5, 1 and 2 seconds instead of 2, 4 and 8.
run_stage.RETRY = run_stage.RETRY._replace(delay=0.5)
run_stage.COMMON["retry_policy"] = run_stage.RETRY

# pymilvus looks half a second later whether an index is made; Milvus Lite has made it at once.
_LOOK: Any = SimpleNamespace(
    time=time.time, sleep=lambda seconds: time.sleep(0.01 if seconds == 0.5 else seconds)
)
grpc_handler.time = _LOOK
