"""The one client of a server of the Redis protocol, with a breaker: a server that is away is never an error.

Nothing of what it stores is the truth: a caller that gets None does without. No keys and no scripts here.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from resources.errors import ConfigError, RagError, StackError, StoreUnavailable
from resources.urls import redact, without_secrets

R = TypeVar("R")

#: Seconds that a caller waits at most: an answer takes 0.2 ms.
TIMEOUT = 0.02
#: Seconds between two attempts to reach a server that is away, and of one attempt. Only the background makes them.
RETRY, ATTEMPT = 0.5, 1.0
#: Seconds that the callbacks of a return may take.
RETURN = 10.0

_log = logging.getLogger(__name__)


class RedisClient:
    """A pool of connections of one event loop, opened at first use.

    `away`: why the server does not answer, in one sentence; None while it answers. From the first call that fails on,
    calls return None at once, and the background tries the server until it answers. `restart` starts an embedded server
    that was killed. `url`: redis://, rediss:// or unix://; `ca_file`: the authority of a rediss:// server.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_file: str = "",
        pool_size: int = 20,
        timeout: float = TIMEOUT,
        restart: Callable[[], object] | None = None,
    ) -> None:
        # 60 ms.
        from valkey.asyncio import BlockingConnectionPool, Valkey
        from valkey.exceptions import ValkeyError

        self.url, self.away = url, None
        self._timeout, self._restart = timeout, restart
        self._errors = (ValkeyError, OSError, TimeoutError, ValueError)
        options: dict[str, Any] = {"max_connections": pool_size, "timeout": timeout}
        if url.startswith("rediss://"):
            # Without them the library accepts the certificate of any host, and trusts the system's authorities only.
            options |= {"ssl_check_hostname": True, "ssl_ca_certs": ca_file or None}
        try:
            # No timeout of the library's own: it swallows a cancellation that comes while it sends, ours as well.
            pool = BlockingConnectionPool.from_url(url, socket_timeout=None, **options)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"RAG_REDIS_URL cannot be used: {redact(str(error), url)}.") from None
        self._valkey: Any = Valkey(connection_pool=pool)
        self._on_return: list[Callable[[Any], Awaitable[object]]] = []
        self._recovery: asyncio.Task[None] | None = None

    away: str | None

    async def run(self, call: Callable[[Any], Awaitable[R]]) -> R | None:
        """Return what `call` does with the library's client; None if the server is away. Takes 20 ms at most."""
        if self.away is not None:
            return None
        try:
            async with asyncio.timeout(self._timeout):
                return await call(self._valkey)
        except self._errors as error:
            self._lost(error)
            return None

    def on_return(self, callback: Callable[[Any], Awaitable[object]]) -> None:
        """Call it with the library's client when the server answers again, before other callers use it."""
        self._on_return.append(callback)

    async def check(self) -> None:
        """Connect. Raises ConfigError for what only the user can fix, and StoreUnavailable if nothing answers."""
        try:
            async with asyncio.timeout(ATTEMPT):
                await self._valkey.ping()
        except self._errors as error:
            raise _explained(error, self.url) from error

    async def close(self) -> None:
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)
            self._recovery = None
        with suppress(*self._errors):
            async with asyncio.timeout(ATTEMPT):
                await self._valkey.connection_pool.aclose()

    def _lost(self, error: Exception) -> None:
        if self.away is not None:
            return
        self.away = str(_explained(error, self.url))
        self._recovery = asyncio.get_running_loop().create_task(self._recover())

    async def _recover(self) -> None:
        # A late answer is no outage: the first attempt is made at once, and its success is not worth a line in the log.
        is_outage = False
        while True:
            try:
                async with asyncio.timeout(ATTEMPT):
                    await self._valkey.ping()
                async with asyncio.timeout(RETURN):
                    for callback in self._on_return:
                        await callback(self._valkey)
            except self._errors as error:
                self.away = str(_explained(error, self.url))
            else:
                if is_outage:
                    _log.warning("%s answers again.", without_secrets(self.url))
                self.away = None
                return
            if not is_outage:
                _log.warning("%s This process does without it until it answers.", self.away)
                is_outage = True
            await asyncio.sleep(RETRY)
            if self._restart is not None:
                try:
                    await asyncio.to_thread(self._restart)
                except (StackError, OSError) as error:
                    _log.warning(str(error))


def _explained(error: BaseException, url: str) -> RagError:
    """Return the error of a connection with the setting that is wrong."""
    from valkey.exceptions import AuthenticationError
    from valkey.exceptions import TimeoutError as ValkeyTimeout

    shown, reason = without_secrets(url), redact(" ".join(str(error).split()), url).rstrip(".")
    causes = list(_causes(error))
    unverified = [cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)]
    if unverified:
        return ConfigError(
            f"The certificate of {shown} cannot be verified: {unverified[0].verify_message.rstrip('.')}. Name the file "
            "of its authority in RAG_REDIS_CA, and in RAG_REDIS_URL the host by the certificate's name."
        )
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return ConfigError(
            f"{shown} and RAG_REDIS_URL do not use the same encryption: {reason}. Use rediss:// for a server with TLS, "
            "redis:// for one without."
        )
    if any(isinstance(cause, AuthenticationError) for cause in causes) or "NOAUTH" in reason:
        return ConfigError(
            f"{shown} does not accept the user or the password in RAG_REDIS_URL: {reason}."
        )
    if any(isinstance(cause, (TimeoutError, ValkeyTimeout)) for cause in causes):
        reason = "no answer in time"
    return StoreUnavailable(f"{shown} does not answer: {reason}.")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it was raised from, or during."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
