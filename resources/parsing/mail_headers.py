"""Header fields of mails as text: names of attachments, subjects and people, in any encoding."""

from __future__ import annotations

import binascii
from email.header import decode_header
from email.message import Message
from email.utils import collapse_rfc2231_value

from resources.parsing.decoding import decode

#: Long enough for any real field; each encoded word costs 0.1 ms.
_MAX_HEADER = 10_000
#: ISO-2022-JP without the encoding of headers.
_ESCAPE = "\x1b"


def file_name(part: Message) -> str:
    """Return the name of the file in a part, empty if it has none."""
    for parameter, field in (("filename", "Content-Disposition"), ("name", "Content-Type")):
        value = _decoded_field(part, field).get_param(parameter, header=field)
        if value:
            return _words(collapse_rfc2231_value(value).strip())
    return ""


def _decoded_field(part: Message, name: str) -> Message:
    """Return the part, or one with this field alone if it holds raw bytes, which `get_param` replaces."""
    raw = _raw_header(part, name)
    if raw.isascii() and _ESCAPE not in raw:
        return part
    decoded = Message()
    decoded[name] = decode(raw.encode("utf-8", "surrogateescape")).text
    return decoded


def header_field(message: Message, name: str) -> str:
    """Return a header field as text; its raw bytes, if any, are decoded by their content."""
    return _words(_raw_header(message, name))


def _raw_header(message: Message, name: str) -> str:
    return str(
        next((value for field, value in message.raw_items() if field.lower() == name.lower()), "")
    )


def _words(raw: str) -> str:
    raw = raw[:_MAX_HEADER]
    if not raw.isascii() or _ESCAPE in raw:
        raw = decode(raw.encode("utf-8", "surrogateescape")).text
    try:
        parts = [
            word if isinstance(word, str) else _decoded_word(word, charset)
            for word, charset in decode_header(raw)
        ]
    except (ValueError, binascii.Error):
        parts = [raw]
    return " ".join("".join(parts).split())


def _decoded_word(word: bytes, charset: str | None) -> str:
    if charset is None:
        return word.decode("raw_unicode_escape", "replace")
    return decode(word, charset).text if word.strip() else " "
