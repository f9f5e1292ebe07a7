"""The end of a file, in formats that have a fixed one: without it, the file was cut short while it was written.

Reads the ends of large files only, and at most SMALL bytes of text as a whole.
"""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import PurePosixPath

from resources.parsing.formats import XML_SUFFIXES

#: Bytes of a text that is parsed to find its end; of a larger one only the last bytes are compared.
SMALL = 1 << 20
#: The directory of a ZIP container ends with a record of 22 bytes and a comment of up to 64 KiB.
_ZIP_TAIL = 22 + 65_535
#: A word of JSON, such as `false`, is not longer.
_JSON_WORD = 5


def missing_end(name: str, data: bytes) -> str:
    """Return which end the file lacks; empty if it is there, or if its format has none."""
    suffix = PurePosixPath(name).suffix.lower()
    if data.startswith(b"PK\x03\x04"):
        return "" if b"PK\x05\x06" in data[-_ZIP_TAIL:] else "it ends before the ZIP directory"
    if data.startswith(b"%PDF-"):
        return "" if b"%%EOF" in data[-4096:] else "it ends before the end mark of the PDF"
    if not data.strip():
        return ""
    if suffix in (".jsonl", ".ndjson"):
        return "" if is_whole_json_line(data) else "its last line is not complete"
    if suffix in (".json", ".geojson", ".ipynb", ".webmanifest"):
        return "its JSON is not closed" if _is_open_json(data) else ""
    if suffix in (".csv", ".tsv"):
        return "its last field has no closing quote" if _is_open_csv(data) else ""
    # Not of a binary property list, an ontology in another syntax, or a text in UTF-16.
    tagged = data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")
    if tagged and (suffix in XML_SUFFIXES or suffix == ".svg" or data.startswith(b"<?xml")):
        return "" if data.rstrip().endswith(b">") else "it does not end with a tag"
    return "its last character is not complete" if _is_cut_utf8(data) else ""


def is_whole_json_line(data: bytes) -> bool:
    """Return whether the last line of JSON Lines is complete: it is JSON, or a line end follows it."""
    line = data[-SMALL:].rpartition(b"\n")[2]
    if not line.strip() or len(line) == SMALL:
        return True
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_open_json(data: bytes) -> bool:
    text = data.removeprefix(b"\xef\xbb\xbf").strip()
    closing = {b"[": b"]", b"{": b"}"}.get(text[:1])
    if closing is None:
        return False
    if not text.endswith(closing):
        return True
    if len(text) > SMALL:
        return False
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        # Other errors are elsewhere: the file is complete, but no JSON.
        return (
            error.msg.startswith("Unterminated string") or error.pos >= len(error.doc) - _JSON_WORD
        )
    except (ValueError, RecursionError):
        return False
    return False


def _is_open_csv(data: bytes) -> bool:
    if len(data) > SMALL:
        return False
    text = data.decode("utf-8", "replace")
    first = text.partition("\n")[0]
    return is_unclosed(text, max(",;\t|", key=first.count))


def is_unclosed(text: str, delimiter: str) -> bool:
    """Return whether rows of CSV end within a quoted field."""
    try:
        for _ in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True):
            pass
    except csv.Error as error:
        return "unexpected end" in str(error)
    return False


def _is_cut_utf8(data: bytes) -> bool:
    """Return whether UTF-8 text ends within a character. In other encodings such a byte may be a whole one."""
    lead = re.search(rb"[\xc2-\xf4][\x80-\xbf]{0,2}\Z", data[-3:])
    if lead is None:
        return False
    first, length = lead[0][0], len(lead[0])
    if length >= (2 if first < 0xE0 else 3 if first < 0xF0 else 4):
        return False
    try:
        data[: len(data) - length].decode()
    except UnicodeDecodeError:
        return False
    # A text of one encoding with a single letter beyond ASCII, at its end, is not UTF-8.
    return not data[: len(data) - length].isascii()
