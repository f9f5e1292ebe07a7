"""Source type `web`: the pages of a list of addresses or of a sitemap.

Each page is requested with its last ETag and Last-Modified, so that the server does not send an unchanged page again.
A page without either, or with a Last-Modified as young as the answer, is compared by its content's hash. robots.txt is
respected at every hop. A sitemap that is empty or cannot be read is an error, and no list without pages.
"""

from __future__ import annotations

import datetime
import mimetypes
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from rag_assets.pipeline.entries import Content, Entry
from resources.errors import SourceError, SourceUnavailable, UnreadablePart
from resources.parsing.charsets import stated_in_content_type
from resources.sources.base import Source
from resources.sources.config import MIB, PlainUrl, SourceConfig
from resources.sources.globs import Exclude, Include, KeyFilter, exact_glob
from resources.sources.http import (
    HttpClient,
    RateLimiter,
    basic_authorization,
    joined,
    normalised,
    origin,
)
from resources.sources.signs import trusted_validators
from resources.sources.sitemaps import MAX_BYTES, locations

#: Maximum bytes of a robots.txt (RFC 9309 requires at least this many).
ROBOTS_BYTES = 512 * 1024
#: Maximum seconds of a crawl delay. A sync with longer delays would take days.
LONGEST_DELAY = 60.0
MAX_SITEMAPS = 1000
#: Parameters that campaigns add to the address of a page, and that do not change it.
_TRACKING = re.compile(
    r"(?:utm_\w+|[gd]clid|[gw]braid|fbclid|msclkid|yclid|igshid|mc_[ce]id|_hs(?:enc|mi))(?:=|$)",
    re.I,
)


def _check_url(url: str) -> str:
    try:
        return normalised(url)
    except SourceError as error:
        raise ValueError(str(error)) from None


WebUrl = Annotated[PlainUrl, AfterValidator(_check_url)]


class WebConfig(SourceConfig):
    urls: list[WebUrl] = Field(default=[], description="pages to read")
    sitemap: WebUrl | None = Field(
        default=None, validate_default=True, description="a sitemap, or an index of sitemaps"
    )
    hosts: list[str] = Field(
        default=[], description="other hosts that the sitemap may list pages of"
    )
    include: Include = Field(default=[])
    exclude: Exclude = Field(default=[])
    depth: int = Field(default=3, ge=0, le=10, description="maximum depth of nested sitemaps")
    max_pages: int = Field(
        default=10_000, gt=0, description="maximum pages; a listing of more fails"
    )
    requests_per_second: float = Field(default=4.0, gt=0, description="maximum rate")
    timeout: float = Field(default=30.0, gt=0, le=600, description="seconds to wait for an answer")
    redirects: int = Field(default=5, ge=0, le=20, description="maximum redirects per page")
    max_bytes: int = Field(
        default=32 * MIB, gt=0, description="maximum bytes of a document; a larger one fails"
    )
    user_agent: str = Field(
        default="rag-assets", min_length=1, description="the name sent to servers"
    )
    ignore_robots: bool = Field(
        default=False, description="ignore robots.txt; only for sites that you own"
    )
    allow_private_addresses: bool = Field(
        default=False, description="allow servers in private networks and on this machine"
    )

    @field_validator("sitemap", mode="after")
    @classmethod
    def _require_pages(cls, sitemap: str | None, info: ValidationInfo) -> str | None:
        if sitemap is None and info.data.get("urls") == []:
            raise ValueError("expected a sitemap to read, or pages in urls")
        return sitemap


class WebSource(Source):
    def __init__(self, config: WebConfig, credentials: Mapping[str, str]) -> None:
        self.config = config
        self._key_filter = KeyFilter(config.include, config.exclude)
        self._robots = Robots(config.user_agent)
        urls = [*config.urls, *filter(None, [config.sitemap])]
        self._hosts = {urlsplit(url).hostname for url in urls} | set(config.hosts)
        self._client = HttpClient(
            config.user_agent,
            config.timeout,
            config.redirects,
            config.allow_private_addresses,
            RateLimiter(1 / config.requests_per_second),
            _authorization(credentials),
            frozenset(map(origin, urls)),
        )

    def list(self) -> Iterator[Entry]:
        seen: set[str] = set()
        for url in self._addresses():
            if url in seen or not self._key_filter(_page_key(url)):
                continue
            seen.add(url)
            if len(seen) > self.config.max_pages:
                raise SourceError(
                    f"More than {self.config.max_pages:,} pages; raise max_pages, or select with include and exclude."
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
        for nested, address in self._locations(url, is_top=depth == 0):
            host = urlsplit(address).hostname
            if nested and self._key_filter.excludes(_sitemap_key(address)):
                continue
            if not nested and not self._key_filter(_page_key(address)):
                continue
            if host not in self._hosts:
                key = _sitemap_key(address) if nested else _page_key(address)
                raise UnreadablePart(
                    f"{url} lists {address}, which is on another host",
                    exact_glob(key),
                    f"If this is intended, add {host} to hosts",
                )
            if nested:
                yield from self._sitemap(address, depth + 1, read)
            else:
                yield _without_tracking(address)

    def _locations(self, url: str, *, is_top: bool) -> Iterator[tuple[bool, str]]:
        """Yield (whether it is a sitemap, address) of what a sitemap lists. Errors name it, and how to leave it out."""
        try:
            response = self._client.get(url, max_bytes=MAX_BYTES, check=self._check_robots)
            for is_nested, location in locations(response.data):
                yield is_nested, joined(response.url, location)
            return
        except SourceUnavailable as error:
            problem: SourceError = SourceUnavailable(f"The sitemap {url} cannot be read: {error}")
        except SourceError as error:
            message = f"The sitemap {url} cannot be read: {error}"
            if is_top:
                problem = SourceError(
                    f"{message}. Nothing was deleted or changed. Repair it, or name another one: "
                    "rag sources change NAME --set sitemap=URL"
                )
            else:
                problem = UnreadablePart(message, exact_glob(_sitemap_key(url)), "Repair it")
        raise problem from None

    def fetch(self, entry: Entry, previous_token: str | None = None) -> Content | None:
        response = self._client.get(
            entry.locator,
            max_bytes=self.config.max_bytes,
            headers=_conditions(previous_token),
            check=self._check_robots,
        )
        if response.status == 304 and previous_token:
            return None
        now = datetime.datetime.now(datetime.UTC)
        token = "\n".join(trusted_validators(response.headers, now))
        about = {"name": _file_name(entry.key, response.headers), "url": entry.key}
        if charset := stated_in_content_type(response.headers.get("content-type", "")):
            about["charset"] = charset
        return Content(response.data, token if token != "\n" else "", about)

    def _check_robots(self, url: str) -> None:
        if not self.config.ignore_robots:
            self._robots.check(self._client, url)

    def close(self) -> None:
        self._client.close()


def _page_key(url: str) -> str:
    """Return what globs are compared with."""
    return unquote(urlsplit(url).path).lstrip("/")


def _sitemap_key(url: str) -> str:
    query = urlsplit(url).query
    return _page_key(url) + (f"?{query}" if query else "")


def _without_tracking(url: str) -> str:
    """Return the address without parameters of campaigns: with each of them, it is the same page."""
    parts = urlsplit(url)
    kept = [item for item in parts.query.split("&") if not _TRACKING.match(item)]
    return urlunsplit(parts._replace(query="&".join(kept)))


class Robots:
    """The rules of each site's robots.txt, read once. An unavailable robots.txt forbids all pages (RFC 9309)."""

    def __init__(self, user_agent: str) -> None:
        self._agent = user_agent
        self._rules: dict[str, Any] = {}
        self._lock = threading.Lock()

    def check(self, client: HttpClient, url: str) -> None:
        """Raises SourceError for a forbidden page, SourceUnavailable while the rules cannot be read."""
        with self._lock:
            site = origin(url)
            if site not in self._rules:
                self._rules[site] = self._read(client, site)
            rules = self._rules[site]
        if not rules.can_fetch(url, self._agent):
            raise SourceError(f"{site}/robots.txt forbids this page to user agent {self._agent}")

    def _read(self, client: HttpClient, site: str) -> Any:
        from protego import Protego

        try:
            # A byte order mark would hide the first rule.
            text = client.get(f"{site}/robots.txt", max_bytes=ROBOTS_BYTES).data.decode(
                "utf-8-sig", "replace"
            )
        except SourceError as error:
            if error.transient or not str(error).startswith("HTTP 4"):
                raise
            # Without a robots.txt all pages are allowed.
            text = ""
        rules = Protego.parse(text)
        delay = float(rules.crawl_delay(self._agent) or 0)
        client.rate_limiter.interval = max(client.rate_limiter.interval, min(delay, LONGEST_DELAY))
        return rules


def _authorization(credentials: Mapping[str, str]) -> str | None:
    if token := credentials.get("token"):
        return f"Bearer {token}"
    if user := credentials.get("username"):
        return basic_authorization(user, credentials.get("password", ""))
    return None


def _conditions(previous_token: str | None) -> dict[str, str]:
    etag, _, modified = (previous_token or "").partition("\n")
    return {
        **({"If-None-Match": etag} if etag else {}),
        **({"If-Modified-Since": modified} if modified else {}),
    }


def _file_name(url: str, headers: Mapping[str, str]) -> str:
    """Return a file name whose suffix fits the server's Content-Type."""
    parts = urlsplit(url)
    name = unquote(parts.path).strip("/") or parts.hostname or ""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    suffix = (
        ".md" if kind in ("text/markdown", "text/x-markdown") else mimetypes.guess_extension(kind)
    )
    if not suffix or kind == "application/octet-stream":
        return name
    url_suffix = PurePosixPath(name).suffix.lower()
    if url_suffix and (kind == "text/plain" or mimetypes.guess_type(name)[0] == kind):
        return name
    return name + suffix
