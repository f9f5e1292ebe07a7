"""Credentials of sources: encrypted in table `sources`, with a key that only the environment contains.

The key is read from the environment at use. It never passes through Dagster's configuration, which is stored and shown.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from resources.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

VARIABLE = "RAG_CREDENTIALS_KEY"
_HELP = f"Make one with: export {VARIABLE}=$(openssl rand -base64 32), and keep it: without it, credentials are lost."

_ENCRYPTED = (
    "Set the one that encrypted them; or make a new one, and enter them again: "
    "rag sources credentials NAME --credential name=@VARIABLE"
)


def encrypt(credentials: Mapping[str, str]) -> str | None:
    """Return the stored form; None for no credentials. Raises ConfigError without a key."""
    if not credentials:
        return None
    return _keys().encrypt(json.dumps(dict(credentials)).encode()).decode()


def decrypt(stored: str | None) -> dict[str, str]:
    """Return the credentials. Raises ConfigError without the key that encrypted them."""
    if not stored:
        return {}
    from cryptography.fernet import InvalidToken

    try:
        return json.loads(_keys(_ENCRYPTED).decrypt(stored.encode()))
    except InvalidToken:
        raise ConfigError(
            f"None of the keys in {VARIABLE} decrypts these credentials. Add the key that encrypted them, "
            "or enter them again: rag sources credentials NAME --credential name=@VARIABLE"
        ) from None


def rotate(stored: str) -> str:
    """Return the credentials encrypted with the first key. Raises ConfigError if no key decrypts them."""
    decrypt(stored)
    return _keys(_ENCRYPTED).rotate(stored.encode()).decode()


def _keys(unset: str = _HELP) -> MultiFernet:
    """Return the keys, separated by commas in the environment. The first encrypts; all are tried to decrypt."""
    from cryptography.fernet import Fernet, MultiFernet

    keys = [key.strip() for key in os.environ.get(VARIABLE, "").split(",") if key.strip()]
    if not keys:
        raise ConfigError(
            f"{VARIABLE} is not set: expected a key for the credentials of sources. {unset}"
        )
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:
        raise ConfigError(
            f"{VARIABLE}: expected keys of 32 bytes in base64, separated by commas. {_HELP}"
        ) from None
