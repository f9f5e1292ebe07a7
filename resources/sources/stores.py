"""Object stores and file servers through fsspec: opened, and their errors told apart.

fsspec and not pyarrow, which the raw store uses: only fsspec tells an object's ETag or version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from resources.errors import ConfigError, SourceError, SourceUnavailable
from resources.sources.addresses import allow
from resources.sources.config import PlainUrl
from resources.sources.http import basic
from resources.urls import SECRET_NAME, without_secrets

#: What each protocol needs beside this project.
EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "az", "azure", "adl"), "azure"),
    **dict.fromkeys(("http", "https"), "http"),
}
#: Where an object's version is written, the surest first.
_VERSIONS = (
    "ETag", "etag", "VersionId", "version_id", "generation", "Content-MD5", "content_md5", "md5Hash", "md5",
    "LastModified", "last_modified", "Last-Modified", "updated", "modified", "mtime",
)  # fmt: skip


#: Options are nested as their libraries nest them: `client_kwargs.headers.Authorization` is one.
_SECRET_OPTION = re.compile(f"{SECRET_NAME.pattern}|authorization", re.IGNORECASE)


def remote_url(url: str) -> str:
    protocol = re.match(r"([a-z][a-z0-9+.-]*)://[^/]", url)
    if protocol is None or "::" in url or protocol[1] in ("file", "local"):
        raise ValueError("expected the URL of one store, such as s3://bucket/folder")
    return url


def _without_secrets(options: dict[str, Any]) -> dict[str, Any]:
    if secrets := list(_secret_names(options)):
        raise ValueError(
            f"expected no secrets in it (give {', '.join(secrets)} as credentials: --credential NAME=@VARIABLE)"
        )
    return options


def _secret_names(options: Any, path: str = "") -> Iterator[str]:
    """The names in it, at any depth, that sound like a secret's."""
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
        description="what the fsspec backend takes, such as endpoint_url, region, anon, account_name"
    ),
]


def open_store(
    url: str, options: Mapping[str, Any], credentials: Mapping[str, str], allow_private: bool
) -> tuple[Any, str]:
    """(fsspec file system, path in it). Raises ConfigError when the backend is not installed or refuses the options."""
    from fsspec.core import url_to_fs

    protocol = url.split("://", 1)[0]
    given: dict[str, Any] = {**options, **credentials}
    if protocol in ("http", "https"):
        given = _http_options(given, allow_private)
    elif protocol in ("s3", "s3a"):
        # Its own waits are minutes; the step is retried as a whole.
        patience = {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 2}}
        given["config_kwargs"] = {**patience, **given.get("config_kwargs", {})}
    try:
        return url_to_fs(url, **given, use_listings_cache=False, skip_instance_cache=True)
    except ImportError:
        extra = EXTRAS.get(protocol)
        how = f"pip install 'rag-assets[{extra}]'" if extra else f"install fsspec's {protocol}"
        reason = f"{protocol}:// needs a backend that is not installed: {how}"
    except (ValueError, TypeError) as error:
        reason = f"{without_secrets(url)} cannot be opened: {without_secrets(str(error))}"
    raise ConfigError(reason)


def _http_options(given: dict[str, Any], allow_private: bool) -> dict[str, Any]:
    auth = {name: given.pop(name, None) for name in ("username", "password")}

    async def client(**kwargs: Any) -> Any:
        import socket

        import aiohttp

        def checked(info: Any) -> socket.socket:
            allow(str(info[4][0]), str(info[4][0]), allow_private)
            found = socket.socket(info[0], info[1], info[2])
            found.setblocking(False)
            return found

        if auth["username"]:
            # As a header, which a redirect to another origin drops: a session's `auth` goes wherever one leads.
            header = {"Authorization": basic(auth["username"], auth["password"] or "")}
            kwargs["headers"] = {**(kwargs.get("headers") or {}), **header}
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(socket_factory=checked),
            timeout=aiohttp.ClientTimeout(total=600, sock_connect=10, sock_read=60),
            **kwargs,
        )

    return {**given, "get_client": client, "simple_links": False}


@contextmanager
def answering(what: str) -> Iterator[None]:
    """Errors of a store as ours: what cannot be had, and what may be had later."""
    try:
        yield
        return
    except (SourceError, ConfigError):
        raise
    except Exception as error:
        problem = _problem(what, error)
    raise problem from None  # chains end in logs, and may quote what was sent


def _problem(what: str, error: BaseException) -> SourceError:
    cause = error.__cause__
    if isinstance(cause, SourceError):
        return cause
    if isinstance(error, FileNotFoundError):
        # For fsspec's HTTP nothing exists that could not be asked for.
        if type(cause).__module__.startswith(("aiohttp", "asyncio")) or isinstance(cause, OSError):
            assert cause is not None
            return _problem(what, cause)
        return SourceError(f"{what} does not exist")
    if isinstance(error, PermissionError):
        return SourceError(f"{what}: access denied: {_first_line(error)}")
    if isinstance(error, IsADirectoryError | NotADirectoryError | NotImplementedError | ValueError):
        return SourceError(f"{what}: {_first_line(error)}")
    # Backends raise classes of their own libraries.
    status = getattr(error, "status", None)
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429):
        return SourceError(f"{what}: the server answers {status}")
    return SourceUnavailable(f"{what} cannot be read: {_first_line(error) or type(error).__name__}")


def version_of(info: Mapping[str, Any]) -> str | None:
    """A sign that differs when the object's content does; None where the store has none."""
    for name in _VERSIONS:
        if info.get(name) not in (None, ""):
            return f"{info.get('size')}:{info[name]}"
    return None


def _first_line(error: BaseException) -> str:
    return without_secrets(str(error).strip().partition("\n")[0][:300])
