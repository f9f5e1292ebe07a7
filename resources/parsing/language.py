"""The language of a text, as ISO 639-1: by script or function words where they say it, else by lingua.

Only a sample is read: the first few hundred characters of prose, without markup and code. Nothing else about
documents is known here.
"""

from __future__ import annotations

import re
import threading
from functools import cache
from typing import TYPE_CHECKING

from resources.parsing.function_words import FUNCTION_WORDS

if TYPE_CHECKING:
    from lingua import LanguageDetector

#: Characters of prose given to the detector, and of text searched for them: more where menus or code come first.
SAMPLE_CHARACTERS = 400
SEARCHED_CHARACTERS = (3_000, 60_000)
#: Below this many letters of an alphabet that several languages share, the answer would be a guess.
MIN_LETTERS = 24

#: Languages of shared alphabets that are told apart, by models of low accuracy: 35 MB, 0.3 s to load, 1–1.5 ms a sample
#: (asked for 66 of 2,497 pages of milvus-docs: English and whole scripts are decided before). All 75 languages: 85 MB.
#: High accuracy takes 1.2 GB and 9 s to load and differs below 120 characters only.
LANGUAGES = (
    "ALBANIAN ARABIC BELARUSIAN BOKMAL BULGARIAN CATALAN CROATIAN CZECH DANISH DUTCH ENGLISH "
    "ESTONIAN FINNISH FRENCH GERMAN HINDI HUNGARIAN INDONESIAN ITALIAN KAZAKH LATVIAN "
    "LITHUANIAN MACEDONIAN MARATHI PERSIAN POLISH PORTUGUESE ROMANIAN RUSSIAN SERBIAN SLOVAK "
    "SLOVENE SPANISH SWEDISH TURKISH UKRAINIAN URDU VIETNAMESE"
)

_MARKUP = re.compile(
    r"\A---\n.*?\n---\n"  # front matter
    r"|^(```|~~~).*?(?:^\1|\Z)"  # fenced code
    r"|`[^`\n]*`"
    r"|<!--.{0,2000}?-->|<(?:script|style|pre|code)\b.{0,2000}?</|<[^<>\n]{1,300}>"
    r"|\[[^\[\]\n]*\]\([^)\n\[]*\)"  # links with their text: menus are lists of names
    r"|\{[{%].{0,200}?[}%]\}|\{[#:.][^}\n]*\}"
    r"|[-*+>#|=]+(?=\s)"  # bullets, headings, quotes, table rules
    # Addresses, paths, identifiers, options. ASCII only: Chinese and Japanese put no spaces around them.
    r"|(?<![!-~])[!-~]*[/_\\=@][!-~]*",
    re.DOTALL | re.MULTILINE,
)
_LETTERS = re.compile(r"[^\W\d_]+")
_KANA = re.compile("[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9d]")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_HANGUL = re.compile("[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]")
#: Scripts of one language each.
_ALONE = {
    "el": re.compile("[\u0370-\u03ff\u1f00-\u1fff]"),
    "he": re.compile("[\u0590-\u05ff]"),
    "th": re.compile("[\u0e00-\u0e7f]"),
    "ka": re.compile("[\u10a0-\u10ff]"),
    "hy": re.compile("[\u0530-\u058f]"),
    "bn": re.compile("[\u0980-\u09ff]"),
    "pa": re.compile("[\u0a00-\u0a7f]"),
    "gu": re.compile("[\u0a80-\u0aff]"),
    "ta": re.compile("[\u0b80-\u0bff]"),
    "te": re.compile("[\u0c00-\u0c7f]"),
}
#: Scripts that several languages share: lingua decides, on the words in this script alone.
_SHARED = (
    re.compile("[\u0600-\u06ff\u0750-\u077f\u200c]+"),
    re.compile("[\u0400-\u052f]+"),
    re.compile("[\u0900-\u097f]+"),
)
#: A document in another script quotes commands, names and code in Latin letters, hardly ever the reverse: a script
#: is the document's from this share of its letters on.
_SCRIPT_SHARE = 0.2
#: A Chinese character or Korean syllable stands for about as much text as this many Latin letters.
_CJK_WEIGHT = 2.5

#: A text shows its language where this share of its words are function words of it, where they are this share of all
#: function words in it, and where no other language has them all. Of 3,136 pieces in 38 languages 89 % show theirs, and
#: 11 another one, mostly a neighbour's (4 of 147 Danish ones look Norwegian too).
_WORD_SHARE = 1 / 10
_WORD_PURITY = 0.85
_ANY_LANGUAGE = frozenset[str]().union(*FUNCTION_WORDS.values())
#: A document is English without asking lingua where every seventh word says so: right where lingua is weakest
#: (sentences below 120 characters), and three times as fast.
_ENGLISH_SHARE = 1 / 7
#: Languages that their script shows.
_SCRIPTS = {"ja": _KANA, "zh": _HAN, "ko": _HANGUL} | _ALONE

#: Of a piece that does not show its document's language, lingua is asked for the last so many characters first: mostly
#: they say that it is of that language, in a third of the time. The first ones may be a heading.
_LENGTHS = (140, SAMPLE_CHARACTERS)

#: A piece of a document has a language of its own from this many letters on (in bytes of UTF-8), and from this
#: confidence of the detector on.
OWN_LETTERS = 60
OWN_CONFIDENCE = 0.9
#: Prose of every language that lingua tells apart here has at least this share of function words. A piece that has
#: fewer is names, code, a table or made-up words; of such lingua guesses, differently for each, and is not asked.
OWN_PROSE = 0.03

_lock = threading.Lock()


def detect_language(text: str) -> str | None:
    """ISO 639-1 code of the main language; None where there is too little prose to say."""
    return _identify(_prose(text))[0]


def own_language(chunk: str, document: str | None) -> str | None:
    """The language of a piece of a document in the language `document`, where it surely is another one; else None.

    10–15 µs where the piece shows its document's language at the first look, and lingua's 0.3 ms for a short sample or
    1–1.5 ms for a long one where it does not. Manual pages and articles, µs a piece without and with the first look:
    German 1158, 44; French 1090, 53; Spanish 1132, 60; Portuguese 1441, 33; Italian 1133, 55; Swedish 1507, 29; Danish
    1708, 120; Polish 1197, 60; Russian 570, 122; Arabic 369, 45; Persian 397, 22; English 17, 25; made-up words 1790,
    175. In pages of 14 pairs of languages 537 of 573 foreign pieces are found and 6 wrong, without it 542 and 13.
    """
    if document is None or _shows(document, chunk[:600]):
        return None
    sample = _prose(chunk)
    letters = "".join(_LETTERS.findall(sample))
    # A letter beyond Latin stands for more text, and is longer.
    if len(letters.encode()) < OWN_LETTERS or _shows(document, sample):
        return None
    words = sample.lower().split()
    ask = _share(_ANY_LANGUAGE, words) >= OWN_PROSE
    found, confidence = None, 0.0
    for length in _LENGTHS if len(sample) > 2 * _LENGTHS[0] else _LENGTHS[1:]:
        found, confidence = _identify(sample[-length:], ask)
        if found == document and confidence >= OWN_CONFIDENCE:
            return None
    if found == document or confidence < OWN_CONFIDENCE:
        return None
    if found == "en" and _share(FUNCTION_WORDS["en"], words) < _WORD_SHARE:
        return None  # lists of names and code are English to lingua
    return found if found not in _SCRIPTS or _shows(found, sample) else None


def _shows(language: str, text: str) -> bool:
    """Whether a text is of a language at the first look: a tenth of its words, or of its characters."""
    if language in FUNCTION_WORDS:
        return _speaks(language, text.lower().split(), _WORD_SHARE)
    if language == "zh" and len(_KANA.findall(text)) * 12 >= len(_HAN.findall(text)):
        return False
    pattern = _SCRIPTS.get(language)
    return pattern is not None and len(pattern.findall(text)) * 10 >= len(text)


def _speaks(language: str, words: list[str], share: float) -> bool:
    own = FUNCTION_WORDS[language]
    needed = max(share, _WORD_PURITY * _share(_ANY_LANGUAGE, words))
    if _share(own, words) < needed:
        return False
    found = own.intersection(words)
    return not any(found <= others for others in FUNCTION_WORDS.values() if others is not own)


def _share(listed: frozenset[str], words: list[str]) -> float:
    return sum(map(listed.__contains__, words)) / max(len(words), 1)


def _identify(sample: str, ask: bool = True) -> tuple[str | None, float]:
    """The main language of a sample of prose, and the confidence in it: 1 where letters or function words say it.

    Without `ask` nothing where only lingua could say it.
    """
    letters = "".join(_LETTERS.findall(sample))
    if not letters.isascii():
        kana, han, hangul = (len(pattern.findall(letters)) for pattern in (_KANA, _HAN, _HANGUL))
        cjk = kana + han + hangul
        if cjk * _CJK_WEIGHT >= _SCRIPT_SHARE * (len(letters) - cjk + cjk * _CJK_WEIGHT):
            if hangul * 2 > cjk:
                return "ko", 1.0
            return "ja" if kana * 12 >= cjk else "zh", 1.0  # Chinese may quote a Japanese name
        for code, pattern in _ALONE.items():
            if len(pattern.findall(letters)) >= _SCRIPT_SHARE * len(letters):
                return code, 1.0
        for pattern in _SHARED:
            words = pattern.findall(sample)
            if sum(map(len, words)) >= _SCRIPT_SHARE * len(letters):
                return _lingua(" ".join(words)) if ask else (None, 0.0)
    if len(letters) < MIN_LETTERS:
        return None, 0.0
    if _speaks("en", _LETTERS.findall(sample.lower()), _ENGLISH_SHARE):
        return "en", 1.0
    return _lingua(sample) if ask else (None, 0.0)


def _prose(text: str) -> str:
    prose = ""
    for searched in SEARCHED_CHARACTERS:
        prose = " ".join(_MARKUP.sub(" ", text[:searched]).split())
        if len(prose) >= SAMPLE_CHARACTERS or len(text) <= searched:
            break
    return prose[:SAMPLE_CHARACTERS]


def _lingua(sample: str) -> tuple[str | None, float]:
    best, second, *_ = _detector().compute_language_confidence_values(sample)
    if best.value == second.value:  # a tie, or no letters that it knows
        return None, 0.0
    return best.language.iso_code_639_1.name.lower(), best.value


def _detector() -> LanguageDetector:
    with _lock:  # threads that start together would each load the models
        return _built()


@cache
def _built() -> LanguageDetector:
    from lingua import (  # 26 ms, and 0.2 s for the models at the first text
        Language,
        LanguageDetectorBuilder,
    )

    builder = LanguageDetectorBuilder.from_languages(
        *(getattr(Language, name) for name in LANGUAGES.split())
    )
    return builder.with_low_accuracy_mode().build()
