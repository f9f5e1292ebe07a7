"""Which source types there are, and how each is made from its `connection_config`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from resources.errors import ConfigError
from resources.sources.base import Source
from resources.sources.folder import FolderSource

SOURCE_TYPES: Mapping[str, Callable[[Mapping[str, Any]], Source]] = {
    "folder": FolderSource.from_config
}


def open_source(source_type: str, config: Mapping[str, Any]) -> Source:
    """Raises ConfigError when the type is unknown or its configuration has problems (all are listed)."""
    if source_type not in SOURCE_TYPES:
        raise ConfigError(
            f"Unknown source type {source_type!r}; expected one of {', '.join(sorted(SOURCE_TYPES))}."
        )
    return SOURCE_TYPES[source_type](config)
