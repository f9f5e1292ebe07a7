"""Where the service listens, with which certificate, and who is before it."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass

#: The variable with the options of a worker.
VARIABLE = "_RAG_SERVE"
#: What a worker prints on standard output when it listens.
READY = "ready"


@dataclass(frozen=True)
class ServeOptions:
    """Where the service listens, and who is before it."""

    host: str
    port: int
    workers: int = 1
    certificate: str = ""
    key: str = ""
    behind_proxy: bool = False

    def environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> ServeOptions:
        return cls(**json.loads(os.environ[VARIABLE]))


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a bound socket that shares its port with the other workers."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((host, port))
    return bound
