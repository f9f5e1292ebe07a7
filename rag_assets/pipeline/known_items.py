"""Known-item questions from a corpus: for a text, the sentence that distinguishes it best from the other texts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator

#: Characters of a question. A shorter one is too vague; nobody types a longer one.
SHORTEST, LONGEST = 12, 160

_SENTENCE = re.compile(r"[^\n.!?。！？؟।]+(?:[.!?।](?!\s)[^\n.!?。！？؟।]+)*")
#: Scripts without spaces: pairs of characters serve as words.
_SPACELESS = re.compile("[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff]+")
_WORD = re.compile(r"\w+")


def terms(text: str) -> set[str]:
    """Return the words of a text in lower case."""
    words: set[str] = set()
    for word in _WORD.findall(text.lower()):
        runs = _SPACELESS.findall(word)
        words |= {run[i : i + 2] for run in runs for i in range(max(1, len(run) - 1))}
        words |= {part for part in _SPACELESS.split(word) if part}
    return words


def frequencies(texts: Iterable[str]) -> Counter[str]:
    """Return term -> number of texts that contain it."""
    return Counter(term for text in texts for term in terms(text))


def known_item_query(text: str, counts: Counter[str], texts: int) -> str | None:
    """Return the sentence of a text with the rarest words (the highest mean idf); None if no sentence qualifies.

    `counts`: frequencies in a number of `texts`, which may include this one.
    """

    def rarity(sentence: str) -> float:
        words = terms(sentence)
        return sum(math.log((texts + 1) / (counts[word] + 0.5)) for word in words) / len(words)

    return max(_sentences(text), key=rarity, default=None)


def _sentences(text: str) -> Iterator[str]:
    for match in _SENTENCE.finditer(text):
        sentence = match[0].strip(" \t#>*-|`_")
        if len(sentence) > LONGEST:
            cut = sentence[:LONGEST]
            sentence = cut.rsplit(" ", 1)[0] if " " in cut else cut
        if len(sentence) >= SHORTEST and len(terms(sentence)) >= 3:
            yield sentence
