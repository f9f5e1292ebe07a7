"""An HTTP client for untrusted addresses: bounded in size, time, redirects and rate, with checked addresses.

Only http and https; each hop connects to the address that was checked (`addresses`). Credentials are sent only to the
origins they are configured for. Cookies are not kept.
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
from resources.sources.compression import Incomplete, decoded
from resources.waiting import others_wait

#: Attempts per request, and the longest wait between two of them, in seconds.
TRIES, LONGEST_WAIT = 3, 30.0
#: Seconds for the first answer, in one attempt, while the sources of a run wait. The source is tried alone afterwards.
FIRST_ANSWER = 10.0
#: Maximum seconds for a whole answer, however slowly it arrives.
DEADLINE = 300.0


@dataclass(frozen=True)
class Response:
    #: After redirects.
    url: str
    #: 200 or 304.
    status: int
    headers: Mapping[str, str]
    data: bytes


@dataclass
class RateLimiter:
    """A limiter that lets one request through per interval; threads wait in turn."""

    interval: float
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self) -> None:
        with self._lock:
            now = time.monotonic()
            start = max(self._next, now)
            self._next = start + self.interval
        time.sleep(start - now)


@dataclass
class HttpClient:
    user_agent: str
    timeout: float
    redirects: int
    allow_private: bool
    rate_limiter: RateLimiter
    authorization: str | None = None
    #: Origins that receive the authorization.
    trusted: frozenset[str] = frozenset()
    #: Of the thread that opens the source; other threads fetch from it.
    _others_wait: bool = field(default_factory=others_wait, init=False)
    _has_answered: bool = field(default=False, init=False)

    @property
    def _is_hurried(self) -> bool:
        return self._others_wait and not self._has_answered

    def get(
        self,
        url: str,
        *,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        check: Callable[[str], None] = lambda url: None,
    ) -> Response:
        """GET with redirects; `check` raises for an address that must not be requested. Errors: see `Source`."""
        for _ in range(self.redirects + 1):
            check(url)
            response = self._request_with_retries(url, max_bytes, headers or {})
            if response.status in (200, 304):
                return response
            url = joined(url, _as_utf8(response.headers.get("location", "")))
        raise SourceError(f"more than {self.redirects} redirects, the last to {url}")

    def _request_with_retries(
        self, url: str, max_bytes: int, headers: Mapping[str, str]
    ) -> Response:
        tries = 1 if self._is_hurried else TRIES
        for last in (False,) * (tries - 1) + (True,):
            self.rate_limiter.wait()
            try:
                response = self._request(url, max_bytes, headers)
                self._has_answered = True
                return response
            except _Busy as busy:
                if last:
                    raise SourceUnavailable(str(busy)) from None
                time.sleep(min(busy.wait, LONGEST_WAIT))
        raise AssertionError("unreachable")

    def _request(self, url: str, max_bytes: int, headers: Mapping[str, str]) -> Response:
        import urllib3
        from urllib3.exceptions import HTTPError, LocationParseError, SSLError

        request_headers = {
            "User-Agent": self.user_agent,
            "Accept-Encoding": "gzip, deflate",
            **headers,
        }
        if self.authorization and origin(url) in self.trusted:
            request_headers["Authorization"] = self.authorization
        timeout = min(self.timeout, FIRST_ANSWER) if self._is_hurried else self.timeout
        deadline = time.monotonic() + DEADLINE
        try:
            raw = self._pools.request(
                "GET",
                url,
                headers=request_headers,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=min(10.0, timeout), read=timeout),
            )
            try:
                response_headers = {name.lower(): value for name, value in raw.headers.items()}
                self._check_status(raw.status, response_headers, url)
                data = bytearray()
                if raw.status == 200:
                    if (length := _content_length(response_headers)) > max_bytes:
                        raise SourceError(f"larger than {max_bytes:,} bytes: {length:,}")
                    # Not decoded by the library: it takes compressed data that ends early for complete.
                    for block in raw.stream(1 << 16, decode_content=False):
                        data += block
                        if len(data) > max_bytes:
                            raise SourceError(f"larger than {max_bytes:,} bytes")
                        if time.monotonic() > deadline:
                            raise _Busy(f"the answer took longer than {DEADLINE:.0f} s", 0)
                body = decoded(bytes(data), response_headers.get("content-encoding", ""), max_bytes)
                return Response(url, raw.status, response_headers, body)
            finally:
                # The next request must not read the rest of an unfinished answer from this connection.
                raw.close()
                raw.release_conn()
        except Incomplete as error:
            raise _Busy(f"{urlsplit(url).netloc}: {error}", 0.5) from None
        except (LocationParseError, SSLError) as error:
            raise SourceError(f"{urlsplit(url).netloc}: {reason(error)}") from None
        except HTTPError as error:
            raise _Busy(f"{urlsplit(url).netloc} does not answer: {reason(error)}", 0.5) from None

    def _check_status(self, status: int, headers: Mapping[str, str], url: str) -> None:
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

        def checked_connection(connection: Any) -> Any:
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
                return checked_connection(self)

        class Https(HTTPSConnection):
            def _new_conn(self) -> Any:
                return checked_connection(self)

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
    """The server cannot answer now; `wait` is the seconds until the next try."""

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.wait = wait


def normalised(url: str) -> str:
    """Return the URL without fragment and default port. Raises SourceError if it is not http(s) or contains a user."""
    try:
        parts = urlsplit(url.strip())
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError as error:
        raise SourceError(f"not a valid address: {url[:200]!r} ({error})") from None
    if parts.scheme not in ("http", "https") or not host:
        raise SourceError(f"not an http or https address: {url[:200]!r}")
    if parts.username is not None or parts.password is not None:
        raise SourceError("the address contains a user; expected none")
    if ":" in host:
        host = f"[{host}]"
    default_port = {"http": 80, "https": 443}[parts.scheme]
    netloc = host if port in (None, default_port) else f"{host}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, ""))


def joined(base: str, reference: str) -> str:
    """Return the address that a reference in the document at `base` means. Raises SourceError if it is none."""
    try:
        return normalised(urljoin(base, reference))
    except ValueError as error:
        raise SourceError(f"not a valid address: {reference[:200]!r} ({error})") from None


def basic_authorization(user: str, password: str) -> str:
    """Return the value of the header Authorization."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _as_utf8(header: str) -> str:
    """Return a header's text: the library decodes its bytes as Latin-1, and servers write addresses in UTF-8."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def _content_length(headers: Mapping[str, str]) -> int:
    length = headers.get("content-length", "")
    return int(length) if is_number(length) else 0
