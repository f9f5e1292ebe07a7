"""The layout of values on a terminal: cells as people read them, and the widths of columns. Prints nothing."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence, Set
from datetime import datetime

from rich.cells import cell_len
from rich.text import Text

#: Minimum width of a column of sentences: narrower, a sentence becomes a tower of words.
SENTENCE = 28

#: Where a line may break: at a space, and beside each character of a script that is written without spaces.
_BREAKS = re.compile(r"[\s\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uffef]+")


def plural(count: int, singular: str, plural_form: str = "") -> str:
    """Return "1 document", "2 documents". `plural_form`: if it is not the singular with an s."""
    return f"{count} {singular if count == 1 else plural_form or singular + 's'}"


def cell(value: object) -> Text:
    """Return a value as people read it: yes and no, times to the minute, lists with commas."""
    return value if isinstance(value, Text) else Text(_text(value))


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, default=str) if value else ""
    if isinstance(value, Set):
        return ", ".join(sorted(map(_text, value)))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value))
    return str(value)


def is_right_to_left(text: str) -> bool:
    """Return whether the text has letters of a script such as Arabic or Hebrew."""
    return any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text)


def column_widths(columns: Sequence[Sequence[Text]], available: int) -> list[int] | None:
    """Return the width of each column so that no word is broken; None if they do not fit side by side."""
    natural = [max(_longest_line(cell) for cell in column) for column in columns]
    minimal = [max(_narrowest(cell) for cell in column) for column in columns]
    if sum(natural) <= available:
        return natural
    spare = available - sum(minimal)
    if spare < 0:
        return None
    # The columns that lack least get their natural width first: a sentence that wraps once more costs nothing.
    widths = [*minimal]
    order = sorted(range(len(columns)), key=lambda index: natural[index] - minimal[index])
    for position, index in enumerate(order):
        share = min(natural[index] - minimal[index], spare // (len(order) - position))
        widths[index] += share
        spare -= share
    return widths


def _longest_line(cell: Text) -> int:
    return max((cell_len(line) for line in cell.plain.splitlines()), default=0)


def _narrowest(cell: Text) -> int:
    """Return the width below which a word breaks, or below which a sentence cannot be read."""
    return max(longest_word(cell), min(_longest_line(cell), SENTENCE))


def longest_word(cell: Text) -> int:
    return max(map(cell_len, _BREAKS.split(cell.plain)))
