"""Which source types there are, and how each is made from its `connection_config` and its credentials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from resources.errors import ConfigError
from resources.sources.base import Source
from resources.sources.config import SourceConfig, validated
from resources.sources.files import FilesConfig, FilesSource
from resources.sources.folder import FolderConfig, FolderSource
from resources.sources.git import GitConfig, GitSource
from resources.sources.rows import CsvConfig, JsonlConfig, ParquetConfig, RowsSource
from resources.sources.sql import SqlConfig, SqlSource
from resources.sources.web import WebConfig, WebSource


@dataclass(frozen=True)
class SourceType:
    """`credentials`: the names it takes; None: any. `watched`: its listing is cheap enough for a sensor's looks."""

    summary: str
    config: type[SourceConfig]
    make: Callable[[Any, Mapping[str, str]], Source]
    credentials: tuple[str, ...] | None = ()
    watched: bool = False


SOURCE_TYPES: Mapping[str, SourceType] = {
    "folder": SourceType(
        "files below a directory of this machine",
        FolderConfig,
        lambda config, _: FolderSource(config),
        watched=True,
    ),
    "files": SourceType(
        "objects below a URL: S3, Google, Azure, HTTP, …", FilesConfig, FilesSource, None
    ),
    "git": SourceType(
        "files of a git repository at a branch",
        GitConfig,
        GitSource,
        ("username", "password"),
        watched=True,
    ),
    "web": SourceType(
        "pages of a list of addresses or of a sitemap",
        WebConfig,
        WebSource,
        ("username", "password", "token"),
    ),
    "sql": SourceType(
        "rows of a query against PostgreSQL or another database",
        SqlConfig,
        SqlSource,
        ("username", "password"),
    ),
    "jsonl": SourceType("a document a line of a JSON lines file", JsonlConfig, RowsSource, None),
    "csv": SourceType("a document a row of a CSV file", CsvConfig, RowsSource, None),
    "parquet": SourceType("a document a row of a Parquet file", ParquetConfig, RowsSource, None),
}


def source_type(name: str) -> SourceType:
    if name not in SOURCE_TYPES:
        raise ConfigError(
            f"Unknown source type {name!r}; expected one of {', '.join(SOURCE_TYPES)}. "
            "They are explained by: rag sources types"
        )
    return SOURCE_TYPES[name]


def check_config(name: str, config: Mapping[str, Any]) -> SourceConfig:
    """Raises ConfigError when the type is unknown or its configuration has problems (all are listed)."""
    return validated(name, source_type(name).config, config)


def open_source(
    name: str, config: Mapping[str, Any], credentials: Mapping[str, str] | None = None
) -> Source:
    """A source to list and fetch from; nothing is connected to yet. Raises ConfigError as `check_config` does."""
    return source_type(name).make(check_config(name, config), credentials or {})
