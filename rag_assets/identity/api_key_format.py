"""The text of an API key: `rag_<kind>_<id>_<secret><checksum>`.

The id finds the key, the secret proves it, and the checksum tells a typing error from a key without a query. All three
are base62. A slow hash is not needed: the secret is random and has 256 bits.
"""

from __future__ import annotations

import re
import secrets
import zlib
from dataclasses import dataclass, field

#: At most three letters, so that the prefix fits its column.
KIND = "key"
ID_LENGTH, SECRET_LENGTH, CHECKSUM_LENGTH = 12, 43, 6

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY = re.compile(
    rf"(?P<prefix>rag_[a-z]{{1,3}}_(?P<id>[0-9A-Za-z]{{{ID_LENGTH}}}))_"
    rf"(?P<secret>[0-9A-Za-z]{{{SECRET_LENGTH}}})(?P<checksum>[0-9A-Za-z]{{{CHECKSUM_LENGTH}}})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """`prefix`: everything before the secret, which is shown and stored. `id`: the part of the prefix that varies."""

    prefix: str
    id: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """The key as its user sends it."""
        body = f"{self.prefix}_{self.secret}"
        return body + _checksum(body)


def new_key(kind: str = KIND) -> ApiKey:
    key_id = _random(ID_LENGTH)
    return ApiKey(f"rag_{kind}_{key_id}", key_id, _random(SECRET_LENGTH))


def parse_key(text: str) -> ApiKey | None:
    """Return the key, or None for a text that is no key or has a typing error."""
    match = _KEY.fullmatch(text)
    if match is None or _checksum(text[:-CHECKSUM_LENGTH]) != match["checksum"]:
        return None
    return ApiKey(match["prefix"], match["id"], match["secret"])


def looks_like_key(credential: str) -> bool:
    """Return whether a credential is meant as an API key, not as an access token."""
    return credential.startswith("rag_")


def public_id(prefix: str) -> str:
    """Return the id in a stored prefix."""
    return prefix.rpartition("_")[2]


def _random(length: int) -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(length))


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode("ascii")), ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
