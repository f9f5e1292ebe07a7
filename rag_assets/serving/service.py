"""What all requests of a process share: the pools, the searcher and the parts that decide who may do what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Annotated, ParamSpec, TypeVar, cast

from fastapi import Depends, Request

from rag_assets.deployment import Deployment
from rag_assets.search.searcher import Searcher
from resources.postgres.connection_pool import Connections

P = ParamSpec("P")
R = TypeVar("R")

#: Threads for everything that reads or writes PostgreSQL and is no search and no hash of a password.
WORKERS = 8


@dataclass(frozen=True)
class Service:
    """Opened once a process; `close` closes everything in the reverse order of its opening."""

    deployment: Deployment
    connections: Connections
    searcher: Searcher
    work: Executor
    closing: ExitStack = field(default_factory=ExitStack, repr=False)

    @classmethod
    def open(cls, deployment: Deployment) -> Service:
        with ExitStack() as closing:
            connections = Connections(deployment.postgres().url, size=20, smallest=5)
            closing.callback(connections.close)
            searcher = closing.enter_context(deployment.searcher())
            work = ThreadPoolExecutor(WORKERS, thread_name_prefix="work")
            closing.callback(work.shutdown)
            return cls(deployment, connections, searcher, work, closing.pop_all())

    def close(self) -> None:
        self.closing.close()

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function that blocks, in a thread of `work`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.work, lambda: function(*args, **kwargs))


def service_of(request: Request) -> Service:
    return cast(Service, request.app.state.service)


#: The parameter of a route that gets the service.
ServiceDependency = Annotated[Service, Depends(service_of)]
