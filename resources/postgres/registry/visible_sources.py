"""The names of sources within an access scope. A source out of scope is unknown: no message tells that it exists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import LiteralString

from rag_assets.pipeline.access import AccessScope
from rag_assets.pipeline.plain_text import nfc
from resources.errors import ConfigError
from resources.postgres.connection import Connection
from resources.postgres.queries import scalars
from resources.postgres.registry.sources import unknown_source


def is_visible(name: LiteralString) -> LiteralString:
    """SQL: the source of this name is in scope. `%(visible)s` is `AccessScope.visible`.

    A name is NULL for a removed source, which only a scope of all sources contains.
    """
    return f"(%(visible)s::text[] IS NULL OR {name} = ANY(%(visible)s))"


def visible_sources(connection: Connection, scope: AccessScope) -> list[str]:
    """Return the names of the sources in scope, sorted."""
    return scalars(
        connection,
        f"SELECT name FROM sources WHERE {is_visible('name')} ORDER BY name",
        {"visible": scope.visible},
    )


def require_sources(connection: Connection, names: Iterable[str], scope: AccessScope) -> None:
    """Raise ConfigError, with the names in scope and the nearest one, if a name is that of no source in scope."""
    visible = visible_sources(connection, scope)
    known = set(map(nfc, visible))
    if unknown := [name for name in names if nfc(name) not in known]:
        raise ConfigError("\n".join(unknown_source(name, visible) for name in unknown))
