"""Users who log in at an OpenID Connect provider."""

from __future__ import annotations

import uuid
from typing import NamedTuple

from resources.postgres.connection import Connection
from resources.postgres.queries import fetch_first


class ProviderUser(NamedTuple):
    id: uuid.UUID
    version: int


def record_provider_login(connection: Connection, subject: str, email: str) -> ProviderUser | None:
    """Return the active user who is linked to the provider's, or else has its email address, and link it.

    The first login verifies the user: the provider has verified the address.
    """
    return fetch_first(
        connection,
        ProviderUser,
        """UPDATE users SET oidc_subject = %(subject)s, is_verified = true, last_login_at = now()
           WHERE is_active AND id = (
             SELECT id FROM users
             WHERE oidc_subject = %(subject)s OR oidc_subject IS NULL AND email = lower(%(email)s)
             ORDER BY oidc_subject NULLS LAST LIMIT 1 FOR UPDATE)
           RETURNING id, version""",
        {"subject": subject, "email": email},
    )
