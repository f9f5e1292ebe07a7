"""The compressed RTF (LZFu) in which Outlook stores the text of messages."""

from __future__ import annotations

import struct

from resources.errors import ParseError

#: What the dictionary of compressed RTF contains at the start.
_RTF_START = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern "
    b"\\fscript \\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0"
    b"\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)


def decompressed(data: bytes) -> bytes:
    """Return compressed RTF (LZFu). Raises ParseError if it is damaged."""
    if len(data) < 16:
        raise ParseError("the compressed RTF is damaged")
    size, kind = struct.unpack_from("<I4s", data, 4)
    if kind == b"MELA":
        return data[16 : 16 + size]
    if kind != b"LZFu" or size > 64 * len(data) + 4096:
        raise ParseError("the compressed RTF is damaged")
    window = bytearray(_RTF_START.ljust(4096, b"\0"))
    output, place, position = bytearray(), len(_RTF_START), 16
    while position < len(data) and len(output) < size:
        flags = data[position]
        position += 1
        for bit in range(8):
            if not flags >> bit & 1:
                copied = data[position : position + 1]
                position += 1
            else:
                token = int.from_bytes(data[position : position + 2], "big")
                position += 2
                offset, length = token >> 4, (token & 15) + 2
                if offset == place % 4096:
                    return bytes(output)
                copied = b""
                for step in range(length):
                    letter = window[(offset + step) % 4096]
                    window[place % 4096] = letter
                    place += 1
                    output.append(letter)
            for letter in copied:
                window[place % 4096] = letter
                place += 1
                output.append(letter)
            if position >= len(data):
                break
    return bytes(output[:size])
