"""Where the pages of a document begin in its text, found again by what stands on them.

The reader gives the plain text of each page, and Markdown for the whole without pages in it: its tables, lists and
paragraphs differ in marks and blanks, but hardly in letters. So both are compared as letters and digits alone.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

#: Letters compared at a time, and how often, from the top of a page: running heads may not be in the text.
_PROBE, _PROBES = 24, 40
#: How far from its expected place, in letters, a page is looked for, beside half of the page before it.
_SLACK = 1000
_WORD = re.compile(r"[^\W_]+")


def page_starts(text: str, pages: Sequence[str]) -> list[int]:
    """Offsets in `text` where each of `pages` (their plain texts) begins.

    A page that is not found begins where the next one does: its text then counts as that of the page before.
    """
    words = list(_WORD.finditer(text))
    letters = "".join(word[0] for word in words)
    ends = list(accumulate(len(word[0]) for word in words))
    starts: list[int | None] = []
    cursor, before = 0, 0
    for page in pages:
        wanted = "".join(_WORD.findall(page))
        found = _nearest(letters, wanted, cursor, cursor + before, before // 2 + _SLACK)
        starts.append(found)
        cursor, before = (cursor, before + len(wanted)) if found is None else (found, len(wanted))
    offsets: list[int] = []
    following = len(letters)
    for start in reversed(starts):
        following = following if start is None else start
        offsets.append(following)
    return [0, *_offsets(text, words, ends, offsets[::-1][1:])] if pages else []


def _nearest(letters: str, wanted: str, first: int, expected: int, slack: int) -> int | None:
    """Where `wanted` begins in `letters`: near `expected`, and not before `first`."""
    last = expected + slack
    for skipped in range(0, min(len(wanted), _PROBE * _PROBES), _PROBE):
        probe = wanted[skipped : skipped + _PROBE]
        if len(probe) < _PROBE and skipped:
            break
        middle = max(expected, first) + skipped
        places = (
            letters.rfind(probe, first, middle + len(probe)),
            letters.find(probe, middle, last + skipped),
        )
        if near := [place for place in places if place >= 0]:
            place = min(near, key=lambda place: abs(place - skipped - expected))
            # What was skipped may be there in part: a running head is not, the line below it is.
            while skipped and place > first and letters[place - 1] == wanted[skipped - 1]:
                place, skipped = place - 1, skipped - 1
            return place
    return None


def _offsets(
    text: str, words: Sequence[re.Match[str]], ends: Sequence[int], places: Sequence[int]
) -> list[int]:
    """The offsets in the text of the words at these letters; of a line that opens with one, its begin."""
    offsets: list[int] = []
    for place in places:
        index = bisect_right(ends, place)  # the word that holds this letter
        if index and index < len(words) and ends[index] - len(words[index][0]) < place:
            index += 1  # not its first one: by chance, the end of the page before ends like what was skipped
        if index == len(words):
            offsets.append(len(text))
            continue
        start = words[index].start()
        line = text.rfind("\n", 0, start) + 1
        offsets.append(start if _WORD.search(text, line, start) else line)
    return offsets
