"""Texts of made-up words in five languages, and copies of them with a share of their words changed."""

from __future__ import annotations

import random
import re

_LETTERS = {
    "en": "etaoinshrdlucmfwypvbgk",
    "ja": "のにはをたがでてとしれさあいうえおかきくけこ日本人年大出学会国生時間開館天文台行事業者",
    "zh": "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生",
    "ko": "가나다라마바사아자차카타파하고노도로모보소오조초코토포호기니디리미비시이지",
    "fa": "ابپتثجچحخدذرزسشصضطظعغفقکگلمنوهی",
}
#: Characters of a word. Japanese and Chinese words have no spaces between them.
_LENGTHS = {"en": (2, 9), "ja": (2, 3), "zh": (2, 2), "ko": (2, 5), "fa": (2, 7)}


def text(language: str, seed: str, words: int = 300) -> str:
    """Return the same text for the same seed. The words come from a vocabulary of 3000, a few of them frequent."""
    vocabulary = _vocabulary(language)
    rng = random.Random(f"{language} {seed}")
    drawn = [vocabulary[min(int(rng.paretovariate(0.6)) - 1, 2999)] for _ in range(words)]
    return _gap(language).join(drawn)


def edited(original: str, share: float, rng: random.Random) -> str:
    """Return a copy in which a share of the words are replaced by other words of the text."""
    words = re.findall(r"[぀-ヿ一-鿿]{1,2}|[^\s぀-ヿ一-鿿]+|\s+", original)
    others = [word for word in words if not word.isspace()]
    return "".join(
        rng.choice(others) if not word.isspace() and rng.random() < share else word
        for word in words
    )


def _gap(language: str) -> str:
    return "" if language in ("ja", "zh") else " "


def _vocabulary(language: str) -> list[str]:
    rng = random.Random(language)
    least, most = _LENGTHS[language]
    return [
        "".join(rng.choices(_LETTERS[language], k=rng.randint(least, most))) for _ in range(3000)
    ]
