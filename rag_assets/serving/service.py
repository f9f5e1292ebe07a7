"""What all requests of a process share: the pools, the searcher and the parts that decide who may do what."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from contextlib import closing as closing_of
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Annotated, ParamSpec, TypeVar, cast

from fastapi import Depends, Request

from rag_assets.deployment import Deployment, installed_version
from rag_assets.identity.access_tokens import AccessTokens
from rag_assets.identity.audit_log import AuditLog
from rag_assets.identity.authentication import Authenticator
from rag_assets.identity.key_ring import KeyRing, KeyTimes
from rag_assets.identity.login_delays import LoginDelays
from rag_assets.identity.logins import Logins
from rag_assets.identity.password_changes import PasswordChanges
from rag_assets.identity.passwords import Passwords
from rag_assets.identity.provider_logins import ProviderLogins
from rag_assets.identity.sessions import Sessions
from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.audit_record import AuditRecord, Outcome
from rag_assets.pipeline.principal import Principal
from rag_assets.search.answer import Answer
from rag_assets.search.request import SearchRequest
from rag_assets.search.searcher import Searcher
from rag_assets.serving.options import ServeOptions
from rag_assets.serving.rate_limits import RateLimits
from rag_assets.serving.readiness import Readiness, ReadinessProbe
from rag_assets.settings.load import Settings
from resources.errors import Overloaded
from resources.extras import require_extra
from resources.postgres.connection_pool import Connections
from resources.redis.client import RedisClient
from resources.secret_key import SecretKey

P = ParamSpec("P")
R = TypeVar("R")

#: Threads for everything that reads or writes PostgreSQL and is no search and no hash of a password.
WORKERS = 8
#: Searches, and other calls, that run or wait in a process; a further one is refused.
WAITING = 256
#: Threads of logins, most of which wait for a hash, and logins that run or wait in a process.
LOGINS, WAITING_LOGINS = 4, 16
#: Seconds that a request waits for a lock, such as that of the audit's chain.
LOCK_SECONDS = 5.0
#: Seconds that a request waits for a connection to PostgreSQL, before it is answered 503.
CONNECTION_SECONDS = 3.0
#: Refused identities that are remembered.
IDENTITIES = 10_000


class Refusals:
    """Which identities were refused by their limit in the last minute. Used by one event loop."""

    def __init__(self) -> None:
        self._noted: OrderedDict[str, float] = OrderedDict()

    def is_new(self, identity: str) -> bool:
        """Return whether the identity was not refused in the last minute before this time."""
        now = time.monotonic()
        is_new = now - self._noted.get(identity, -60.0) >= 60.0
        if is_new:
            self._noted[identity] = now
            self._noted.move_to_end(identity)
            if len(self._noted) > IDENTITIES:
                self._noted.popitem(last=False)
        return is_new


@dataclass(frozen=True)
class Service:
    """Opened once a process; `close` closes everything in the reverse order of its opening.

    Searches, hashes of passwords and all other work that blocks have executors of their own: none waits for another.
    """

    deployment: Deployment
    options: ServeOptions
    connections: Connections
    searcher: Searcher
    searching: Executor
    work: Executor
    probing: Executor
    logging_in: Executor
    readiness: ReadinessProbe
    authenticator: Authenticator
    passwords: Passwords
    tokens: AccessTokens
    sessions: Sessions
    logins: Logins
    password_changes: PasswordChanges
    provider_logins: ProviderLogins | None
    audit: AuditLog
    limits: RateLimits
    redis: RedisClient | None
    refusals: Refusals = field(default_factory=Refusals)
    #: Calls that run or wait, by executor.
    waiting: Counter[str] = field(default_factory=Counter)
    closing: ExitStack = field(default_factory=ExitStack, repr=False)

    @classmethod
    def open(cls, deployment: Deployment, options: ServeOptions) -> Service:
        """Open everything that requests need. Raises RagError if a part cannot be opened; then nothing stays open."""
        settings = deployment.settings
        with ExitStack() as closing:
            connections = Connections(
                deployment.postgres().url,
                size=settings.postgres_pool_max,
                timeout=CONNECTION_SECONDS,
                smallest=settings.postgres_pool_min,
                statement_seconds=settings.statement_seconds,
                lock_seconds=LOCK_SECONDS,
            )
            closing.callback(connections.close)
            requests = closing.enter_context(
                ThreadPoolExecutor(settings.milvus_pool, thread_name_prefix="milvus")
            )
            searcher = closing.enter_context(
                deployment.searcher(connections=connections, executor=requests)
            )
            sizes = {
                "search": settings.search_threads,
                "work": WORKERS,
                "probe": 1,
                "login": LOGINS,
            }
            searching, work, probing, logging_in = (
                closing.enter_context(ThreadPoolExecutor(size, thread_name_prefix=name))
                for name, size in sizes.items()
            )
            secret = deployment.secret
            authenticator = closing.enter_context(closing_of(Authenticator(connections, secret)))
            authenticator.check_secret()
            audit = closing.enter_context(closing_of(deployment.audit_log()))
            cost = (settings.password_memory_mib, settings.password_passes)
            passwords = closing.enter_context(closing_of(Passwords(*cost)))
            tokens = _tokens(connections, secret, settings)
            sessions = Sessions(
                connections,
                tokens,
                lifetime=timedelta(days=settings.session_days),
                idle=timedelta(days=settings.session_idle_days),
            )
            delays = LoginDelays(connections, secret)
            logins = Logins(connections, passwords, sessions, delays, audit)
            redis = deployment.redis()
            return cls(
                deployment=deployment,
                options=options,
                connections=connections,
                searcher=searcher,
                searching=searching,
                work=work,
                probing=probing,
                logging_in=logging_in,
                readiness=ReadinessProbe(connections, searcher),
                authenticator=authenticator,
                passwords=passwords,
                tokens=tokens,
                sessions=sessions,
                logins=logins,
                password_changes=PasswordChanges(connections, passwords, logins),
                provider_logins=_provider_logins(connections, sessions, secret, audit, settings),
                audit=audit,
                limits=RateLimits(redis, workers=options.workers, lease=settings.lease_share),
                redis=redis,
                closing=closing.pop_all(),
            )

    async def close(self) -> None:
        await self.limits.close()
        if self.redis is not None:
            await self.redis.close()
        await asyncio.to_thread(self.closing.close)

    def note(
        self,
        request: Request,
        caller: Principal | None,
        action: str,
        details: Mapping[str, object],
        *,
        target: str = "",
        outcome: Outcome = "allowed",
    ) -> None:
        """Add a record to the audit that need not be durable before the answer: of a read or a denial."""
        self.audit.note(
            AuditRecord(
                action,
                outcome,
                caller.identity if caller else getattr(request.state, "principal", "anonymous"),
                target,
                request.state.request_id,
                request.state.address,
                details,
            )
        )

    @property
    def version(self) -> str:
        return installed_version()

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function that blocks, in a thread of `work`. Raises Overloaded if too many calls wait for one."""
        return await self._called("work", self.work, lambda: function(*args, **kwargs))

    async def log_in(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function that verifies a password. Raises Overloaded before any work if too many wait for that."""
        call = partial(function, *args, **kwargs)
        return await self._called("login", self.logging_in, call, WAITING_LOGINS)

    async def _called(
        self, name: str, executor: Executor, call: Callable[[], R], most: int = WAITING
    ) -> R:
        if self.waiting[name] >= most:
            raise Overloaded("Too many requests wait for an answer.")
        self.waiting[name] += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, call)
        finally:
            self.waiting[name] -= 1

    async def look(self) -> Readiness:
        """Return the state of the stores. In its own thread: strangers ask, and a store may take long."""
        return await asyncio.get_running_loop().run_in_executor(self.probing, self.readiness.look)

    async def search(self, request: SearchRequest, scope: AccessScope) -> Answer:
        """Answer a search, in a thread of its own executor. Raises Overloaded if too many searches wait for one."""
        try:
            answer = await self._called(
                "search", self.searching, partial(self.searcher.answer, request, scope)
            )
        except Exception as error:
            self.readiness.note_search(error)
            raise
        self.readiness.note_search(None)
        return answer


def _tokens(connections: Connections, secret: SecretKey, settings: Settings) -> AccessTokens:
    times = KeyTimes(timedelta(days=settings.signing_key_days), settings.access_token_lifetime)
    ring = KeyRing(connections, secret, times)
    return AccessTokens(
        ring,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        lifetime=settings.access_token_lifetime,
    )


def _provider_logins(
    connections: Connections,
    sessions: Sessions,
    secret: SecretKey,
    audit: AuditLog,
    settings: Settings,
) -> ProviderLogins | None:
    if not settings.oidc_issuer:
        return None
    require_extra("oidc", "RAG_OIDC_ISSUER")
    from resources.oidc_provider import OidcProvider

    provider = OidcProvider(
        settings.oidc_issuer,
        settings.oidc_client_id,
        settings.oidc_client_secret,
        settings.oidc_redirect_url,
    )
    return ProviderLogins(connections, sessions, secret, provider, audit)


def service_of(request: Request) -> Service:
    return cast(Service, request.app.state.service)


async def _service(request: Request) -> Service:
    # Not a plain function: FastAPI would call it in a thread.
    return service_of(request)


#: The parameter of a route that gets the service.
ServiceDependency = Annotated[Service, Depends(_service)]
