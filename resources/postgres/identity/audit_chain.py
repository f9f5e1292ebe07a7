"""The audit's chain of records."""

from __future__ import annotations

from collections.abc import Sequence

from rag_assets.pipeline.audit_record import AuditRecord
from resources.postgres.connection import Connection


def append(connection: Connection, records: Sequence[AuditRecord]) -> None:
    """Append records in the caller's transaction."""
