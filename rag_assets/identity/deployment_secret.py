"""Recognises a process whose secret is not the one that the keys in the database were made with.

Without this every key would be refused, and nothing would say why.
"""

from __future__ import annotations

import hmac

from resources.errors import WrongSecret
from resources.postgres.connection import Connection
from resources.postgres.identity.api_keys import live_keys
from resources.postgres.identity.deployment_secrets import check_value, replace_check_value
from resources.secret_key import SecretKey

_PURPOSE = "pepper"


def expect_secret(connection: Connection, secret: SecretKey) -> None:
    """Raise WrongSecret unless the keys were made with one of these secrets. At the first use, remember the first one.

    A secret is remembered in place of another one that is in the list behind it, or that no live key needs.
    """
    own = [value.hex() for value in secret.hmacs("check", _PURPOSE.encode())]
    stored = check_value(connection, _PURPOSE, own[0])
    if hmac.compare_digest(stored, own[0]):
        return
    if stored not in own and live_keys(connection):
        raise WrongSecret(
            "RAG_SECRET_KEY: the API keys in this database were made with another secret. Set the one that was used, "
            "or add it behind a comma; without the setting it is the content of secret.key in the home folder that was "
            "used. If it is lost, revoke all keys and make new ones: rag keys list, rag keys revoke ID"
        )
    replace_check_value(connection, _PURPOSE, own[0])
