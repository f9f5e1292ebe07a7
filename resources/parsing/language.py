"""The language of a text, as ISO 639-1: by script where the script says it, else by lingua.

Only a sample is read: the first few hundred characters of prose, without markup and code. Nothing else about
documents is known here.
"""

from __future__ import annotations

import re
import threading
from functools import cache
from typing import TYPE_CHECKING

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

#: Function words of English that other languages lack, and some that they share. Where every seventh word is one of
#: them the text is English: right where lingua is weakest (sentences below 120 characters), and three times as fast.
_ENGLISH = re.compile(
    r"\b(?:the|and|this|that|with|from|you|your|are|which|what|how|these|only|using|cannot|we)\b"
)
_ENGLISH_SHARED = re.compile(r"\b(?:of|is|to|an|a|for|in|on|by|it|as|be|not|or|can|if|at)\b")
_ENGLISH_SHARE = 1 / 7
_ENGLISH_WORDS = frozenset(re.findall("[a-z]{2,}", _ENGLISH.pattern + _ENGLISH_SHARED.pattern))
_GLANCES = {"ja": _KANA, "zh": _HAN, "ko": _HANGUL}

#: A piece of a document has a language of its own from this many letters on (in bytes of UTF-8), and from this
#: confidence of the detector on.
OWN_LETTERS = 60
OWN_CONFIDENCE = 0.9

_lock = threading.Lock()


def detect_language(text: str) -> str | None:
    """ISO 639-1 code of the main language; None where there is too little prose to say."""
    sample = _prose(text)
    letters = "".join(_LETTERS.findall(sample))
    if not letters:
        return None
    if letters.isascii():
        return _latin(sample, len(letters))
    kana, han, hangul = (len(pattern.findall(letters)) for pattern in (_KANA, _HAN, _HANGUL))
    cjk = kana + han + hangul
    if cjk * _CJK_WEIGHT >= _SCRIPT_SHARE * (len(letters) - cjk + cjk * _CJK_WEIGHT):
        if hangul * 2 > cjk:
            return "ko"
        return "ja" if kana * 12 >= cjk else "zh"  # Chinese may quote a Japanese name
    for code, pattern in _ALONE.items():
        if len(pattern.findall(letters)) >= _SCRIPT_SHARE * len(letters):
            return code
    for pattern in _SHARED:
        words = pattern.findall(sample)
        if sum(map(len, words)) >= _SCRIPT_SHARE * len(letters):
            return _lingua(" ".join(words))
    return _latin(sample, len(letters))


def own_language(chunk: str, document: str | None) -> str | None:
    """The language of a piece of a document in the language `document`, where it surely is another one; else None.

    5–10 µs where the piece shows its document's language at the first look, else 0.2 ms.
    """
    if document is None or _shows(document, chunk[:600]):
        return None
    sample = _prose(chunk)
    letters = "".join(_LETTERS.findall(sample))
    if (
        len(letters.encode()) < OWN_LETTERS
    ):  # a letter beyond Latin stands for more text, and is longer
        return None
    found = detect_language(chunk)
    if found is None or found == document:
        return None
    if found == "en" or found in _GLANCES or found in _ALONE:
        return found if _shows(found, sample) else None
    sure = _detector().compute_language_confidence_values(sample)[0]
    return found if sure.value >= OWN_CONFIDENCE else None


def _shows(language: str, text: str) -> bool:
    """Whether a text is of a language at the first look: a tenth of its words, or of its characters."""
    if language == "en":
        words = text.lower().split()
        return sum(map(_ENGLISH_WORDS.__contains__, words)) * 10 >= len(words)
    if language == "zh" and len(_KANA.findall(text)) * 12 >= len(_HAN.findall(text)):
        return False
    pattern = _GLANCES.get(language) or _ALONE.get(language)
    return pattern is not None and len(pattern.findall(text)) * 10 >= len(text)


def _prose(text: str) -> str:
    prose = ""
    for searched in SEARCHED_CHARACTERS:
        prose = " ".join(_MARKUP.sub(" ", text[:searched]).split())
        if len(prose) >= SAMPLE_CHARACTERS or len(text) <= searched:
            break
    return prose[:SAMPLE_CHARACTERS]


def _latin(sample: str, letters: int) -> str | None:
    if letters < MIN_LETTERS:
        return None
    lowered = sample.lower()
    own, shared = len(_ENGLISH.findall(lowered)), len(_ENGLISH_SHARED.findall(lowered))
    if own and own + shared >= _ENGLISH_SHARE * len(_LETTERS.findall(lowered)):
        return "en"
    return _lingua(sample)


def _lingua(sample: str) -> str | None:
    language = _detector().detect_language_of(sample)
    return language.iso_code_639_1.name.lower() if language else None


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
