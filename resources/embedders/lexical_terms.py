"""The lexical embedder's analysis: the tokens of a text, and the terms and n-grams of a token.

No hashing and no vectors; `lexical_folding` has the spellings of a letter. The rules use script and form only, no word
lists, so they apply to any language. Changes here change vectors: increase `VERSION` in `lexical.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import add

from resources.embedders.lexical_folding import fold

#: Maximum weight of a term. Weights depend on form only: frequent words are short (Zipf). Tuned on English (XQuAD) and
#: Japanese (JSQuAD); nDCG@10 within .01 of BM25 with document frequencies on these, Chinese and Persian.
FULL = 16
#: By length; the last one applies to all longer words.
WORD_WEIGHTS = (1, 1, 3, 5, 8, 10, 11, 12, 13)
#: By number of digits.
NUMBER_WEIGHTS = (6, 12, 16)
#: By the number of hiragana, the script of particles and endings; so are CHARACTER_WEIGHTS.
PAIR_WEIGHTS = (16, 10, 2)
CHARACTER_WEIGHTS = (2, 1)
#: Of a word, and of the pairs inside it: a Korean word includes its particles.
HANGUL_WEIGHTS = (8, 4)
#: Weight of a word or number in a query whose tokens are mostly not words: in Chinese or Japanese it is a name or a
#: quantity, even if short, and counts like two pairs when rarity applies (the root is taken). Chosen on Japanese:
#: nDCG@10 of the sparse vectors .951 -> .955 on articles, .934 -> .939 on passages; then on Chinese .977 -> .981 and
#: .967 -> .972.
AMID_CHARACTERS = 64
#: Lengths of the n-grams of "<word>".
NGRAMS = (3, 4, 5)
#: Characters of a word with n-grams; longer words are base64.
NGRAM_CHARACTERS = 40

#: Every number above, for the embedder's identity.
PARAMETERS = {
    "full": FULL,
    "word_weights": WORD_WEIGHTS,
    "number_weights": NUMBER_WEIGHTS,
    "pair_weights": PAIR_WEIGHTS,
    "character_weights": CHARACTER_WEIGHTS,
    "hangul_weights": HANGUL_WEIGHTS,
    "amid_characters": AMID_CHARACTERS,
    "ngrams": NGRAMS,
    "ngram_characters": NGRAM_CHARACTERS,
}

_KANA = "\u3041-\u30ff\u31f0-\u31ff"
_CJK = f"\u3005-\u3007{_KANA}\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Thai, Lao, Burmese, Khmer.
_SOUTH_EAST_ASIAN = "\u0e01-\u0e3a\u0e40-\u0eff\u1000-\u1049\u1050-\u109f\u1780-\u17d3"
_HANGUL = "\uac00-\ud7a3"
_SPACELESS = re.compile(f"[{_CJK}{_SOUTH_EAST_ASIAN}]")
# Hangul is separated too: a particle follows a Latin word without a space.
#: Texts that sort before it begin with a word.
_FIRST_APART = "\u0e01"
_APART = re.compile(f"[{_CJK}{_SOUTH_EAST_ASIAN}{_HANGUL}]")
_RUNS = re.compile(
    f"[{_CJK}]+|[{_SOUTH_EAST_ASIAN}]+|[{_HANGUL}]+|[^{_CJK}{_SOUTH_EAST_ASIAN}{_HANGUL}]+"
)
_ASCII_WORDS = re.compile("[a-z0-9]+")
# \w lacks combining marks, so it would split words of Hindi and related languages.
_WORDS = re.compile(
    rf"[\w\u0300-\u036f\u0483-\u0487\u0711-\u0963\u0966-\u0dff\u0f35-\u0fbc{_SOUTH_EAST_ASIAN}]+"
)
_ARABIC = re.compile("[\u0600-\u06ff]")
# al-, wal-, bil-, kal-, fal-, lil- are attached to the noun. R@1 on Arabic .80 -> .85.
_ARABIC_ARTICLE = re.compile("^(?:[\u0648\u0628\u06a9\u0641]?\u0627\u0644|\u0644\u0644)(?=..)")
# For indexes, classes, searches, but not caches.
_ES = ("xes", "sses", "zzes", "shes", "tches", "rches", "nches")


def tokenize(text: str) -> list[str]:
    """Return the tokens in order: words, and in scripts without spaces each character with its successor.

    A text with only symbols returns its symbols; one with only white space returns nothing.
    """
    if text.isascii():
        tokens = _ASCII_WORDS.findall(text.lower())
    else:
        folded = fold(text).replace("_", " ")
        words = _WORDS.findall(folded)
        tokens = _divide(words) if _APART.search(folded) else words
    return tokens or [character for character in text if not character.isspace()]


def _divide(words: Sequence[str]) -> list[str]:
    """Return the words by script: a character with its successor, where words have no spaces between them."""
    tokens: list[str] = []
    for word in words:
        if word.isascii() or not _APART.search(word):
            tokens.append(word)
            continue
        for run in _RUNS.findall(word):
            if _SPACELESS.match(run):
                tokens += map(add, run, run[1:])
                tokens.append(run[-1])
            else:
                tokens.append(run)
    return tokens


def _stem(word: str) -> str:
    """Remove plural endings in Latin letters (Harman's S stemmer and `_ES`) and the article in Arabic letters."""
    if word.endswith("s") and len(word) > 3 and word.isascii():
        if word.endswith("ies") and word[-4] not in "ae":
            return word[:-3] + "y"
        if word.endswith(_ES):
            return word[:-2]
        if word.endswith("es") and word[-3] not in "aeo":
            return word[:-1]
        return word if word[-2] in "us" else word[:-1]
    return _ARABIC_ARTICLE.sub("", word) if _ARABIC.match(word) else word


def _weight(weights: Sequence[int], position: int) -> int:
    return weights[min(position, len(weights) - 1)]


def is_word(token: str) -> bool:
    """Return whether a token has n-grams. Scripts without spaces and Hangul have pairs of characters instead."""
    return token < _FIRST_APART or not _APART.match(token)


def letters(token: str) -> int:
    """Return the letters that a token adds to the length of its text: one if each character is a token."""
    is_spaceless = token >= _FIRST_APART and _SPACELESS.match(token)
    return 1 if is_spaceless else min(len(token), NGRAM_CHARACTERS)


def analyze(token: str) -> tuple[list[tuple[str, int]], list[str]]:
    """Return the terms of a token with their weights, the token's own term first, and its n-grams."""
    if not is_word(token) and _SPACELESS.match(token):
        hiragana = ["\u3041" <= character <= "\u309f" for character in token]
        character = (token[0], CHARACTER_WEIGHTS[hiragana[0]])
        pair = [(token, PAIR_WEIGHTS[sum(hiragana)])] if len(token) == 2 else []
        return [*pair, character], []
    if not is_word(token):
        if len(token) == 1:
            return [(token, CHARACTER_WEIGHTS[0])], []
        pairs = [(f"~{token[i : i + 2]}", HANGUL_WEIGHTS[1]) for i in range(len(token) - 1)]
        return [(token, HANGUL_WEIGHTS[0]), *pairs[:NGRAM_CHARACTERS]], []
    weights = NUMBER_WEIGHTS if token.isdecimal() else WORD_WEIGHTS
    padded = f"<{token[:NGRAM_CHARACTERS]}>"
    ngrams = [f"#{padded[i : i + n]}" for n in NGRAMS for i in range(len(padded) - n + 1)]
    return [(_stem(token), _weight(weights, len(token) - 1))], ngrams
