"""Table `deployment_secrets`: a value by which a process recognises the secret that keys were made with."""

from __future__ import annotations

from resources.postgres.connection import Connection
from resources.postgres.queries import scalar


def check_value(connection: Connection, purpose: str, own: str) -> str:
    """Return the stored value; at the first use, store this process's own."""
    connection.execute(
        "INSERT INTO deployment_secrets (purpose, check_value) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        [purpose, own],
    )
    return scalar(
        connection, "SELECT check_value FROM deployment_secrets WHERE purpose = %s", [purpose]
    )


def replace_check_value(connection: Connection, purpose: str, new: str) -> None:
    connection.execute(
        "UPDATE deployment_secrets SET check_value = %s, created_at = now() WHERE purpose = %s",
        [new, purpose],
    )
