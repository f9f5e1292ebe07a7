"""Offsets of a document's pages in its text, located by the pages' plain texts.

The reader returns the plain text of each page, and Markdown of the whole document without page breaks. The two differ
in marks and blanks, but hardly in letters, so only letters and digits are compared.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

#: Letters in a probe, and probes from the top of a page: the first ones may be a running head that the text lacks.
_PROBE, _PROBES = 24, 40
#: Letters before and after the expected place in which a page is searched, plus half of the previous page.
_SLACK = 1000
_WORD = re.compile(r"[^\W_]+")


def page_starts(text: str, pages: Sequence[str]) -> list[int]:
    """Return the offset in `text` where each page begins; `pages` are their plain texts.

    A page that is not found begins where the next one does: its text then counts for the previous page.
    """
    words = list(_WORD.finditer(text))
    letters = "".join(word[0] for word in words)
    ends = list(accumulate(len(word[0]) for word in words))
    starts: list[int | None] = []
    cursor, previous_length = 0, 0
    for page in pages:
        page_letters = "".join(_WORD.findall(page))
        expected, slack = cursor + previous_length, previous_length // 2 + _SLACK
        start = _nearest(letters, page_letters, cursor, expected, slack)
        starts.append(start)
        if start is None:
            previous_length += len(page_letters)
        else:
            cursor, previous_length = start, len(page_letters)
    places: list[int] = []
    next_place = len(letters)
    for start in reversed(starts):
        next_place = next_place if start is None else start
        places.append(next_place)
    return [0, *_offsets(text, words, ends, places[::-1][1:])] if pages else []


def _nearest(letters: str, page: str, first: int, expected: int, slack: int) -> int | None:
    """Return the place nearest to `expected`, and not before `first`, where `page` begins in `letters`, or None."""
    last = expected + slack
    for skipped in range(0, min(len(page), _PROBE * _PROBES), _PROBE):
        probe = page[skipped : skipped + _PROBE]
        if len(probe) < _PROBE and skipped:
            break
        middle = max(expected, first) + skipped
        places = (
            letters.rfind(probe, first, middle + len(probe)),
            letters.find(probe, middle, last + skipped),
        )
        if near := [place for place in places if place >= 0]:
            place = min(near, key=lambda place: abs(place - skipped - expected))
            # The skipped letters may be present in part: not the running head, but the line below it.
            while skipped and place > first and letters[place - 1] == page[skipped - 1]:
                place, skipped = place - 1, skipped - 1
            return place
    return None


def _offsets(
    text: str, words: Sequence[re.Match[str]], ends: Sequence[int], places: Sequence[int]
) -> list[int]:
    """Return the offsets in the text of the words at these letters; for the first word of a line, that of the line."""
    offsets: list[int] = []
    for place in places:
        # The index of the word that contains this letter.
        index = bisect_right(ends, place)
        # Inside a word: by chance, the previous page ends like the skipped letters. Take the next word.
        if index and index < len(words) and ends[index] - len(words[index][0]) < place:
            index += 1
        if index == len(words):
            offsets.append(len(text))
            continue
        start = words[index].start()
        line = text.rfind("\n", 0, start) + 1
        offsets.append(start if _WORD.search(text, line, start) else line)
    return offsets
