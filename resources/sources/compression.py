"""Compressed bodies of HTTP answers and gzip files → their bytes, bounded, or an error if their end is missing."""

from __future__ import annotations

import zlib

from resources.errors import SourceError

GZIP_START = b"\x1f\x8b"
#: Codings that exist (IANA) and that no request of ours accepts. Other words, such as a character set, are mistakes of
#: servers, whose bodies are plain.
_OTHERS = frozenset({"aes128gcm", "br", "compress", "dcb", "dcz", "exi", "pack200-gzip", "zstd"})


class Incomplete(Exception):
    """The compressed data ends early: another attempt may get all of it."""


def decoded(data: bytes, codings: str, max_bytes: int) -> bytes:
    """Return a body without its content codings, the value of the header Content-Encoding.

    Raises SourceError for a coding that was not accepted, for corrupt data, and for more than `max_bytes`.
    """
    names = [name.strip().lower().removeprefix("x-") for name in codings.split(",")]
    if other := _OTHERS.intersection(names):
        raise SourceError(
            f"the server compressed it with {', '.join(sorted(other))}, which the request did not accept"
        )
    # In the order in which they were applied.
    for name in reversed(names):
        if data and name in ("gzip", "deflate"):
            data = gunzipped(data, max_bytes) if name == "gzip" else _inflated(data, max_bytes)
    return data


def gunzipped(data: bytes, max_bytes: int) -> bytes:
    """Decompress all members of gzip data. What follows the last one, such as padding, is ignored, as gzip does."""
    plain = bytearray()
    while True:
        member, data = _decompressed(data, 31, max_bytes - len(plain))
        plain += member
        if not data.startswith(GZIP_START):
            return bytes(plain)


def _inflated(data: bytes, max_bytes: int) -> bytes:
    # Some servers leave the header of zlib out: its first two bytes are a multiple of 31.
    has_header = data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
    return _decompressed(data, 15 if has_header else -15, max_bytes)[0]


def _decompressed(data: bytes, wbits: int, max_bytes: int) -> tuple[bytes, bytes]:
    """Return the decompressed bytes, and those behind the compressed data."""
    decompressor = zlib.decompressobj(wbits)
    try:
        plain = decompressor.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise SourceError(f"it cannot be decompressed: {error}") from None
    if len(plain) > max_bytes:
        raise SourceError(f"larger than {max_bytes:,} bytes")
    if not decompressor.eof:
        raise Incomplete("its compressed data ends early")
    return plain, decompressor.unused_data
