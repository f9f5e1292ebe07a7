"""One user in PostgreSQL, with everything that a process opens for logins and sessions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, LiteralString, cast

from rag_assets.identity.access_tokens import AccessTokens
from rag_assets.identity.changes import Origin
from rag_assets.identity.key_ring import KeyRing
from rag_assets.identity.login_delays import LoginDelays
from rag_assets.identity.logins import Logins
from rag_assets.identity.password_changes import PasswordChanges
from rag_assets.identity.passwords import Passwords
from rag_assets.identity.sessions import NewTokens, Sessions
from rag_assets.pipeline.audit_record import AuditRecord
from resources.errors import Overloaded
from resources.postgres.connection import Connection
from resources.postgres.connection_pool import Connections
from resources.postgres.identity.users import NewUser, insert_user
from resources.postgres.queries import scalar
from resources.secret_key import SecretKey

PASSWORD = "correct horse battery"
HOME, ABROAD = Origin("r1", "192.0.2.7"), Origin("r2", "203.0.113.9")
SECRET = SecretKey((b"s" * 32,))
TABLES: Sequence[LiteralString] = (
    "users", "signing_keys", "login_failures", "one_time_tokens",
)  # fmt: skip


class CountedPasswords(Passwords):
    """Counts what reaches a hash, and can be out of permits."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.verified, self.full = 0, False

    def verify(self, hashed: str | None, password: str) -> bool:
        if self.full:
            raise Overloaded("full")
        self.verified += 1
        return super().verify(hashed, password)


@dataclass
class Records:
    """The records that the audit's thread would write."""

    records: list[AuditRecord] = field(default_factory=list)

    def write(self, record: AuditRecord) -> None:
        self.records.append(record)

    note = write


@dataclass
class Identity:
    """What a process opens, with one user, ann."""

    connection: Connection
    connections: Connections
    passwords: CountedPasswords
    user: uuid.UUID
    audit: Records = field(default_factory=Records)

    def __post_init__(self) -> None:
        self.ring = KeyRing(self.connections, SECRET)
        self.tokens = AccessTokens(self.ring)
        self.sessions = Sessions(self.connections, self.tokens)
        self.delays = LoginDelays(self.connections, SECRET)
        self.logins = Logins(
            self.connections, self.passwords, self.sessions, self.delays, self.audit
        )
        self.changes = PasswordChanges(self.connections, self.passwords, self.logins)

    def login(
        self, password: str = PASSWORD, origin: Origin = HOME, name: str = "ann"
    ) -> NewTokens:
        return self.logins.login(name, password, origin, "a browser")

    def pass_time(self, seconds: float) -> None:
        """Move everything that happened into the past."""
        for table, columns in (
            ("users", ("locked_until",)),
            ("login_failures", ("blocked_until", "last_failure_at")),
            ("sessions", ("created_at", "last_used_at", "expires_at", "revoked_at")),
            ("refresh_tokens", ("created_at", "used_at")),
            ("one_time_tokens", ("created_at", "expires_at")),
            ("signing_keys", ("created_at", "signs_until", "verifies_until")),
        ):
            changes = ", ".join(f"{column} = {column} - %(by)s" for column in columns)
            query = cast(LiteralString, f"UPDATE {table} SET {changes}")
            self.connection.execute(query, {"by": timedelta(seconds=seconds)})

    def audited(self, action: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(
            """SELECT outcome, principal, details::jsonb FROM audit_records WHERE action = %s AND occurred_at > %s
               ORDER BY sequence""",
            [action, self.started],
        ).fetchall()

    @property
    def started(self) -> Any:
        return scalar(self.connection, "SELECT created_at FROM users WHERE id = %s", [self.user])


@contextmanager
def one_user(
    connection: Connection, connections: Connections, passwords: CountedPasswords
) -> Iterator[Identity]:
    """Yield a deployment whose only user is ann."""
    for table in TABLES:
        connection.execute(f"DELETE FROM {table}")
    passwords.verified, passwords.full = 0, False
    user = insert_user(
        connection,
        NewUser(
            "ann@example.com", "ann", "viewer",
            password_hash=passwords.hash(PASSWORD), is_verified=True,
        ),
    )  # fmt: skip
    assert user is not None
    yield Identity(connection, connections, passwords, user)
    # Other tests have another secret.
    connection.execute("DELETE FROM signing_keys")
