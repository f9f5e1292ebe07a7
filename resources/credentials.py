"""Credentials of sources: encrypted in table `sources`, with a key that only the environment holds.

Read from the environment where they are used, not passed through Dagster's configuration, which is stored and shown.
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
_HOW = f"Make one with: export {VARIABLE}=$(openssl rand -base64 32), and keep it: without it credentials are lost."


def encrypt(credentials: Mapping[str, str]) -> str | None:
    """The form that is stored; None for none. Raises ConfigError without a key."""
    if not credentials:
        return None
    return _keys().encrypt(json.dumps(dict(credentials)).encode()).decode()


def decrypt(stored: str | None) -> dict[str, str]:
    """Raises ConfigError without the key that it was encrypted with."""
    if not stored:
        return {}
    from cryptography.fernet import InvalidToken

    try:
        return json.loads(_keys().decrypt(stored.encode()))
    except InvalidToken:
        raise ConfigError(
            f"None of the keys in {VARIABLE} opens these credentials. Add the key they were encrypted with, "
            "or give them anew: rag sources credentials NAME --credential name=@VARIABLE"
        ) from None


def rotate(stored: str) -> str:
    """The same credentials under the first key. Raises ConfigError when no key opens them."""
    decrypt(stored)
    return _keys().rotate(stored.encode()).decode()


def _keys() -> MultiFernet:
    """Of several keys, separated by commas, the first encrypts and each is tried to decrypt."""
    from cryptography.fernet import Fernet, MultiFernet

    keys = [key.strip() for key in os.environ.get(VARIABLE, "").split(",") if key.strip()]
    if not keys:
        raise ConfigError(
            f"{VARIABLE} is not set: expected a key for the credentials of sources. {_HOW}"
        )
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:
        raise ConfigError(
            f"{VARIABLE}: expected keys of 32 bytes in base64, separated by commas. {_HOW}"
        ) from None
