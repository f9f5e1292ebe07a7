"""A bar chart as SVG: groups of bars with confidence intervals. Without a plotting library: it is some rectangles."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

#: (value, lower, upper), each 0 … 1; without an interval the other two are None.
Bar = tuple[float, float | None, float | None]

_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2")
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 760, 300, 40, 44, 28


def bar_chart(title: str, groups: Sequence[str], series: Mapping[str, Sequence[Bar]]) -> str:
    """An SVG document. `series`: name -> a bar for each group."""
    floor, high = _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM - _TOP
    step = (_WIDTH - _LEFT) / len(groups)
    width = step * 0.8 / max(1, len(series))

    def y(value: float) -> float:
        return floor - high * min(max(value, 0.0), 1.0)

    parts = [_text(_LEFT, 16, title, "start", "bold")]
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(_line(_LEFT, y(tick), _WIDTH, y(tick), "#ddd"))
        parts.append(_text(_LEFT - 4, y(tick) + 4, f"{tick:g}", "end"))
    for number, (name, bars) in enumerate(series.items()):
        colour, key = _COLOURS[number % len(_COLOURS)], _LEFT + 90 * number
        parts.append(f'<rect x="{key}" y="24" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(key + 14, 33, name, "start"))
        for group, (value, lower, upper) in enumerate(bars):
            x = _LEFT + step * (group + 0.1) + width * number
            parts.append(
                f'<rect x="{x:.1f}" y="{y(value):.1f}" width="{width * 0.92:.1f}" '
                f'height="{floor - y(value):.1f}" fill="{colour}"><title>{value:.3f}</title></rect>'
            )
            if lower is not None and upper is not None:
                parts.append(_line(x + width / 2, y(lower), x + width / 2, y(upper), "#222"))
            parts.append(
                _text(x + width / 2, floor - 5, f"{value:.2f}"[-3:], "middle", fill="#fff")
            )
    for group, name in enumerate(groups):
        parts.append(_text(_LEFT + step * (group + 0.5), _HEIGHT - 8, name, "middle"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    )


def as_markdown(svg: str, name: str) -> str:
    """The image within a line of Markdown, as Dagster shows it."""
    return f"![{name}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _text(
    x: float, y: float, text: str, anchor: str, weight: str = "normal", fill: str = "#222"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{fill}">'
        f"{escape(text)}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'
