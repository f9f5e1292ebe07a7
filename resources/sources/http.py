"""A careful HTTP client for addresses that others wrote: bounded in size, time, redirects and rate; checked addresses.

Only http and https; each hop is connected to the address that was checked (`addresses`). Credentials go to the hosts
they were given for and nowhere else. Cookies are not kept.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from resources.errors import SourceError, SourceUnavailable
from resources.http_answers import is_number, reason, retry_after
from resources.sources.addresses import connect

#: Tries of one request, and the longest wait between two of them, in seconds.
TRIES, LONGEST_WAIT = 3, 30.0
#: Seconds for a whole answer, however slowly it drips.
DEADLINE = 300.0


@dataclass(frozen=True)
class Answer:
    url: str  # after redirects
    status: int  # 200 or 304
    headers: Mapping[str, str]
    data: bytes


@dataclass
class Pace:
    """Lets requests through at intervals; threads wait in turn."""

    interval: float
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            at = max(self._next, now)
            self._next = at + self.interval
        time.sleep(at - now)


@dataclass
class HttpClient:
    user_agent: str
    timeout: float
    redirects: int
    allow_private: bool
    pace: Pace
    authorization: str | None = None
    trusted: frozenset[str] = frozenset()  # origins that get the authorization

    def get(
        self,
        url: str,
        *,
        most: int,
        headers: Mapping[str, str] | None = None,
        permitted: Callable[[str], None] = lambda url: None,
    ) -> Answer:
        """GET with redirects; `permitted` raises for an address that must not be asked. Errors: see `Source`."""
        for _ in range(self.redirects + 1):
            permitted(url)
            answer = self._patiently(url, most, headers or {})
            if answer.status in (200, 304):
                return answer
            try:
                url = urljoin(url, answer.headers.get("location", ""))
            except ValueError as error:
                raise SourceError(f"redirected to what is not an address ({error})") from None
            url = normalised(url)
        raise SourceError(f"more than {self.redirects} redirects, the last to {url}")

    def _patiently(self, url: str, most: int, headers: Mapping[str, str]) -> Answer:
        for last in (False,) * (TRIES - 1) + (True,):
            self.pace.wait()
            try:
                return self._once(url, most, headers)
            except _Busy as busy:
                if last:
                    raise SourceUnavailable(str(busy)) from None
                time.sleep(min(busy.wait, LONGEST_WAIT))
        raise AssertionError("unreachable")

    def _once(self, url: str, most: int, headers: Mapping[str, str]) -> Answer:
        import urllib3
        from urllib3.exceptions import DecodeError, HTTPError, LocationParseError, SSLError

        sent = {"User-Agent": self.user_agent, "Accept-Encoding": "gzip, deflate", **headers}
        if self.authorization and origin(url) in self.trusted:
            sent["Authorization"] = self.authorization
        deadline = time.monotonic() + DEADLINE
        try:
            response = self._pools.request(
                "GET",
                url,
                headers=sent,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=min(10.0, self.timeout), read=self.timeout),
            )
            try:
                found = {name.lower(): value for name, value in response.headers.items()}
                self._judge(response.status, found, url)
                data = bytearray()
                if response.status == 200:
                    if _length(found) > most:
                        raise SourceError(f"larger than {most:,} bytes: {_length(found):,}")
                    for block in response.stream(1 << 16, decode_content=True):
                        data += block
                        if len(data) > most:
                            raise SourceError(f"larger than {most:,} bytes")
                        if time.monotonic() > deadline:
                            raise _Busy(f"the answer took longer than {DEADLINE:.0f} s", 0)
                return Answer(url, response.status, found, bytes(data))
            finally:
                # What was not read to its end is not read on for another request.
                response.close()
                response.release_conn()
        except (DecodeError, LocationParseError, SSLError) as error:
            raise SourceError(f"{urlsplit(url).netloc}: {reason(error)}") from None
        except HTTPError as error:
            raise _Busy(f"{urlsplit(url).netloc} does not answer: {reason(error)}", 0.5) from None

    def _judge(self, status: int, headers: Mapping[str, str], url: str) -> None:
        if status in (200, 304):
            return
        if status in (301, 302, 303, 307, 308) and headers.get("location"):
            return
        if status in (408, 425, 429) or status >= 500:
            raise _Busy(f"HTTP {status} from {urlsplit(url).netloc}", retry_after(headers, 0.5))
        raise SourceError(f"HTTP {status}")

    @cached_property
    def _pools(self) -> Any:
        from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
        from urllib3.connection import HTTPConnection, HTTPSConnection
        from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

        allow_private = self.allow_private

        def checked(connection: Any) -> Any:
            try:
                return connect(
                    connection._dns_host,
                    connection.port,
                    timeout=connection.timeout,
                    allow_private=allow_private,
                    options=connection.socket_options,
                )
            except TimeoutError as error:
                raise ConnectTimeoutError(connection, "no connection in time") from error
            except OSError as error:
                raise NewConnectionError(connection, str(error)) from error

        class Http(HTTPConnection):
            def _new_conn(self) -> Any:
                return checked(self)

        class Https(HTTPSConnection):
            def _new_conn(self) -> Any:
                return checked(self)

        class HttpPool(HTTPConnectionPool):
            ConnectionCls = Http  # pyright: ignore[reportAssignmentType]

        class HttpsPool(HTTPSConnectionPool):
            ConnectionCls = Https  # pyright: ignore[reportAssignmentType]

        pools = PoolManager(num_pools=16, maxsize=4)
        pools.pool_classes_by_scheme = {"http": HttpPool, "https": HttpsPool}
        return pools

    def close(self) -> None:
        if "_pools" in self.__dict__:
            self._pools.clear()


class _Busy(Exception):
    """The server cannot answer now; `wait` is what it asks for, in seconds."""

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.wait = wait


def normalised(url: str) -> str:
    """The address without its fragment, user and default port. Raises SourceError for what is not http or https."""
    try:
        parts = urlsplit(url.strip())
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError as error:
        raise SourceError(f"not an address: {url[:200]!r} ({error})") from None
    if parts.scheme not in ("http", "https") or not host:
        raise SourceError(f"not an http or https address: {url[:200]!r}")
    if parts.username is not None or parts.password is not None:
        raise SourceError("an address with a user in it")
    if ":" in host:
        host = f"[{host}]"
    default = {"http": 80, "https": 443}[parts.scheme]
    netloc = host if port in (None, default) else f"{host}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, ""))


def basic(user: str, password: str) -> str:
    """The value of the header Authorization."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _length(headers: Mapping[str, str]) -> int:
    length = headers.get("content-length", "")
    return int(length) if is_number(length) else 0
