"""Requests to a Milvus server: connected at the first, and one error for whatever does not answer."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from resources.errors import RagError, StoreUnavailable
from resources.milvus.collections import Client
from resources.urls import redact

# It logs a traceback for every error that it also raises; ours say the same in a sentence.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

#: Keys a get or a delete.
KEYS = 500
#: Seconds that a request over many rows may take: Milvus Lite walks those that it holds in memory.
SCAN_TIMEOUT = 120.0

T = TypeVar("T")


@dataclass(frozen=True)
class MilvusConnection:
    """A server by its URI. `timeout`: seconds a request may take. `search_consistency`: of searches; "Strong" ones wait
    until the server is sure to know what was written before: 200 ms on 2.3.5, whatever is searched for."""

    uri: str
    token: str = ""
    timeout: float = 30.0
    search_consistency: str = "Strong"

    @cached_property
    def client(self) -> Client:
        with self._errors("connect"):
            return MilvusClient(self.uri, token=self.token, timeout=self.timeout)

    def close(self) -> None:
        if "client" in self.__dict__:
            self.__dict__.pop("client").close()  # another request would connect anew

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except RagError:
            raise
        except MilvusException as error:
            raise self._unavailable(what, error.message) from error
        except Exception as error:
            # gRPC and socket errors come through as their own types, without a common base.
            if type(error).__module__.split(".")[0] not in ("grpc", "builtins", "socket"):
                raise
            if isinstance(error, (TypeError, AttributeError, KeyError, IndexError, AssertionError)):
                raise
            raise self._unavailable(what, error) from error

    def _unavailable(self, what: str, reason: object) -> StoreUnavailable:
        message = f"Milvus at {self.uri} could not {what}: {reason}"
        return StoreUnavailable(redact(message, self.uri))

    def _call(self, what: str, method: str, name: str, *args: Any, **options: Any) -> Any:
        """A request to a collection; one that is not loaded (after a server's restart) is loaded and asked again."""
        call = getattr(self.client, method)
        options.setdefault("timeout", self.timeout)
        with self._errors(what):
            try:
                return call(name, *args, **options)
            except MilvusException as error:
                message = str(error.message).lower()
                if "not loaded" not in message and "'released'" not in message:
                    raise
                self.client.load_collection(name, timeout=self.timeout)
                return call(name, *args, **options)


def parts(items: Sequence[T], size: int) -> Iterator[list[T]]:
    return (list(items[start : start + size]) for start in range(0, len(items), size))
