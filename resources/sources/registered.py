"""The source of a row of table `sources`: opened with its credentials, which no error message repeats."""

from __future__ import annotations

from resources.postgres.sources import SourceRow
from resources.sources.base import Source
from resources.sources.registry import open_source


def open_registered(row: SourceRow) -> Source:
    return open_source(row.source_type, row.config)
