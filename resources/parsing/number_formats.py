"""Numbers of spreadsheets as their program shows them: dates as ISO 8601, percentages, units."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

#: Numbers of Excel's built-in formats. 27–36 and 50–58 are dates of East Asian editions.
_DATES = {*range(14, 18), *range(27, 37), *range(50, 59)}
_TIMES = {18, 19, 20, 21, 32, 33, 34, 35, 55, 56}
_BUILT_IN = {9: "0%", 10: "0.00%", 22: "yyyy-mm-dd h:mm", 45: "mm:ss", 46: "[h]:mm:ss", 47: "mm:ss"}
_LITERAL = re.compile(r'"[^"]*"|\\.|[_*].')
_ELAPSED = re.compile(r"\[(h+|m+|s+)\]")
_BRACKETS = re.compile(r"\[[^\]]*\]")
_CURRENCY = re.compile(r"\[\$([^\]-]*)(?:-[^\]]*)?\]")
#: A quoted or escaped text, a blank (also one of the width of a character), a filler, or a placeholder of a digit.
_PART = re.compile(r'"[^"]*"|\\.|[_*].| |[0#?]')
_EPOCH, _EPOCH_1904 = datetime(1899, 12, 30), datetime(1904, 1, 1)
_LAST_DAY = 2_958_466


def built_in(number: int) -> str:
    """Return the code of a built-in format; empty if it shows a plain number."""
    if number in _DATES:
        return (
            "h:mm" if number in _TIMES and number not in (27, 28, 29, 30, 31, 36) else "yyyy-mm-dd"
        )
    return "h:mm:ss" if number in _TIMES else _BUILT_IN.get(number, "")


def shown(value: float, code: str, *, since_1904: bool = False) -> str:
    """Return a number as a cell with this format code shows it, without rounding."""
    if not code or code == "General":
        return plain(value)
    section = _section(value, code)
    bare = _BRACKETS.sub("", _ELAPSED.sub(r"e\1", _LITERAL.sub("", section))).lower()
    if "general" not in bare and "e+" not in bare and re.search("[ydhms]", bare):
        return _moment(value, section, bare, since_1904) or plain(value)
    if "%" in bare:
        return plain(round(value * 100, 10)) + "%"
    return _with_unit(section, plain(value))


def _with_unit(section: str, number: str) -> str:
    """Return the number between the literal texts of its format, such as a unit."""
    section = _CURRENCY.sub(lambda currency: f'"{currency[1]}"', section)
    before, after, has_digits = "", "", False
    for part in _PART.findall(section):
        if part in "0#?":
            has_digits = True
        elif has_digits:
            after += _literal(part)
        else:
            before += _literal(part)
    is_unit = any(
        character.isalnum() or character == "$" or character > "\x7f"
        for character in before + after
    )
    return f"{before}{number}{after}".strip() if has_digits and is_unit else number


def _literal(part: str) -> str:
    if part[0] == '"':
        return part[1:-1]
    return part[1:] if part[0] == "\\" else "" if part[0] == "*" else " "


def plain(value: float) -> str:
    """Return up to 15 digits, as Excel shows them, without exponent where it is readable."""
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.15g}"


def _section(value: float, code: str) -> str:
    """Return the part of a code for this number; `;` separates the parts for positive and negative numbers."""
    sections = code.split(";")
    return sections[1] if value < 0 and len(sections) > 1 and sections[1].strip() else sections[0]


def _moment(value: float, section: str, bare: str, since_1904: bool) -> str:
    if not 0 <= value < _LAST_DAY:
        return ""
    if _ELAPSED.search(section):
        minutes, seconds = divmod(round(value * 86_400), 60)
        return f"{minutes // 60}:{minutes % 60:02}" + (f":{seconds:02}" if seconds else "")
    # Excel's 1900 has a February 29, so earlier days are one lower.
    days = value if since_1904 or value >= 60 else value + 1
    moment = (_EPOCH_1904 if since_1904 else _EPOCH) + timedelta(seconds=round(days * 86_400))
    has_date = bool(re.search("[yd]", bare)) or ("m" in bare and not re.search("[hs]", bare))
    has_time = bool(re.search("[hs]", bare))
    time = moment.strftime("%H:%M:%S" if moment.second else "%H:%M") if has_time else ""
    if has_date and time == "00:00" and value == int(value):
        time = ""
    return " ".join(filter(None, (moment.strftime("%Y-%m-%d") if has_date else "", time)))
