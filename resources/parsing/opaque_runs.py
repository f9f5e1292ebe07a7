"""Runs of encoded bytes in a text: base64, hexadecimal, ascii85, data URIs, PEM blocks. They are cut, since nobody
searches for them, and one picture would be a thousand chunks.

A run is cut if it is longer than 200 letters without a blank and looks random. These stay: words of any script (the
alphabets are ASCII), text whose blanks were lost, long identifiers, addresses, numbers, sequences of DNA and protein,
percent-encoded words, lists of digests. Of a data URI the media type stays, of a PEM block its first and last line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

#: What stands in place of a run.
ELLIPSIS = "…"
#: A run is longer than this; so are the lines of a wrapped run together.
_MIN_RUN = 200
#: Of a wrapped run: the number of lines, which have equal lengths, and the length of each.
_MIN_LINES, _MIN_LINE = 4, 40
#: The next run of 40 letters, behind shorter ones: one match a run takes half the time of a search at each letter.
_NEXT_RUN = re.compile(r"[^!-~]*+(?:[!-~]{1,39}+(?![!-~])[^!-~]*+)*+(?P<run>[!-~]{40,}+)")
_MAX_BETWEEN = 40
_BETWEEN_LINES = re.compile(r"[\s>\"'`,;+\\|*#]+")
_LAST_LINE = re.compile(
    r"[\"'`,;\\]*[ \t]*\r?\n[ \t>\"'`]*([A-Za-z0-9+/_-]{1,200}={0,2})[\"'`,;\\)]*[ \t]*(?:\n|\Z)"
    r"|[ ]([A-Za-z0-9+/]{1,76}={0,2})(?=[ \n]|\Z)"
)
#: A last line has a digit or the padding, or is long: it is no word.
_NO_WORD = re.compile(r"\D*\d.*|.*=|.{30,}")
_LINE_MARKS = "\"'`,;\\"
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/_-]|\\/){201,}+={0,2}")
_HEX = re.compile(r"[0-9a-f]{201,}+|[0-9A-F]{201,}+")
_ESCAPED = re.compile(r"(?:\\x[0-9A-Fa-f]{2}){51,}+|(?:%[0-9A-Fa-f]{2}){67,}+")
#: Lengths of digests in hexadecimal: lines of them are a list.
_DIGEST_LENGTHS = (32, 40, 48, 56, 64, 96, 128)
#: A pattern that begins with a set of letters and has no flag is searched ten times as fast.
_DATA_URI = re.compile(
    r"[Dd](?<!\w.)[Aa][Tt][Aa]:(?P<type>[\w.+-]{1,60}/[\w.+-]{1,80})?"
    r"(?:;[\w.-]{1,40}(?:=[\w.%\"'-]{1,60})?){0,6},",
)
_MIN_DATA = 64
_BASE64_DATA = re.compile(
    r"(?:[A-Za-z0-9+/_=-]|%[0-9A-Fa-f]{2}|\\/|[ \t]*\r?\n[ \t]*(?=[A-Za-z0-9+/=]{40}))*+"
)
_ENCODED_DATA = re.compile(r"""[^\s"'<>()\[\]`|]*+""")
_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{1,40}-----\s*+(?:[A-Za-z-]{1,30}: [^\n]{0,200}\n\s*+){0,5}"
    r"(?P<body>[A-Za-z0-9+/=\s\\]*+)(?=-----END )"
)
_UUENCODED = re.compile(
    r"^begin [0-7]{3,4} [^\n]+\n(?P<body>(?:M[ -`]{60}\n)++(?:[ -`]{1,60}\n){0,2}?)(?=end$)",
    re.MULTILINE,
)


class Shortened(NamedTuple):
    """A text without its opaque runs, their number, and the characters that were cut."""

    text: str
    runs: int
    characters: int


def cut_opaque_runs(text: str) -> Shortened:
    """Return the text with an ellipsis in place of each opaque run."""
    parts: list[str] = []
    cursor = runs = characters = 0
    for start, end in sorted(_spans(text)):
        if start < cursor:
            continue
        parts += text[cursor:start], ELLIPSIS
        cursor = end
        runs += 1
        characters += end - start
    return Shortened("".join([*parts, text[cursor:]]) if runs else text, runs, characters)


def _spans(text: str) -> Iterator[tuple[int, int]]:
    yield from _data_uris(text)
    for pattern, last_line in ((_PEM, "-----END "), (_UUENCODED, "\nend")):
        for block in pattern.finditer(text) if last_line in text else ():
            start, end = block.span("body")
            body = text[start:end]
            if stripped := body.strip():
                start += body.index(stripped)
                yield start, start + len(stripped)
    lines: list[tuple[int, int]] = []
    end = 0
    while match := _NEXT_RUN.match(text, end):
        run = start, end = match.span("run")
        if end - start > _MIN_RUN:
            yield from _opaque_parts(text, start, end)
        if lines and not _continues(text, lines[-1], run):
            yield from _wrapped(text, lines)
            lines = []
        lines.append(run)
    yield from _wrapped(text, lines)


def _data_uris(text: str) -> Iterator[tuple[int, int]]:
    if "data:" not in text.lower():
        return
    for uri in _DATA_URI.finditer(text):
        is_base64 = uri[0].lower().endswith(";base64,")
        # Percent-encoded text is readable.
        if not is_base64 and (uri["type"] or "text/plain").lower() == "text/plain":
            continue
        data = (_BASE64_DATA if is_base64 else _ENCODED_DATA).match(text, uri.end())
        if data and data.end() - data.start() >= _MIN_DATA:
            yield (
                data.start(),
                _end_of_wrapped(text, *data.span()) if "\n" in data[0] else data.end(),
            )


def _opaque_parts(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the opaque parts of a run without blanks, which may be JSON or an address around them."""
    is_cut = False
    for match in _BASE64.finditer(text, start, end):
        first = _behind_path(text, start, *match.span())
        if match.end() - first > _MIN_RUN and _is_base64(text[first : match.end()]):
            is_cut = True
            yield first, match.end()
            continue
        for run in _HEX.finditer(text, *match.span()):
            if _is_hexadecimal(run[0]):
                is_cut = True
                yield run.span()
    for match in _ESCAPED.finditer(text, start, end):
        if not _is_text(match[0]):
            is_cut = True
            yield match.span()
    if not is_cut and _is_ascii85(text[start:end]):
        yield start, end


def _behind_path(text: str, run_start: int, start: int, end: int) -> int:
    """Return where the opaque part of an address begins: behind its host and the short steps of its path."""
    if "://" not in text[max(run_start, start - 300) : start + 8]:
        return start
    while (slash := text.find("/", start, min(end, start + 40))) >= 0:
        start = slash + 1
    return start


def _continues(text: str, line: tuple[int, int], following: tuple[int, int]) -> bool:
    if following[0] - line[1] > _MAX_BETWEEN:
        return False
    first, second = text[slice(*line)], text[slice(*following)]
    has_equal_length = len(first) == len(second) or (
        len(first.strip(_LINE_MARKS)) == len(second.strip(_LINE_MARKS))
    )
    return has_equal_length and bool(_BETWEEN_LINES.fullmatch(text, line[1], following[0]))


def _wrapped(text: str, lines: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    if len(lines) < _MIN_LINES:
        return
    whole = [text[start:end] for start, end in lines]
    stripped = [line.strip(_LINE_MARKS) for line in whole]
    joined = "".join(stripped)
    if len(joined) <= _MIN_RUN or len(stripped[0]) < _MIN_LINE:
        return
    is_list = len(stripped[0]) in _DIGEST_LENGTHS
    if (_BASE64.fullmatch(joined) and _is_base64(joined)) or (
        _HEX.fullmatch(joined) and not is_list and _is_hexadecimal(joined)
    ):
        start = lines[0][0] + whole[0].index(stripped[0])
        end = lines[-1][0] + whole[-1].index(stripped[-1]) + len(stripped[-1])
        yield start, _end_of_wrapped(text, start, end)
    elif _is_ascii85("".join(whole)):
        yield lines[0][0], lines[-1][1]


def _end_of_wrapped(text: str, start: int, end: int) -> int:
    """Return where a wrapped run ends: its last line may be shorter."""
    last = _LAST_LINE.match(text, end)
    length = end - max(start, text.rfind("\n", start, end) + 1)
    if last is None:
        return end
    group = 1 if last[1] else 2
    is_last = len(last[group]) <= length and _NO_WORD.fullmatch(last[group])
    return last.end(group) if is_last else end


def _is_base64(run: str) -> bool:
    """Return whether capitals, small letters and digits are mixed as in random bytes, not as in words."""
    sample = run[:4000]
    kinds = [
        "A" if c.isupper() else "a" if c.islower() else "0" if c.isdigit() else "+" for c in sample
    ]
    counts, size = Counter(kinds), len(sample)
    changes = sum(before != after for before, after in pairwise(kinds))
    return (
        min(counts["A"], counts["a"]) >= 0.2 * size
        and counts["0"] >= 0.02 * size
        and counts["+"] <= 0.15 * size
        and changes >= 0.5 * size
    )


def _is_hexadecimal(run: str) -> bool:
    digits = sum(map(str.isdigit, run[:4000]))
    size = min(len(run), 4000)
    return 0.2 * size <= digits <= 0.95 * size


def _is_ascii85(run: str) -> bool:
    """Return whether all signs of ASCII are as frequent: in code, JSON and addresses some are much more frequent."""
    sample = run[:4000]
    counts, size = Counter(sample), len(sample)
    signs = sum(count for sign, count in counts.items() if not sign.isalnum())
    most = counts.most_common(1)[0][1]
    return (
        len(counts) >= 55
        and 0.2 * size <= signs <= 0.5 * size
        and most <= (0.06 if size < 500 else 0.04) * size
    )


def _is_text(escaped: str) -> bool:
    """Return whether escaped bytes are words in UTF-8."""
    try:
        text = unquote_to_bytes(escaped.replace("\\x", "%")).decode()
    except UnicodeDecodeError:
        # The run may end inside a character.
        text = unquote_to_bytes(escaped.replace("\\x", "%")).decode("utf-8", "replace")
        if text.rstrip("\ufffd").count("\ufffd"):
            return False
    return sum(c.isalnum() or c.isspace() for c in text) >= 0.6 * len(text)
