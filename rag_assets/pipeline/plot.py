"""Charts as SVG: bars with confidence intervals, points on curves. The code is too short to need a plotting library."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

#: (value, lower, upper), each 0 … 1; lower and upper are None without an interval.
Bar = tuple[float, float | None, float | None]

_COLOURS = (
    "#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#333333"
)  # fmt: skip
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 760, 300, 40, 44, 28


def bar_chart(title: str, groups: Sequence[str], series: Mapping[str, Sequence[Bar]]) -> str:
    """Return an SVG document. `series`: name -> a bar for each group."""
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
        colour, legend_x = _COLOURS[number % len(_COLOURS)], _LEFT + 90 * number
        parts.append(f'<rect x="{legend_x}" y="24" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(legend_x + 14, 33, name, "start"))
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


@dataclass(frozen=True)
class Point:
    """`x`: a share; `y`: above 0. `label`: the text beside the point. `best`: drawn filled; no point dominates it."""

    x: float
    y: float
    label: str
    best: bool = True


#: Marked shares, as far as there are points. The last hundredths matter most and get most of the space.
_SHARES = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1)


def curves(title: str, x_title: str, y_title: str, series: Mapping[str, Sequence[Point]]) -> str:
    """Return an SVG document: for each name a curve through its points in order of x. Both scales are logarithmic."""
    points = [point for curve in series.values() for point in curve]
    least = max(
        share for share in _SHARES if share == 0 or share < min(point.x for point in points)
    )
    low, high = _limits([point.y for point in points])
    names_per_line = 7
    width, height, left, right = 900, 480, 64, 870
    top, floor = 58 + 16 * ((len(series) - 1) // names_per_line), height - 44

    def spread(share: float) -> float:
        return -math.log10(1 - share + 0.003)

    def x(share: float) -> float:
        return left + (right - left) * (spread(share) - spread(least)) / (spread(1) - spread(least))

    def y(value: float) -> float:
        return floor - (floor - top) * math.log(value / low) / math.log(high / low)

    parts = [_text(left, 16, title, "start", "bold")]
    for tick in _ticks(low, high):
        parts.append(_line(left, y(tick), right, y(tick), "#ddd"))
        parts.append(_text(left - 6, y(tick) + 4, f"{tick:g}", "end"))
    for share in _SHARES:
        if share >= least:
            parts.append(_line(x(share), top, x(share), floor, "#eee"))
            parts.append(_text(x(share), floor + 16, f"{share:g}", "middle"))
    parts.append(_text((left + right) / 2, height - 8, x_title, "middle"))
    parts.append(_text(left, top - 8, y_title, "start"))
    for number, (name, curve) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        line, column = divmod(number, names_per_line)
        legend_x, legend_y = left + 115 * column, 34 + 16 * line
        parts.append(f'<circle cx="{legend_x + 4}" cy="{legend_y - 4}" r="4" fill="{colour}"/>')
        parts.append(_text(legend_x + 12, legend_y, name, "start"))
        ordered = sorted(curve, key=lambda point: (point.x, point.y))
        coordinates = " ".join(f"{x(point.x):.1f},{y(point.y):.1f}" for point in ordered)
        parts.append(f'<polyline points="{coordinates}" fill="none" stroke="{colour}"/>')
        for point in ordered:
            fill = colour if point.best else "#fff"
            parts.append(
                f'<circle cx="{x(point.x):.1f}" cy="{y(point.y):.1f}" r="4" fill="{fill}" stroke="{colour}">'
                f"<title>{escape(f'{name} {point.label}: {point.x:.3f}, {point.y:.3g}')}</title></circle>"
            )
            parts.append(_text(x(point.x) - 6, y(point.y) - 5, point.label, "end", fill="#555"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 of each decade from `low` to `high`."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [part * 10.0**decade for decade in decades for part in (1, 2, 5)]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Return the nearest ticks below and above all values; the two always differ."""
    ticks = _ticks(min(values) / 10, max(values) * 10)
    return (
        max(tick for tick in ticks if tick < min(values)),
        min(tick for tick in ticks if tick > max(values)),
    )


def as_markdown(svg: str, name: str) -> str:
    """Return the image embedded in a line of Markdown, which Dagster renders."""
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
