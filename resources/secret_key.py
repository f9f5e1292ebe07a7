"""The deployment's secret: hashes of API keys and the private keys of tokens depend on it.

It is a setting, or a file that is made at the first use. The database has none of it, so a copy of the database alone
neither accepts a guessed key nor signs a token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resources.errors import ConfigError, WrongSecret
from resources.home_folder import create_home

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

#: Characters of a secret in a setting, at the least: 128 bits in base64.
SHORTEST = 22
_FILE = "secret.key"


@dataclass(frozen=True, repr=False)
class SecretKey:
    """The secrets: the first makes new hashes and ciphers, all are tried on old ones."""

    secrets: tuple[bytes, ...]

    def hmac(self, purpose: str, data: bytes) -> bytes:
        """Return the HMAC-SHA-256 of the data under the first secret's key for this purpose (32 bytes)."""
        return self.hmacs(purpose, data)[0]

    def hmacs(self, purpose: str, data: bytes) -> list[bytes]:
        """Return the HMAC-SHA-256 under each secret's key for this purpose."""
        return [
            hmac.digest(_derived(secret, purpose), data, hashlib.sha256) for secret in self.secrets
        ]

    def encrypt(self, purpose: str, data: bytes) -> str:
        """Return the data encrypted (Fernet) under the first secret's key for this purpose."""
        return self._fernet(purpose, self.secrets[0]).encrypt(data).decode()

    def decrypt(self, purpose: str, text: str) -> bytes:
        """Return the data. Raises WrongSecret if no secret decrypts it."""
        from cryptography.fernet import InvalidToken

        for secret in self.secrets:
            with suppress(InvalidToken):
                return self._fernet(purpose, secret).decrypt(text.encode())
        raise WrongSecret(
            "RAG_SECRET_KEY: none of its secrets is the one that this database was used with. Add that one, behind a "
            "comma; without the setting it is the content of secret.key in the home folder that was used."
        )

    @staticmethod
    def _fernet(purpose: str, secret: bytes) -> Fernet:
        from cryptography.fernet import Fernet

        return Fernet(base64.urlsafe_b64encode(_derived(secret, purpose)))


def _derived(secret: bytes, purpose: str) -> bytes:
    """Return the key for one purpose. One step of HKDF (RFC 5869) suffices: the secret is random."""
    return hmac.digest(secret, b"rag-assets " + purpose.encode(), hashlib.sha256)


def secret_key(setting: str, home: Path) -> SecretKey:
    """Return the secrets of the setting, separated by commas, or the one in the home folder, which is made if absent.

    Raises ConfigError for a secret that is too short.
    """
    if setting:
        parts = [part.strip() for part in setting.split(",") if part.strip()]
        if not parts or any(len(part) < SHORTEST for part in parts):
            raise ConfigError(
                f"RAG_SECRET_KEY: expected secrets of at least {SHORTEST} characters, separated by commas. "
                "Make one with: openssl rand -base64 32"
            )
        return SecretKey(tuple(part.encode() for part in parts))
    return SecretKey((_from_file(create_home(home) / _FILE),))


def _from_file(file: Path) -> bytes:
    with suppress(FileNotFoundError):
        return _read(file)
    # Several processes may start at once: a link exists whole or not at all, and the first one wins.
    new = file.with_name(f"{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as written:
        written.write(secrets.token_urlsafe(32))
        written.flush()
        os.fsync(written.fileno())
    try:
        with suppress(FileExistsError):
            os.link(new, file)
    finally:
        new.unlink()
    return _read(file)


def _read(file: Path) -> bytes:
    secret = file.read_bytes().strip()
    if len(secret) < SHORTEST:
        raise ConfigError(
            f"{file} holds no secret of at least {SHORTEST} characters. Restore it; if it is lost, delete the file: "
            "all API keys must be made again, and all users log in again."
        )
    return secret
