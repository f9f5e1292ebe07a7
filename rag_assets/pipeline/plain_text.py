"""Text as people see it: without invisible characters, in NFC. One rule for documents, their metadata and filters."""

from __future__ import annotations

import re
import unicodedata

#: Scripts without spaces, whose writers divide words by U+200B.
DIVIDED_SCRIPTS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u1aaf\u1b00-\u1bbf\ua980-\ua9ff\uaa00-\uaadf"
)
#: Invisible characters that mean nothing in a text. Joiners, marks of direction and variation selectors stay: Persian,
#: Indic scripts, Hebrew quotations and emoji need them.
INVISIBLE = "\u00ad\u180e\u200b\u2060-\u2064\u206a-\u206f\ufffc"
_INVISIBLE = re.compile(
    # A soft hyphen at the end of a line joins the parts of a word.
    r"\u00ad\n[ \t]*(?=\w)"
    rf"|(?<![{DIVIDED_SCRIPTS}])\u200b(?![{DIVIDED_SCRIPTS}])"
    rf"|[{INVISIBLE.replace(chr(0x200B), '')}]"
)
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufeff]")

#: They show letters in another order than that in which they are written.
_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def without_invisible(text: str) -> str:
    """Return the text without invisible characters. U+200B stays in scripts where it divides words."""
    return text if text.isascii() else _INVISIBLE.sub("", text)


def plain_line(text: str, max_characters: int) -> str:
    """Return the text as one line in NFC, without invisible characters, cut to a length."""
    visible = _CONTROLS.sub("", without_invisible(text))
    line = " ".join(unicodedata.normalize("NFC", visible).split())
    return line[:max_characters].strip()


def is_plain_name(name: str, max_characters: int) -> bool:
    """Return whether a name is what it looks like: a plain line, without marks that change the order of its letters."""
    is_line = bool(name) and plain_line(name, max_characters) == name
    return is_line and not _DIRECTIONS.search(name)


def nfc(name: str) -> str:
    """Return a name in NFC: keyboards and file systems write the same letters in other forms."""
    return unicodedata.normalize("NFC", name)
