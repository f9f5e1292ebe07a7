"""Changes of users, keys and grants: each is recorded in the audit by the transaction that makes it."""

from __future__ import annotations

from dataclasses import dataclass

from rag_assets.pipeline.audit_record import AuditRecord
from rag_assets.pipeline.principal import Principal
from resources.postgres.connection import Connection
from resources.postgres.identity.audit_chain import append


@dataclass(frozen=True, slots=True)
class Origin:
    """The request that asks for a change; empty: the command line."""

    request_id: str = ""
    address: str = ""


COMMAND_LINE = Origin()


def record(
    connection: Connection,
    actor: Principal,
    origin: Origin,
    action: str,
    target: str,
    **details: object,
) -> None:
    """Append a change to the audit. Last in its transaction: writers of the audit wait for one another."""
    entry = AuditRecord(
        action,
        "allowed",
        actor.identity,
        target,
        request_id=origin.request_id,
        address=origin.address,
        details=details,
    )
    append(connection, [entry])
