"""One POST of JSON to a server with a model: within a deadline, without redirects, and with a bounded response.

Interprets nothing: retries, statuses and the meaning of a response are the caller's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, SSLError

from resources.errors import ConfigError
from resources.http_answers import reason
from resources.urls import without_secrets


class NoReply(Exception):
    """No whole response: the server is away, breaks off, or takes too long."""


class ReplyTooLong(Exception):
    """The response exceeds its limit in bytes."""


@dataclass(frozen=True)
class Reply:
    """A response with its whole body. Names in `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    def location(self) -> str:
        """Return where a redirect leads, without secrets; empty if the response is none."""
        if self.status not in (301, 302, 303, 307, 308):
            return ""
        return without_secrets(self.headers.get("location", "nowhere"))


class ModelServer:
    """An address that takes POST requests. Thread-safe; keeps up to `connections` connections open.

    `key_setting` and `url_setting` are the settings that an error names.
    """

    def __init__(
        self,
        base_url: str,
        path: str,
        api_key: str,
        *,
        key_setting: str,
        url_setting: str,
        connections: int,
    ) -> None:
        api_key = api_key.strip()
        if not (api_key.isascii() and api_key.isprintable()):
            # The library's error for an invalid header would contain the key.
            raise ConfigError(f"{key_setting}: expected printable ASCII characters")
        parts = urlsplit(base_url)
        self._url = urlunsplit(parts._replace(path=parts.path.rstrip("/") + path))
        self.shown_url = without_secrets(self._url)
        self._url_setting = url_setting
        self._key = api_key
        self._headers = {"Content-Type": "application/json", "User-Agent": "rag-assets"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=connections)

    def post(self, body: bytes, *, timeout: float, limit: int) -> Reply:
        """Return the response, whatever its status. `timeout` is in seconds, `limit` in bytes of the response.

        Raises NoReply, ReplyTooLong; ConfigError if no request can succeed.
        """
        deadline, data = time.monotonic() + timeout, bytearray()
        try:
            response = self._pool.request(
                "POST",
                self._url,
                body=body,
                headers=self._headers,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=min(10.0, timeout), read=timeout),
            )
            # After a complete read, the connection is back in the pool; else `closing` closes it.
            with closing(response):
                for block in response.stream(1 << 16):
                    data += block
                    if len(data) > limit:
                        raise ReplyTooLong(f"expected at most {limit:,} bytes, found more")
                    if time.monotonic() > deadline:
                        raise NoReply(f"the response took longer than {timeout:g} s")
        except (LocationParseError, SSLError) as error:
            raise ConfigError(
                f"{self.shown_url} cannot be reached: {reason(error)}. Fix {self._url_setting}."
            ) from None
        except HTTPError as error:
            raise NoReply(f"no response: {reason(error)}") from None
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status, headers, bytes(data))

    def error_of(self, data: bytes) -> tuple[str, str]:
        """Return (message, code) of an error response, in the forms of OpenAI, Cohere, TEI, vLLM, Ollama and FastAPI.

        The message does not contain the key.
        """
        text, code = data.decode(errors="replace"), ""
        try:
            error = json.loads(data)
            if isinstance(error, dict):
                inner = error.get("error")
                if isinstance(inner, dict):
                    error = inner
                code = str(error.get("code", ""))
                text = str(
                    error.get("message") or error.get("error") or error.get("detail") or text
                )
        # Deeply nested JSON raises RecursionError.
        except (ValueError, RecursionError):
            pass
        text = " ".join(text.split())
        return text.replace(self._key, "***") if self._key else text, code
