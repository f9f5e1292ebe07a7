"""The schema's version: `migrate` upgrades a database to the one that this code expects. Tables: `migrations/`."""

from __future__ import annotations

from pathlib import Path

import psycopg

from resources.driver_errors import driver_error, driver_errors
from resources.errors import ConfigError, StoreUnavailable
from resources.postgres.connection import Connection, Postgres
from resources.postgres.queries import scalar

#: The newest migration. A database at this version costs one query and no import of Alembic (0.3 s).
HEAD = "0026"
#: Advisory lock key of a migration: "rag" in ASCII.
_MIGRATION_LOCK = 0x726167


def migrate(url: str) -> bool:
    """Upgrade the schema to HEAD. Returns whether it changed. Several processes may call this at once."""
    with Postgres(url).connect(autocommit=True) as connection, driver_errors():
        if connection.info.server_version < 150000:
            raise ConfigError(
                f"Expected PostgreSQL 15 or newer, found {connection.info.server_version / 10000:.1f}."
            )
        if _current(connection) == HEAD:
            return False
        connection.execute("SELECT pg_advisory_lock(%s)", [_MIGRATION_LOCK])
        if _current(connection) == HEAD:
            return False
        _upgrade(url)
    return True


def table_exists(connection: Connection, name: str) -> bool:
    """Return whether a migration has made this table or view yet."""
    return scalar(connection, "SELECT to_regclass(%s) IS NOT NULL", [name])


def _current(connection: Connection) -> str | None:
    if not table_exists(connection, "rag_alembic_version"):
        return None
    return scalar(connection, "SELECT version_num FROM rag_alembic_version")


def _upgrade(url: str, revision: str = HEAD) -> None:
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
            command.upgrade(config, revision)
    # Migrations also execute statements on the driver's own connection, whose errors SQLAlchemy does not wrap.
    except (sqlalchemy.exc.DBAPIError, psycopg.Error) as error:
        known = driver_error(error)
        if known is None or not known.transient:
            raise
        raise StoreUnavailable(
            f"PostgreSQL did not finish the migration, try again: {known}"
        ) from error
