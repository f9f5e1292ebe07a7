"""Requests that the embedded Milvus Lite serves at the same time: searches. All others are served one by one, alone.

The engine has no lock around writes: two threads can take the same sequence number or open a collection twice, one can
write into a log that a flush deletes, and a read during a flush misses its rows. Searches change nothing, and most of
their time is spent in faiss and NumPy, which let other threads run.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Methods of the gRPC service that change nothing.
SEARCHES = frozenset({"Search", "HybridSearch"})


class Turns:
    """Lets in searches together and everything else alone, in about the order of arrival: neither side starves."""

    def __init__(self, at_once: int = 0) -> None:
        # More threads than processors would only wait for each other.
        self._places = threading.Semaphore(at_once or os.cpu_count() or 1)
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._searches = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        with self._places:
            with self._turn, self._changed:
                self._searches += 1
            try:
                yield
            finally:
                with self._changed:
                    self._searches -= 1
                    self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        # A search that arrives later waits for the turn.
        with self._turn:
            with self._changed:
                self._changed.wait_for(lambda: self._searches == 0)
            yield


def in_turn(turns: Turns) -> Any:
    """Return the gRPC interceptor that gives each request its turn."""
    import grpc

    class InTurn(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            handler = continuation(handler_call_details)
            if handler is None or handler.unary_unary is None:
                return handler
            serve = handler.unary_unary
            name = handler_call_details.method.rsplit("/", 1)[-1]
            turn = turns.together if name in SEARCHES else turns.alone

            def serve_in_turn(request: Any, context: Any) -> Any:
                with turn():
                    return serve(request, context)

            return grpc.unary_unary_rpc_method_handler(
                serve_in_turn, handler.request_deserializer, handler.response_serializer
            )

    return InTurn()
