"""The HTTP service in a thread of the tests, on a loopback port, with users, keys and a client."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests
import uvicorn

from rag_assets.deployment import Deployment, installed_version
from rag_assets.serving.app import create_app
from rag_assets.serving.middleware import Requests
from rag_assets.serving.options import ServeOptions, listening_socket
from rag_assets.serving.service import Service
from tests.support.world import World


@dataclass
class LiveService:
    """A running service. `call` sends one request, without a session: no cookie or connection is kept."""

    url: str
    service: Service
    session: requests.Session = field(default_factory=requests.Session)

    def call(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        credential: str | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> requests.Response:
        sent = dict(headers or {})
        if credential is not None:
            sent["Authorization"] = f"Bearer {credential}"
        return self.session.request(
            method, self.url + path, json=json, headers=sent, timeout=30, **options
        )


@contextmanager
def live_service(world: World, **settings: Any) -> Iterator[LiveService]:
    """Serve a deployment until the block ends."""
    deployment = Deployment(world.configured(**settings).settings)
    opened: list[Service] = []

    def open_service() -> Service:
        opened.append(Service.open(deployment, ServeOptions("127.0.0.1", 0)))
        return opened[0]

    app = create_app(open_service, installed_version(), deployment.settings.body_limit)
    config = uvicorn.Config(
        Requests(app), log_config=None, access_log=False, server_header=False, proxy_headers=False
    )
    server = uvicorn.Server(config)
    listening = listening_socket("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        awaited(lambda: server.started or not thread.is_alive())
        yield LiveService(f"http://127.0.0.1:{listening.getsockname()[1]}", opened[0])
    finally:
        server.should_exit = True
        thread.join(30)


def awaited(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def unknown() -> str:
    """Return an id of nothing."""
    return str(uuid.uuid4())
