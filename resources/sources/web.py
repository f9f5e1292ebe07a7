"""Source type `web`: the pages of a list of addresses or of a sitemap.

Each page is asked for with what it was last known by (ETag, Last-Modified): unchanged, it is not sent again. A page
that answers with neither is compared by its content's hash. robots.txt is respected at every hop.
"""

from __future__ import annotations

import mimetypes
import threading
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from resources.errors import SourceError
from resources.sources.base import Content, Entry, Source
from resources.sources.config import MIB, PlainUrl, SourceConfig
from resources.sources.globs import Exclude, Include, KeyFilter
from resources.sources.http import HttpClient, Pace, basic, normalised, origin
from resources.sources.sitemaps import MAX_BYTES, locations

#: Bytes of a robots.txt that are read (RFC 9309 asks for at least this many).
ROBOTS_BYTES = 512 * 1024
#: Seconds. A robots.txt that asks for longer pauses is not followed: a sync would take days.
LONGEST_DELAY = 60.0
MAX_SITEMAPS = 1000


def _address(url: str) -> str:
    try:
        return normalised(url)
    except SourceError as error:
        raise ValueError(str(error)) from None


WebUrl = Annotated[PlainUrl, AfterValidator(_address)]


class WebConfig(SourceConfig):
    urls: list[WebUrl] = Field(default=[], description="pages to read")
    sitemap: WebUrl | None = Field(
        default=None, validate_default=True, description="a sitemap, or an index of sitemaps"
    )
    hosts: list[str] = Field(default=[], description="other hosts whose pages the sitemap may list")
    include: Include = Field(default=[])
    exclude: Exclude = Field(default=[])
    depth: int = Field(default=3, ge=0, le=10, description="sitemaps inside one another, at most")
    max_pages: int = Field(default=10_000, gt=0, description="more than these are refused")
    requests_per_second: float = Field(default=4.0, gt=0, description="at most")
    timeout: float = Field(default=30.0, gt=0, le=600, description="seconds to wait for an answer")
    redirects: int = Field(default=5, ge=0, le=20, description="redirects of a page, at most")
    max_bytes: int = Field(default=32 * MIB, gt=0, description="a larger document is not read")
    user_agent: str = Field(default="rag-assets", min_length=1, description="the name to show")
    ignore_robots: bool = Field(default=False, description="for sites of your own only")
    allow_private_addresses: bool = Field(
        default=False, description="servers in private networks and on this machine too"
    )

    @field_validator("sitemap", mode="after")
    @classmethod
    def _something(cls, sitemap: str | None, info: ValidationInfo) -> str | None:
        if sitemap is None and info.data.get("urls") == []:
            raise ValueError("expected a sitemap to read, or pages in urls")
        return sitemap


class WebSource(Source):
    def __init__(self, config: WebConfig, credentials: Mapping[str, str]) -> None:
        self.config = config
        self._wanted = KeyFilter(config.include, config.exclude)
        self._robots = Robots(config.user_agent)
        given = [*config.urls, *filter(None, [config.sitemap])]
        self._hosts = {urlsplit(url).hostname for url in given} | set(config.hosts)
        self._client = HttpClient(
            config.user_agent,
            config.timeout,
            config.redirects,
            config.allow_private_addresses,
            Pace(1 / config.requests_per_second),
            _authorization(credentials),
            frozenset(map(origin, given)),
        )

    def list(self) -> Iterator[Entry]:
        seen: set[str] = set()
        for url in self._addresses():
            if url in seen or not self._wanted(unquote(urlsplit(url).path).lstrip("/")):
                continue
            seen.add(url)
            if len(seen) > self.config.max_pages:
                raise SourceError(
                    f"More than {self.config.max_pages:,} pages; raise max_pages, or choose with include and exclude."
                )
            yield Entry(url, url, None, None)

    def _addresses(self) -> Iterator[str]:
        yield from self.config.urls
        if self.config.sitemap:
            yield from self._sitemap(self.config.sitemap, 0, set())

    def _sitemap(self, url: str, depth: int, read: set[str]) -> Iterator[str]:
        if url in read:
            return
        read.add(url)
        if depth > self.config.depth or len(read) > MAX_SITEMAPS:
            raise SourceError(
                f"Sitemaps nested deeper than {self.config.depth}, or too many: {url}"
            )
        answer = self._client.get(url, most=MAX_BYTES, permitted=self._permitted)
        for nested, location in locations(answer.data, url):
            found = normalised(location)
            if urlsplit(found).hostname not in self._hosts:
                raise SourceError(
                    f"{url} lists {found}, which is on another host. If it is meant, add it to hosts."
                )
            if nested:
                yield from self._sitemap(found, depth + 1, read)
            else:
                yield found

    def fetch(self, entry: Entry, known: str | None = None) -> Content | None:
        answer = self._client.get(
            entry.locator,
            most=self.config.max_bytes,
            headers=_conditions(known),
            permitted=self._permitted,
        )
        if answer.status == 304 and known:
            return None
        token = f"{answer.headers.get('etag', '')}\n{answer.headers.get('last-modified', '')}"
        about = {"name": _file_name(entry.key, answer.headers), "url": entry.key}
        return Content(answer.data, token if token != "\n" else "", about)

    def _permitted(self, url: str) -> None:
        if not self.config.ignore_robots:
            self._robots.permit(self._client, url)

    def close(self) -> None:
        self._client.close()


class Robots:
    """What each site's robots.txt says, asked for once. One that cannot be read for now forbids all (RFC 9309)."""

    def __init__(self, user_agent: str) -> None:
        self._agent = user_agent
        self._rules: dict[str, Any] = {}
        self._lock = threading.Lock()

    def permit(self, client: HttpClient, url: str) -> None:
        """Raises SourceError for a forbidden page, SourceUnavailable while the rules cannot be read."""
        with self._lock:
            site = origin(url)
            if site not in self._rules:
                self._rules[site] = self._read(client, site)
            rules = self._rules[site]
        if not rules.can_fetch(url, self._agent):
            raise SourceError(f"{site}/robots.txt forbids this page to {self._agent}")

    def _read(self, client: HttpClient, site: str) -> Any:
        from protego import Protego

        try:
            text = client.get(f"{site}/robots.txt", most=ROBOTS_BYTES).data.decode(
                "utf-8", "replace"
            )
        except SourceError as error:
            if error.transient or not str(error).startswith("HTTP 4"):
                raise
            text = ""  # none: all is allowed
        rules = Protego.parse(text)
        delay = float(rules.crawl_delay(self._agent) or 0)
        client.pace.interval = max(client.pace.interval, min(delay, LONGEST_DELAY))
        return rules


def _authorization(credentials: Mapping[str, str]) -> str | None:
    if token := credentials.get("token"):
        return f"Bearer {token}"
    if user := credentials.get("username"):
        return basic(user, credentials.get("password", ""))
    return None


def _conditions(known: str | None) -> dict[str, str]:
    etag, _, modified = (known or "").partition("\n")
    return {
        **({"If-None-Match": etag} if etag else {}),
        **({"If-Modified-Since": modified} if modified else {}),
    }


def _file_name(url: str, headers: Mapping[str, str]) -> str:
    """A name whose suffix says what the server says the page is."""
    parts = urlsplit(url)
    name = unquote(parts.path).strip("/") or parts.hostname or ""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    suffix = (
        ".md" if kind in ("text/markdown", "text/x-markdown") else mimetypes.guess_extension(kind)
    )
    if not suffix or kind == "application/octet-stream":
        return name
    stated = PurePosixPath(name).suffix.lower()
    if stated and (kind == "text/plain" or mimetypes.guess_type(name)[0] == kind):
        return name
    return name + suffix
