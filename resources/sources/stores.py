"""Object stores and file servers through fsspec: how they are opened, and their errors as SourceErrors.

Not through pyarrow, as the raw store: only fsspec returns the ETag or version of an object.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from resources.errors import ConfigError, SourceError, SourceUnavailable
from resources.extras import install_command
from resources.sources.addresses import check_address
from resources.sources.config import PlainUrl
from resources.sources.http import basic_authorization
from resources.sources.signs import YOUNG, is_young
from resources.urls import SECRET_NAME, without_secrets

#: The extra of this project that each protocol needs.
EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "az", "azure", "adl"), "azure"),
    **dict.fromkeys(("http", "https"), "http"),
}
#: The fields that may contain an object's version, the most reliable first; then those with the time of its change.
_VERSIONS = (
    "ETag", "etag", "VersionId", "version_id", "generation", "Content-MD5", "content_md5", "md5Hash", "md5",
)  # fmt: skip
_TIMES = ("LastModified", "last_modified", "Last-Modified", "updated", "modified", "mtime")


#: Applies at any depth: libraries nest options, as in `client_kwargs.headers.Authorization`.
_SECRET_OPTION = re.compile(f"{SECRET_NAME.pattern}|authorization", re.IGNORECASE)


def remote_url(url: str) -> str:
    protocol = re.match(r"([a-z][a-z0-9+.-]*)://[^/]", url)
    if protocol is None or "::" in url or protocol[1] in ("file", "local"):
        raise ValueError("expected the URL of one store, such as s3://bucket/folder")
    return url


def _without_secrets(options: dict[str, Any]) -> dict[str, Any]:
    if secrets := list(_secret_names(options)):
        raise ValueError(
            f"expected no secrets in it (set {', '.join(secrets)} as credentials: --credential NAME=@VARIABLE)"
        )
    return options


def _secret_names(options: Any, path: str = "") -> Iterator[str]:
    """Yield the names, at any depth, that sound like a secret."""
    inner = options.items() if isinstance(options, Mapping) else ()
    for name, value in enumerate(options) if isinstance(options, list) else inner:
        if isinstance(name, str) and _SECRET_OPTION.search(name):
            yield f"{path}{name}"
        else:
            yield from _secret_names(value, f"{path}{name}.")


StoreUrl = Annotated[PlainUrl, AfterValidator(remote_url)]
StoreOptions = Annotated[
    dict[str, Any],
    AfterValidator(_without_secrets),
    Field(
        description="options of the fsspec backend, such as endpoint_url, region, anon, account_name"
    ),
]


def expect_backend(url: str) -> None:
    """Raise ConfigError if fsspec's backend for this URL is not installed. A path needs none."""
    from fsspec import get_filesystem_class

    protocol, is_url, _ = url.partition("://")
    if not is_url:
        return
    try:
        get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        raise ConfigError(_missing_backend(protocol, error)) from None


def _missing_backend(protocol: str, error: Exception) -> str:
    # fsspec's own message names the package of the other backends.
    command = install_command(EXTRAS[protocol]) if protocol in EXTRAS else str(error)
    return f"{protocol}:// needs a backend that is not installed: {command}"


def open_store(
    url: str, options: Mapping[str, Any], credentials: Mapping[str, str], allow_private: bool
) -> tuple[Any, str]:
    """Return (fsspec file system, path). Raises ConfigError if the backend is not installed or rejects the options."""
    from fsspec.core import url_to_fs

    protocol = url.split("://", 1)[0]
    arguments: dict[str, Any] = {**options, **credentials}
    if protocol in ("http", "https"):
        arguments = _http_options(arguments, allow_private)
    elif protocol in ("s3", "s3a"):
        # Its default timeouts are minutes; the whole step is retried anyway.
        timeouts = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 2}}
        arguments["config_kwargs"] = {**timeouts, **arguments.get("config_kwargs", {})}
    try:
        return url_to_fs(url, **arguments, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        reason = _missing_backend(protocol, error)
    except (ValueError, TypeError) as error:
        reason = f"{without_secrets(url)} cannot be opened: {without_secrets(str(error))}"
    raise ConfigError(reason)


def _http_options(options: dict[str, Any], allow_private: bool) -> dict[str, Any]:
    auth = {name: options.pop(name, None) for name in ("username", "password")}

    async def client(**kwargs: Any) -> Any:
        import socket

        import aiohttp

        def checked_socket(info: Any) -> socket.socket:
            check_address(str(info[4][0]), str(info[4][0]), allow_private)
            connection = socket.socket(info[0], info[1], info[2])
            connection.setblocking(False)
            return connection

        # Of a compressed answer that ends early, the library returns what it has, without an error.
        kwargs["headers"] = {"Accept-Encoding": "identity", **(kwargs.get("headers") or {})}
        if auth["username"]:
            # A redirect to another origin drops a header, but keeps the `auth` of a session.
            header = {
                "Authorization": basic_authorization(auth["username"], auth["password"] or "")
            }
            kwargs["headers"] |= header
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(socket_factory=checked_socket),
            timeout=aiohttp.ClientTimeout(total=600, sock_connect=10, sock_read=60),
            **kwargs,
        )

    return {**options, "get_client": client, "simple_links": False}


@contextmanager
def store_errors(name: str) -> Iterator[None]:
    """Raise a store's errors as SourceError, or as SourceUnavailable where a retry may help."""
    try:
        yield
        return
    except (SourceError, ConfigError):
        raise
    except Exception as error:
        problem = _problem(name, error)
    # `from None`: logs print the whole chain of errors, which may quote the request.
    raise problem from None


def _problem(name: str, error: BaseException) -> SourceError:
    cause = error.__cause__
    if isinstance(cause, SourceError):
        return cause
    if isinstance(error, FileNotFoundError):
        # fsspec's HTTP reports FileNotFoundError for every failed request.
        if type(cause).__module__.startswith(("aiohttp", "asyncio")) or isinstance(cause, OSError):
            assert cause is not None
            return _problem(name, cause)
        return SourceError(f"{name} does not exist")
    if isinstance(error, PermissionError):
        return SourceError(f"{name}: access denied: {_first_line(error)}")
    if isinstance(error, IsADirectoryError | NotADirectoryError | NotImplementedError | ValueError):
        return SourceError(f"{name}: {_first_line(error)}")
    # Backends raise the error classes of their libraries.
    status = getattr(error, "status", None)
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429):
        return SourceError(f"{name}: the server answers {status}")
    return SourceUnavailable(f"{name} cannot be read: {_first_line(error) or type(error).__name__}")


def version_of(info: Mapping[str, Any]) -> str | None:
    """Return a token that differs if the object's content does; None if the store has none.

    A version that is made of a time is marked while the time is young: the object may change within the same second.
    """
    for name in (*_VERSIONS, *_TIMES):
        if info.get(name) not in (None, ""):
            # Web servers make ETags of the time and the size.
            time = info[name] if name in _TIMES else info.get("Last-Modified")
            young = time is not None and is_young(time, datetime.datetime.now(datetime.UTC))
            return f"{info.get('size')}:{info[name]}{YOUNG if young else ''}"
    return None


def replaces_whole_objects(url: str) -> bool:
    """Return whether an object there appears complete or not at all; elsewhere it can be read while it is written."""
    return url.partition("://")[0] in EXTRAS


def _first_line(error: BaseException) -> str:
    return without_secrets(str(error).strip().partition("\n")[0][:300])
