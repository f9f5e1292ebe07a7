"""The share of a file's text that its parsed text lacks, measured against the words of the file's own text nodes.

`source_text` reads the text nodes: a second, much simpler reader, so that a fault of one reader shows as a difference.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

#: A document that lacks more than this share of its source's letters is reported.
LOSS_THRESHOLD = 0.05
#: Sources with fewer letters are not measured: one word would be a large share.
_MIN_LETTERS = 40
#: Characters that the search for glued words may compare; above it, glued words count as missing.
_MAX_COMPARED = 200_000_000

_WORD = re.compile(r"[^\W_]+")
#: Scripts without blanks: a "word" there is a sentence, so its letters are compared in pairs.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
)
#: Marks of Markdown that may stand inside a word, and invisible characters.
_INSIDE_WORDS = re.compile(r"\*+|~~|\\(?=[^\w\s])|</?\w{1,4}>|[\u00ad\u200b-\u200f\u2060\ufeff]")


class Loss(NamedTuple):
    """`share` of the source's letters (0 to 1), the missing words, and the words that stand only inside longer ones."""

    share: float
    missing: Counter[str]
    glued: Counter[str]


def measure_loss(source: str, text: str) -> Loss:
    """Compare the words of a source with those of its parsed text. Order does not count, repetitions do."""
    expected, present = _words(source), _words(text)
    letters = sum(len(word) * count for word, count in expected.items())
    missing = expected - present
    glued: Counter[str] = Counter()
    extra = " ".join((present - expected).keys())
    if extra and len(extra) * len(missing) <= _MAX_COMPARED:
        glued = Counter({word: count for word, count in missing.items() if word in extra})
        missing -= glued
    lost = sum(len(word) * count for word, count in missing.items())
    return Loss(lost / letters if letters >= _MIN_LETTERS else 0.0, missing, glued)


def _words(text: str) -> Counter[str]:
    words: Counter[str] = Counter()
    for word in _WORD.findall(_INSIDE_WORDS.sub("", text).casefold()):
        if _UNSPACED.search(word):
            words.update(word[i : i + 2] for i in range(max(1, len(word) - 1)))
        else:
            words[word] += 1
    return words
