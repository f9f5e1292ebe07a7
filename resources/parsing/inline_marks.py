"""Marks inside words, in HTML and in Markdown: removed, since a word that they cut is not found.

Readings above characters (ruby) are left out; subscripts and exponents are joined to their base; an element that begins
or ends inside a word is unwrapped. Marks around whole words stay, and so does code.
"""

from __future__ import annotations

import re

_RUBY = re.compile(r"<(/?)(ruby|rb|rt|rp|rtc)\b[^<>]*>", re.IGNORECASE)
_RAISED = re.compile(r"<(su[bp])\b[^<>]*+>\s*+([^<>\s]{1,12}+)\s*+</\1\s*>", re.IGNORECASE)
_INLINE = re.compile(
    r"<(b|i|u|em|strong|small|big|mark|font|ins)\b[^<>]*+>([^<>]{1,200}+)</\1\s*>", re.IGNORECASE
)
_BREAK_HINT = re.compile(r"<wbr\b[^<>]*>|&(?:shy|#173|#xad);", re.IGNORECASE)
#: The letters or digits directly before a raised or lowered text; tags may stand between.
_BASE = re.compile(r"([^\W\d_]*|\d+)(?:</?[a-z]\w*>)*\Z", re.IGNORECASE)
_BASE_CHARS = 40
#: Signs of Pandoc and others for the same: H~2~O, x^2^.
_PANDOC = re.compile(r"(?<=[^\W\d_])~(\d{1,4})~(?!~)|(?<=\w)\^(-?\d{1,4})\^")
_SUPERSCRIPTS = str.maketrans("0123456789+-−=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿ")
#: The symbol of a chemical element.
_ELEMENT = re.compile(r"[A-Z][a-z]?(?![^\W\d_])")
_EXPONENT = re.compile(r"[+\-−]?\d{1,6}|n")
#: Letters of a unit or variable. Behind a longer word a raised number is the mark of a note, a lowered word an index.
_MAX_UNIT, _MAX_SYMBOL = 2, 3
#: Scripts without blanks: a mark between two characters of one of them stands inside a word.
_UNSPACED = re.compile(
    r"(?:[\u3400-\u9fff]{2}|[\u3041-\u309f]{2}|[\u30a1-\u30ff]{2}|[\u0e00-\u0eff]{2}|[\u1000-\u109f]{2}|[\u1780-\u17ff]{2})"
)
_MAX_UNSPACED = 4
#: Scripts with blanks and small letters stand before this character; in Hangul a particle follows the noun.
_LAST_SPACED = "\u0e00"
#: Code in Markdown: fenced, indented by a tab or four blanks, inline. Nothing is changed in it.
_CODE = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[^\n]*(?:\n[^\n]*)*?(?:\n[ \t]*(?P=fence)[^\n]*|\Z)"
    r"|^(?: {4}|\t)[^\n]*|(?P<ticks>`+)(?!`)[^\n]*?(?<!`)(?P=ticks)(?!`)",
    re.MULTILINE,
)
#: It begins with a set of signs, for which a text is searched ten times as fast as for the words.
_MARKED = re.compile(
    r"[<&~^](?:(?<=<)(?i:ruby|su[bp]|wbr|b|i|u|em|strong|small|big|mark|font|ins)\b"
    r"|(?<=&)(?i:shy|#)|(?<=\w[~^]))"
)


def join_words(html: str) -> tuple[str, int]:
    """Return the HTML without marks inside words, and the number of readings that were left out."""
    html, readings = _without_readings(html)
    # A break hint is no character of the word.
    html = _BREAK_HINT.sub("", html)
    return _INLINE.sub(_unwrapped, _RAISED.sub(_joined, html)), readings


def join_words_of_markdown(text: str) -> tuple[str, int]:
    """Return the Markdown without marks inside words, except in code, and how many readings were left out."""
    if not _MARKED.search(text):
        return text, 0
    parts: list[str] = []
    readings = cursor = 0
    for start, end in [*(code.span() for code in _CODE.finditer(text)), (len(text), len(text))]:
        prose, count = join_words(text[cursor:start])
        parts += _PANDOC.sub(_pandoc, prose), text[start:end]
        readings += count
        cursor = end
    return "".join(parts), readings


def _without_readings(html: str) -> tuple[str, int]:
    """Remove `rt`, `rp` and `rtc` with their texts, whose end tags may be missing, and unwrap `ruby` and `rb`."""
    tags = list(_RUBY.finditer(html))
    if not any(tag[2].lower() == "ruby" for tag in tags):
        return html, 0
    parts: list[str] = []
    readings = cursor = 0
    inside = dropping = container = False
    for tag in tags:
        piece = html[cursor : tag.start()]
        # Blanks between the parts are those of the HTML's layout.
        parts.append("" if dropping else re.sub(r"\s*\n\s*", "", piece) if inside else piece)
        cursor = tag.end()
        is_end, name = bool(tag[1]), tag[2].lower()
        if name == "ruby":
            inside, dropping, container = not is_end, False, False
        elif not inside:
            parts.append(tag[0])
        elif name == "rtc":
            container = dropping = not is_end
        elif name == "rb":
            dropping = container = False
        else:
            readings += name == "rt" and not is_end
            dropping = container or not is_end
    # Without an end tag there is no reading to remove.
    parts.append(html[cursor:])
    return "".join(parts), readings


def _joined(match: re.Match[str]) -> str:
    """Return H<sub>2</sub> as H2, m<sup>2</sup> as m², 1<sup>st</sup> as 1st; other such elements unchanged."""
    text, whole = match[2], match.string
    base_match = _BASE.search(whole[max(0, match.start() - _BASE_CHARS) : match.start()])
    base = base_match[1] if base_match else ""
    if match[1].lower() == "sub":
        short = base and (base.isdigit() or len(base) <= _MAX_SYMBOL)
        return text if base and (text.isdigit() or (short and text.isalnum())) else match[0]
    if _EXPONENT.fullmatch(text):
        if base and (base.isdigit() or len(base) <= _MAX_UNIT):
            return text.translate(_SUPERSCRIPTS)
        # The mass number of an isotope: ¹⁴C.
        symbol = _ELEMENT.match(whole, match.end())
        return text.translate(_SUPERSCRIPTS) if symbol and not base and text.isdigit() else match[0]
    short = base.isdigit() or 0 < len(base) <= _MAX_UNIT
    return text if short and text.isalpha() and text not in ("TM", "SM") else match[0]


def _unwrapped(match: re.Match[str]) -> str:
    whole, inner = match.string, match[2]
    before, after = whole[match.start() - 1 : match.start()], whole[match.end() : match.end() + 1]
    if _is_one_word(before, inner[0]) or _is_one_word(inner[-1], after):
        return inner
    joints = bool(_UNSPACED.fullmatch(before + inner[0]))
    joints += bool(_UNSPACED.fullmatch(inner[-1] + after))
    # A longer emphasis is a phrase of whole words.
    is_part = joints and len(inner) <= (_MAX_UNSPACED if joints == 2 else 1)
    return inner if is_part else match[0]


def _is_one_word(left: str, right: str) -> bool:
    """Return whether the mark between two characters stands inside a word: not in `Name` and `Otter`."""
    if not left.isalnum() or not right.isalnum() or max(left, right) > _LAST_SPACED:
        return False
    return left.isdigit() or right.isdigit() or not right.isupper() or left.isupper()


def _pandoc(match: re.Match[str]) -> str:
    return match[1] or match[2].translate(_SUPERSCRIPTS)


def readings_left_out(count: int) -> list[str]:
    """Return the sentence that records how many readings were left out; no sentence for none."""
    noun = "reading above a word" if count == 1 else "readings above words"
    return [f"{count:,} {noun} (ruby)"] if count else []
