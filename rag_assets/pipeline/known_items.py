"""Questions to which a corpus itself has the answer: of a text, the sentence that tells it best from the others."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator

#: Characters of a question. Shorter ones say too little, longer ones no person types.
SHORTEST, LONGEST = 12, 160

_SENTENCE = re.compile(r"[^\n.!?。！？؟।]+(?:[.!?।](?!\s)[^\n.!?。！？؟।]+)*")
#: Scripts without spaces, whose words are taken for pairs of characters.
_SPACELESS = re.compile("[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff]+")
_WORD = re.compile(r"\w+")


def terms(text: str) -> set[str]:
    found: set[str] = set()
    for word in _WORD.findall(text.lower()):
        runs = _SPACELESS.findall(word)
        found |= {run[i : i + 2] for run in runs for i in range(max(1, len(run) - 1))}
        found |= {part for part in _SPACELESS.split(word) if part}
    return found


def frequencies(texts: Iterable[str]) -> Counter[str]:
    """term -> how many of the texts have it."""
    return Counter(term for text in texts for term in terms(text))


def known_item_query(text: str, known: Counter[str], texts: int) -> str | None:
    """The sentence of a text with the rarest words (the highest mean idf); None where there is none to ask with.

    `known`: frequencies in a number of `texts`, of which this one may be.
    """

    def rarity(sentence: str) -> float:
        words = terms(sentence)
        return sum(math.log((texts + 1) / (known[word] + 0.5)) for word in words) / len(words)

    return max(_sentences(text), key=rarity, default=None)


def _sentences(text: str) -> Iterator[str]:
    for match in _SENTENCE.finditer(text):
        sentence = match[0].strip(" \t#>*-|`_")
        if len(sentence) > LONGEST:
            cut = sentence[:LONGEST]
            sentence = cut.rsplit(" ", 1)[0] if " " in cut else cut
        if len(sentence) >= SHORTEST and len(terms(sentence)) >= 3:
            yield sentence
