"""The connection to a Milvus server: opened by the first request. Failed requests raise errors of ours."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from resources.errors import RagError
from resources.milvus.capabilities import Capabilities
from resources.milvus.collections import Client
from resources.milvus.driver import MilvusException
from resources.milvus.failures import CONNECT, failure
from resources.milvus.request_client import RequestClient
from resources.urls import without_secrets
from resources.waiting import waiting

# pymilvus logs a traceback for every error that it raises; our messages state the same in a sentence.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

#: Keys per get or delete.
KEYS_PER_REQUEST = 500
#: Seconds that a request over many rows may take: Milvus Lite reads all rows that it has in memory.
SCAN_TIMEOUT = 120.0

T = TypeVar("T")


@dataclass(frozen=True)
class MilvusConnection:
    """A server by its URI. `timeout`: seconds per request. `search_consistency`: the consistency level of searches;
    "Strong" waits until all earlier writes are visible, which takes 200 ms on 2.3.5 for any search. `ca_file`: the
    authority of an https:// server; "": the authorities that gRPC knows."""

    uri: str
    token: str = ""
    timeout: float = 30.0
    search_consistency: str = "Strong"
    ca_file: str = ""

    @cached_property
    def client(self) -> Client:
        awaited = f"Milvus at {without_secrets(self.uri)}"
        with self._errors(CONNECT), waiting(awaited, self.timeout):
            # Under this name pymilvus takes the file of the authority.
            authority = {"server_pem_path": self.ca_file} if self.ca_file else {}
            return RequestClient(self.uri, token=self.token, timeout=self.timeout, **authority)

    def close(self) -> None:
        if "client" in self.__dict__:
            # Without the cached client, a later request connects again.
            self.__dict__.pop("client").close()
            self.__dict__.pop("capabilities", None)

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the server can do, asked once per client."""
        with self._errors("report its version"):
            return Capabilities(self.client.get_server_version(timeout=self.timeout))

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        """Raise errors of pymilvus and of the network as errors of ours (see `failures`)."""
        try:
            yield
        except RagError:
            raise
        except MilvusException as error:
            raise failure(error, action, self.uri, self.token, self.ca_file) from error
        except Exception as error:
            # gRPC and socket errors arrive as their own types, without a common base class.
            if type(error).__module__.split(".")[0] not in ("grpc", "builtins", "socket"):
                raise
            if isinstance(error, (TypeError, AttributeError, KeyError, IndexError, AssertionError)):
                raise
            raise failure(error, action, self.uri, self.token, self.ca_file) from error

    def _call(self, action: str, method: str, name: str, *args: Any, **options: Any) -> Any:
        """Send a request to a collection. Load a released collection (after a server restart) and ask again."""
        call = getattr(self.client, method)
        options.setdefault("timeout", self.timeout)
        with self._errors(action):
            try:
                return call(name, *args, **options)
            except MilvusException as error:
                message = str(error.message).lower()
                if "not loaded" not in message and "'released'" not in message:
                    raise
                self.client.load_collection(name, timeout=self.timeout)
                return call(name, *args, **options)


def batched(items: Sequence[T], size: int) -> Iterator[list[T]]:
    return (list(items[start : start + size]) for start in range(0, len(items), size))
