"""Sources of type `web` without a limit on the rate."""

from __future__ import annotations

from typing import Any

from rag_assets.pipeline.entries import Content
from resources.sources.base import Source
from resources.sources.registry import open_source
from tests.support.servers import Web


def site(web: Web, *paths: str, credentials: dict[str, str] | None = None, **config: Any) -> Source:
    """Return a source of the pages, without a limit on the rate."""
    settings = {"allow_private_addresses": True, "requests_per_second": 1000.0, **config}
    if paths:
        settings["urls"] = [web.url(path) for path in paths]
    return open_source("web", settings, credentials)


def get(source: Source, previous_token: str | None = None) -> Content | None:
    return source.fetch(next(source.list()), previous_token)
