"""Shortens a wait of pymilvus that tests need not sit through. Importing this module at any time is enough."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from pymilvus.client import grpc_handler

# After half a second pymilvus polls whether an index is built; Milvus Lite has built it at once.
_SHORT_TIME: Any = SimpleNamespace(
    time=time.time, sleep=lambda seconds: time.sleep(0.01 if seconds == 0.5 else seconds)
)
grpc_handler.time = _SHORT_TIME
