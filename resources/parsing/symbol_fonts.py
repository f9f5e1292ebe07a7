"""The characters of fonts whose letters are signs: Symbol, Wingdings. Of Word and RTF alike."""

from __future__ import annotations

#: The letters of the font Symbol, from 0x41 and 0x61, and its signs that stand in formulas and units.
_GREEK = dict(
    zip(
        (*range(0x41, 0x5B), *range(0x61, 0x7B)),
        "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖαβχδεφγηιϕκλμνοπθρστυϖωξψζ",
        strict=True,
    )
)
_SIGNS = {
    0xA3: "≤",
    0xA5: "∞",
    0xAC: "←",
    0xAE: "→",
    0xB0: "°",
    0xB1: "±",
    0xB3: "≥",
    0xB4: "×",
    0xB7: "•",
}
_SIGNS |= {0xB8: "÷", 0xB9: "≠", 0xBB: "≈", 0xD7: "⋅", 0xD6: "√", 0xE5: "∑"}
_WINGDINGS = {
    0x6F: "☐",
    0xA8: "☐",
    0xFB: "☒",
    0xFC: "✓",
    0xFD: "☒",
    0xFE: "☑",
    0xE0: "→",
    0xDF: "←",
}


def symbol_character(font: str, code: int) -> str:
    """Return the character that a font shows for a code, a blank if it is unknown."""
    if not 0xF000 <= code <= 0xF0FF and code > 0xFF:
        return chr(code) if code < 0xD800 else " "
    code &= 0xFF
    if font.lower() == "symbol":
        return _GREEK.get(code) or _SIGNS.get(code) or (chr(code) if 0x20 <= code < 0x41 else " ")
    return _WINGDINGS.get(code, " ")
