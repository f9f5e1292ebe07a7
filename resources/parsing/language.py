"""The language of a text, as ISO 639-1: by script or function words if they show it, else by lingua.

Reads only a sample: the first few hundred characters of prose, without markup and code.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING

from resources.parsing.function_words import FUNCTION_WORDS
from resources.parsing.han import language_of_han

if TYPE_CHECKING:
    from lingua import LanguageDetector

#: Characters of prose in a sample, and of text searched for them; the second number is for menus or code at the start.
SAMPLE_CHARACTERS = 400
SEARCHED_CHARACTERS = (3_000, 60_000)
#: With fewer letters of an alphabet that several languages share, detection would be a guess.
MIN_LETTERS = 24
#: With fewer letters, a text must contain a function word of its language, or be as certain as SURE_CONFIDENCE.
SURE_LETTERS = 120
SURE_CONFIDENCE = 0.97

#: Languages of shared alphabets that lingua distinguishes, with low-accuracy models: 35 MB, 0.3 s to load, 1–1.5 ms a
#: sample (used for 66 of 2,497 pages of milvus-docs: English and whole scripts are decided before). All 75 languages
#: take 85 MB. High accuracy takes 1.2 GB and 9 s to load, and differs only below 120 characters.
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
    r"|\[[^\[\]\n]*\]\([^)\n\[]*\)"  # links with their text, because menus are lists of names
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
#: Scripts that belong to one language each.
_SINGLE_LANGUAGE = {
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
#: Scripts that several languages share: lingua decides, from the words in this script.
_SHARED_SCRIPTS = (
    re.compile("[\u0600-\u06ff\u0750-\u077f\u200c]+"),
    re.compile("[\u0400-\u052f]+"),
    re.compile("[\u0900-\u097f]+"),
)
#: Documents in other scripts quote commands, names and code in Latin letters; the reverse is rare. So a script counts
#: as the document's script from this share of its letters.
_SCRIPT_SHARE = 0.2
#: Number of Latin letters that correspond to one Chinese character or Korean syllable.
_CJK_WEIGHT = 2.5

#: From this many Chinese characters on, Japanese has kana between them.
_MIN_HAN_WITHOUT_KANA = 60
#: Korean may write one of so many words in Chinese characters.
_HANGUL_SHARE = 4

#: A text shows its language if this share of its words are function words of that language, they are this share of all
#: function words in it, and no other language has them all. Of 3,136 chunks in 38 languages, 89 % show their language,
#: and 11 chunks show another one, mostly a related one (4 of 147 Danish chunks look Norwegian too).
_WORD_SHARE = 1 / 10
_WORD_PURITY = 0.85
#: Function word -> its languages.
_LANGUAGES_OF = {
    word: frozenset(code for code, listed in FUNCTION_WORDS.items() if word in listed)
    for word in frozenset[str]().union(*FUNCTION_WORDS.values())
}
#: A document is English without lingua if every seventh word is an English function word: correct where lingua is
#: weakest (sentences below 120 characters), and three times as fast.
_ENGLISH_SHARE = 1 / 7
#: Languages that the script shows.
_SCRIPTS = {"ja": _KANA, "zh": _HAN, "ko": _HANGUL} | _SINGLE_LANGUAGE

#: Sample lengths for lingua. The end of a chunk comes first: it mostly confirms the document's language, in a third of
#: the time. The start may be a heading.
_LENGTHS = (140, SAMPLE_CHARACTERS)

#: Minimum letters (bytes in UTF-8) and minimum confidence for a chunk's language to differ from its document's.
OWN_LETTERS = 60
OWN_CONFIDENCE = 0.9
#: Minimum share of function words for lingua. Prose of each language in LANGUAGES has more; chunks with fewer are
#: names, code, tables or invented words, for which lingua returns varying guesses.
OWN_PROSE = 0.03

_lock = threading.Lock()


def detect_language(text: str) -> str | None:
    """Return the ISO 639-1 code of the main language, or None if there is too little prose to be sure."""
    sample = _prose(text)
    language, confidence = _identify(sample)
    if language not in FUNCTION_WORDS or confidence == 1:
        return language
    if sum(map(len, _LETTERS.findall(sample))) >= SURE_LETTERS:
        return language
    # Names and headings look like any language: a short text must show its own.
    is_shown = not FUNCTION_WORDS[language].isdisjoint(sample.lower().split())
    return language if is_shown or confidence >= SURE_CONFIDENCE else None


def own_language(chunk: str, document_language: str | None) -> str | None:
    """Return the language of a chunk if it certainly differs from its document's language, else None.

    Takes 10–15 µs if the first check shows the document's language, else lingua's 0.3 ms for a short sample or 1–1.5
    ms for a long one. Manual pages and articles, µs a chunk without and with the first check: German 1158, 44; French
    1090, 53; Spanish 1132, 60; Portuguese 1441, 33; Italian 1133, 55; Swedish 1507, 29; Danish 1708, 120; Polish 1197,
    60; Russian 570, 122; Arabic 369, 45; Persian 397, 22; English 17, 25; invented words 1790, 175. In pages of 14
    language pairs, 537 of 573 foreign chunks are detected and 6 are wrong; without the first check, 542 and 13.
    """
    if document_language is None or _shows(document_language, chunk[:600]):
        return None
    sample = _prose(chunk)
    letters = "".join(_LETTERS.findall(sample))
    # Count bytes: a letter beyond Latin carries more text and has more bytes.
    if len(letters.encode()) < OWN_LETTERS or _shows(document_language, sample):
        return None
    words = sample.lower().split()
    is_prose = _share(_LANGUAGES_OF.keys(), words) >= OWN_PROSE
    language, confidence = None, 0.0
    for length in _LENGTHS if len(sample) > 2 * _LENGTHS[0] else _LENGTHS[1:]:
        language, confidence = _identify(sample[-length:], use_lingua=is_prose)
        if language == document_language and confidence >= OWN_CONFIDENCE:
            return None
    if language == document_language or confidence < OWN_CONFIDENCE:
        return None
    # Lingua takes lists of names and code for English.
    if language == "en" and _share(FUNCTION_WORDS["en"], words) < _WORD_SHARE:
        return None
    return language if language not in _SCRIPTS or _shows(language, sample) else None


def _shows(language: str, text: str) -> bool:
    """Return whether a tenth of the words are function words of a language, or a tenth of the characters its script."""
    if language in FUNCTION_WORDS:
        return _has_function_words(language, text.lower().split(), _WORD_SHARE)
    if language == "zh" and len(_KANA.findall(text)) * 12 >= len(_HAN.findall(text)):
        return False
    pattern = _SCRIPTS.get(language)
    return pattern is not None and len(pattern.findall(text)) * 10 >= len(text)


def _has_function_words(language: str, words: list[str], min_share: float) -> bool:
    function_words = [word for word in words if word in _LANGUAGES_OF]
    own = FUNCTION_WORDS[language]
    count = sum(map(own.__contains__, function_words))
    total = max(len(words), 1)
    if count / total < max(min_share, _WORD_PURITY * (len(function_words) / total)):
        return False
    present = own.intersection(function_words)
    return len(frozenset.intersection(*map(_LANGUAGES_OF.__getitem__, present))) == 1


def _share(listed: Collection[str], words: list[str]) -> float:
    return sum(map(listed.__contains__, words)) / max(len(words), 1)


def _identify(sample: str, *, use_lingua: bool = True) -> tuple[str | None, float]:
    """Return the main language of a prose sample and its confidence, which is 1 for script and function words.

    Without `use_lingua`, returns None if neither of these two decides.
    """
    letters = "".join(_LETTERS.findall(sample))
    if not letters.isascii():
        kana, han, hangul = (len(pattern.findall(letters)) for pattern in (_KANA, _HAN, _HANGUL))
        cjk = kana + han + hangul
        if cjk * _CJK_WEIGHT >= _SCRIPT_SHARE * (len(letters) - cjk + cjk * _CJK_WEIGHT):
            return _east_asian(letters, kana, han, hangul)
        for code, pattern in _SINGLE_LANGUAGE.items():
            if len(pattern.findall(letters)) >= _SCRIPT_SHARE * len(letters):
                return code, 1.0
        for pattern in _SHARED_SCRIPTS:
            words = pattern.findall(sample)
            if sum(map(len, words)) >= _SCRIPT_SHARE * len(letters):
                return _lingua(" ".join(words)) if use_lingua else (None, 0.0)
    if len(letters) < MIN_LETTERS:
        return None, 0.0
    if _has_function_words("en", _LETTERS.findall(sample.lower()), _ENGLISH_SHARE):
        return "en", 1.0
    return _lingua(sample) if use_lingua else (None, 0.0)


def _east_asian(letters: str, kana: int, han: int, hangul: int) -> tuple[str | None, float]:
    cjk = kana + han + hangul
    if hangul * 2 > cjk or (hangul and not kana and hangul * _HANGUL_SHARE >= cjk):
        return "ko", 1.0
    # Chinese may quote a Japanese name.
    if kana * 12 >= cjk:
        return "ja", 1.0
    language = language_of_han("".join(_HAN.findall(letters)))
    # Without kana, a long text is not Japanese.
    if language is None and han >= _MIN_HAN_WITHOUT_KANA and not kana:
        return "zh", 1.0
    return language, 1.0 if language else 0.0


def _prose(text: str) -> str:
    prose = ""
    for length in SEARCHED_CHARACTERS:
        prose = " ".join(_MARKUP.sub(" ", text[:length]).split())
        if len(prose) >= SAMPLE_CHARACTERS or len(text) <= length:
            break
    return prose[:SAMPLE_CHARACTERS]


def _lingua(sample: str) -> tuple[str | None, float]:
    best, second, *_ = _detector().compute_language_confidence_values(sample)
    # A tie also results from letters that lingua does not support.
    if best.value == second.value:
        return None, 0.0
    return best.language.iso_code_639_1.name.lower(), best.value


def _detector() -> LanguageDetector:
    # Without the lock, threads that start together would each load the models.
    with _lock:
        return _build_detector()


@cache
def _build_detector() -> LanguageDetector:
    # Import cost: 26 ms, plus 0.2 s for the models at the first text.
    from lingua import Language, LanguageDetectorBuilder

    builder = LanguageDetectorBuilder.from_languages(
        *(getattr(Language, name) for name in LANGUAGES.split())
    )
    return builder.with_low_accuracy_mode().build()
