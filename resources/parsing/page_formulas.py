"""Formulas and drawings of a web page as text: TeX once, the words of a drawing (SVG)."""

from __future__ import annotations

import re

from resources.parsing.innermost import innermost, replace_innermost

_TEX = re.compile(r"<annotation\b[^<>]*\btex\b[^<>]*>([^<>]*)</annotation", re.IGNORECASE)
_SCRIPT = re.compile(
    r"<script\b[^<>]*\btype=[\"']?math/tex[^<>]*>([^<]*(?:<(?!/script)[^<]*)*+)</script\s*>",
    re.IGNORECASE,
)
#: The second form of a formula, for the eye.
_DRAWN = re.compile(r"<span\b[^<>]*\bclass=\"katex-html\"[^<>]*>")
_SPAN = re.compile(r"<(/?)span\b[^<>]*>")
_TAG = re.compile(r"<[^<>]*>")


def with_formulas(html: str) -> str:
    """Return the page with the TeX of formulas that have it, and the words of its drawings."""
    html = _SCRIPT.sub(lambda script: _tex(script[1]), _without_drawn_formulas(html))
    html = replace_innermost(html, "math", _formula)
    return replace_innermost(html, "svg", _words_of_drawing)


def _formula(math: str) -> str | None:
    tex = _TEX.search(math)
    return _tex(tex[1]) if tex else None


def _tex(tex: str) -> str:
    return f"<code>${tex.strip().strip('$')}$</code>" if tex.strip() else ""


def _words_of_drawing(svg: str) -> str | None:
    words = [
        " ".join(_TAG.sub(" ", svg[element.inner : element.inner_end]).split())
        for name in ("text", "foreignObject")
        for element in innermost(svg, name)
    ]
    words = list(filter(None, words))
    return f"<div>{'<br>'.join(words)}</div>" if words else None


def _without_drawn_formulas(html: str) -> str:
    pieces: list[str] = []
    cursor = 0
    for start in _DRAWN.finditer(html):
        if start.start() < cursor:
            continue
        depth = 1
        for tag in _SPAN.finditer(html, start.end()):
            depth += -1 if tag[1] else 1
            if depth == 0:
                pieces.append(html[cursor : start.start()])
                cursor = tag.end()
                break
        else:
            break
    return "".join([*pieces, html[cursor:]])
