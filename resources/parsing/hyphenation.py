"""Words broken at the ends of lines in PDF: joined, or with the hyphen that they have in the middle of a line, too.

PDFium marks a hyphen at a line's end, kreuzberg's Markdown joins the two parts without it. Plain text and Markdown
files are not touched: a line's end is what their author wrote.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

#: The mark that PDFium writes for the hyphen, with the newline behind it.
_MARK = "\x02"
#: The parts of a broken word. The limits keep the search linear.
_LEFT, _RIGHT = r"(?<!\w)\w{1,60}+(?:[-’'.]\w{1,60}+){0,6}", r"\w{1,60}+(?:-\w{1,60}+){0,6}"
#: A word broken at a line's end. The hyphens that PDFium does not mark stand before the newline, too.
_BROKEN = re.compile(
    rf"(?P<left>{_LEFT})(?:{_MARK}\s*|[-\u2010\u00ad][ \t]*\r?\n[ \t]*)(?P<right>{_RIGHT})"
)
_WORD = re.compile(r"\w+(?:-\w+)*")
#: Hebrew, Arabic, Thai and its neighbours, East Asia: no hyphen is added at a line's end.
_NEVER_BROKEN = re.compile(
    "[\u0590-\u08ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\ufb1d-\ufefc]"
)
#: Markdown of a hyphen that kreuzberg has kept, with a blank in place of the newline.
_SPLIT = re.compile(rf"({_LEFT})- ({_RIGHT})")
#: "Haus- und Garten": after the hyphen comes another word.
_CONJUNCTIONS = frozenset(
    (
        *(
            "and",
            "or",
            "und",
            "oder",
            "bzw",
            "sowie",
            "et",
            "ou",
            "y",
            "e",
            "o",
            "u",
            "og",
            "eller",
        ),
        *("och", "i", "lub", "és", "vagy", "и", "или"),
    )
)
#: Parts of compounds that English writes with a hyphen, unless one of these endings follows.
_FIRST = frozenset(("well", "self", "non", "cross", "vice", "quasi"))
_ENDINGS = re.compile("(?:ing|ings|ed|es|er|ers|ish|less|hood|ness|ly|sense|s)")
_TENS = frozenset(("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"))
_ONES = frozenset(
    (
        *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
        *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"),
    )
)
#: Small words inside of compounds such as state-of-the-art: there, each hyphen belongs to the word.
_INNER = frozenset(
    ("of", "the", "in", "to", "and", "or", "up", "by", "on", "at", "a", "de", "la", "du", "sur")
)


class Hyphenation:
    """Decides for each broken word of a document, by its other words, and rewrites texts accordingly."""

    def __init__(self, pages: Sequence[str]) -> None:
        text = "\n".join(pages)
        broken = list(_BROKEN.finditer(text))
        unbroken = _BROKEN.sub(" ", text)
        self._words: Counter[str] = Counter()
        for word in _WORD.findall(unbroken.lower()):
            self._words.update(_pairs(word) if "-" in word else (word,))
        #: The words that kreuzberg has joined although they have a hyphen.
        self._fixes: dict[str, str] = {}
        self._splits: dict[tuple[str, str], str] = {}
        for match in broken:
            left, right = match["left"], match["right"]
            whole = self._whole(left, right)
            if whole != left + right:
                self._fixes[left + right] = whole
            if whole != f"{left}- {right}":
                self._splits[left, right] = whole

    def in_page(self, page: str) -> str:
        """Return the text of a page with its broken words made whole."""
        return _BROKEN.sub(lambda match: self._whole(match["left"], match["right"]), page)

    def in_markdown(self, markdown: str) -> str:
        """Return Markdown in which words were joined blindly with the hyphens that they need."""
        if self._splits:
            markdown = _SPLIT.sub(
                lambda match: self._splits.get((match[1], match[2]), match[0]), markdown
            )
        if self._fixes:
            markdown = _WORD.sub(lambda match: self._fixes.get(match[0], match[0]), markdown)
        return markdown

    def _whole(self, left: str, right: str) -> str:
        first = left.rpartition("-")[2]
        hyphenated = f"{left}-{right}"
        if _NEVER_BROKEN.search(first + right):
            return hyphenated
        if right.lower() in _CONJUNCTIONS and not self._words[(left + right).lower()]:
            return f"{left}- {right}"
        with_hyphen = self._words[f"{first}-{right.partition('-')[0]}".lower()]
        joined = self._words[f"{first}{right}".lower()]
        if with_hyphen or joined:
            return hyphenated if with_hyphen >= joined else left + right
        return hyphenated if _has_own_hyphen(left, first, right) else left + right


def _pairs(word: str) -> list[str]:
    """Return the neighbours in a compound: `state-of`, `of-the`, `the-art`."""
    parts = word.split("-")
    return [f"{before}-{after}" for before, after in itertools.pairwise(parts)]


def _has_own_hyphen(left: str, first: str, right: str) -> bool:
    lowered = first.lower()
    # No word is broken behind its first letter: e-mail, U-Bahn.
    if right[0].isdigit() or first[-1].isdigit() or len(first) == 1:
        return True
    # An upper-case letter begins the next part of a name, unless the whole word is in capitals.
    if right[0].isupper():
        return not (len(first) > 1 and first.isupper() and right.isupper())
    is_compound = "-" in left and lowered in _INNER
    is_number = lowered in _TENS and right.lower() in _ONES
    return is_compound or is_number or (lowered in _FIRST and not _ENDINGS.fullmatch(right.lower()))
