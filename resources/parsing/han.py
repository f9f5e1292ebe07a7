"""Chinese or Japanese: the forms of the characters that a text without kana consists of.

A character that only one of three national standards has, among its frequent ones, shows the language: 図 is Japanese,
图 simplified and 圖 traditional Chinese. Most characters are in all of them and show nothing.
"""

from __future__ import annotations

from functools import cache

#: Minimum number of characters that one language has more than the others.
_MIN_MARGIN = 1
#: The margin is at least this share of the characters: a text may quote a name of another language.
_MIN_SHARE = 0.04


def language_of_han(characters: str) -> str | None:
    """Return "ja" or "zh", or None if the characters are common to both."""
    japanese, simplified, traditional = _standards()
    foreign = {
        "ja": _count_foreign(characters, japanese),
        "simplified": _count_foreign(characters, simplified),
        "traditional": _count_foreign(characters, traditional),
    }
    chinese = min(foreign["simplified"], foreign["traditional"])
    margin = max(_MIN_MARGIN, _MIN_SHARE * len(characters))
    if chinese - foreign["ja"] >= margin:
        return "ja"
    return "zh" if foreign["ja"] - chinese >= margin else None


def _count_foreign(characters: str, standard: frozenset[str]) -> int:
    return sum(character not in standard for character in characters)


@cache
def _standards() -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return the frequent characters of Japanese, simplified and traditional Chinese: each standard's first level.

    GB 2312's second level too: it has frequent characters, and few that only Japanese writes.
    """
    return (
        _level("euc_jp", range(0xB0, 0xD0)) | frozenset("々〆〇"),
        _level("gb2312", range(0xB0, 0xF8)),
        _level("big5", range(0xA4, 0xC7)),
    )


def _level(codec: str, leads: range) -> frozenset[str]:
    pairs = (bytes((lead, trail)) for lead in leads for trail in range(0x40, 0xFF))
    return frozenset(pair.decode(codec, "ignore")[-1:] for pair in pairs) - {""}
