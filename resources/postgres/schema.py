"""The schema's version: brings a database to the one that this code expects. The tables are in `migrations/`."""

from __future__ import annotations

from pathlib import Path

import psycopg

from resources.errors import ConfigError, StoreUnavailable
from resources.postgres.connection import Postgres

#: The newest migration; a database that says the same is not touched (one query, no Alembic import: 0.3 s).
HEAD = "0017"
#: Advisory lock key of a migration: "rag" in ASCII.
_MIGRATION_LOCK = 0x726167


def migrate(url: str) -> bool:
    """Brings the schema of the database to HEAD; True if anything was done. Safe to call from several processes."""
    with Postgres(url).connect(autocommit=True) as connection:
        if connection.info.server_version < 150000:
            raise ConfigError(
                f"PostgreSQL 15 or newer is needed, found {connection.info.server_version / 10000:.1f}."
            )
        if _current(connection) == HEAD:
            return False
        connection.execute("SELECT pg_advisory_lock(%s)", [_MIGRATION_LOCK])
        if _current(connection) == HEAD:
            return False
        _upgrade(url)
    return True


def _current(connection: psycopg.Connection) -> str | None:
    row = connection.execute("SELECT to_regclass('rag_alembic_version')").fetchone()
    if row is None or row[0] is None:
        return None
    row = connection.execute("SELECT version_num FROM rag_alembic_version").fetchone()
    return row[0] if row else None


def _upgrade(url: str) -> None:
    import sqlalchemy
    import sqlalchemy.exc
    from alembic import command
    from alembic.config import Config
    from sqlalchemy.pool import NullPool

    config = Config()
    config.set_main_option(
        "script_location", str(Path(__file__).parent / "migrations").replace("%", "%%")
    )
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool
    )
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except sqlalchemy.exc.OperationalError as error:
        raise StoreUnavailable(f"PostgreSQL did not finish the migration: {error.orig}") from error
