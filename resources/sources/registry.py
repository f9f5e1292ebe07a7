"""The source types, and how each is made from its `connection_config` and its credentials."""

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
from resources.sources.sql import SqlConfig, SqlSource, expect_driver
from resources.sources.stores import expect_backend
from resources.sources.web import WebConfig, WebSource


@dataclass(frozen=True)
class SourceType:
    """`credentials`: the accepted names; None accepts any. `watched`: a sensor may list it, since that is cheap.

    `expect_installed` raises ConfigError if a package that a configuration needs is not installed.
    """

    summary: str
    config: type[SourceConfig]
    make: Callable[[Any, Mapping[str, str]], Source]
    credentials: tuple[str, ...] | None = ()
    watched: bool = False
    expect_installed: Callable[[Any], None] = lambda config: None


SOURCE_TYPES: Mapping[str, SourceType] = {
    "folder": SourceType(
        "files below a directory on this machine",
        FolderConfig,
        lambda config, _: FolderSource(config),
        watched=True,
    ),
    "files": SourceType(
        "objects below a URL: S3, Google, Azure, HTTP, …",
        FilesConfig,
        FilesSource,
        None,
        expect_installed=lambda config: expect_backend(config.url),
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
        "rows of a query in PostgreSQL or another database, one document each",
        SqlConfig,
        SqlSource,
        ("username", "password"),
        expect_installed=lambda config: expect_driver(config.url),
    ),
    "jsonl": SourceType(
        "lines of a JSON Lines file, one document each",
        JsonlConfig,
        RowsSource,
        None,
        expect_installed=lambda config: expect_backend(config.path),
    ),
    "csv": SourceType(
        "rows of a CSV file, one document each",
        CsvConfig,
        RowsSource,
        None,
        expect_installed=lambda config: expect_backend(config.path),
    ),
    "parquet": SourceType(
        "rows of a Parquet file, one document each",
        ParquetConfig,
        RowsSource,
        None,
        expect_installed=lambda config: expect_backend(config.path),
    ),
}


def source_type(name: str) -> SourceType:
    if name not in SOURCE_TYPES:
        raise ConfigError(
            f"Unknown source type {name!r}; expected one of {', '.join(SOURCE_TYPES)}. "
            "They are listed by: rag sources types"
        )
    return SOURCE_TYPES[name]


def check_config(name: str, config: Mapping[str, Any]) -> SourceConfig:
    """Return the settings. Raises ConfigError if the type is unknown or settings are invalid (all are listed)."""
    return validated(name, source_type(name).config, config)


def open_source(
    name: str, config: Mapping[str, Any], credentials: Mapping[str, str] | None = None
) -> Source:
    """Return a source, not connected yet. Raises ConfigError as `check_config` does."""
    return source_type(name).make(check_config(name, config), credentials or {})
