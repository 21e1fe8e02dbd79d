"""Lines over logarithmic axes, as SVG that any browser shows: no library for two panels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 430, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 100, 40, 44
_COLOURS = ("#b2421f", "#1f6fb2", "#3d8b3d", "#7a4fa3")
_STYLE = "text{font:12px sans-serif;fill:#555}.title{font-weight:bold}.grid{stroke:#9995;stroke-width:1}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its name, and its points, all above zero."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True)
class Panel:
    """Some lines over the same axes."""

    title: str
    x_words: str
    y_words: str
    lines: Sequence[Line]


def svg(*panels: Panel) -> str:
    """The panels side by side."""
    width = _WIDTH * len(panels)
    words = "; ".join(panel.title for panel in panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" role="img" aria-label="{escape(words)}">',
        f"<style>{_STYLE}</style>",
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({number * _WIDTH} 0)">', *_drawn(panel), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _drawn(panel: Panel) -> list[str]:
    x_from, x_to = _decades([x for line in panel.lines for x in line.x])
    y_from, y_to = _decades([y for line in panel.lines for y in line.y])

    def at_x(value: float) -> float:
        return _LEFT + (math.log10(value) - x_from) / (x_to - x_from) * (_WIDTH - _LEFT - _RIGHT)

    def at_y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (math.log10(value) - y_from) / (y_to - y_from) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        _text(_LEFT, 20, panel.title, "title"),
        _text(_LEFT, _HEIGHT - 8, panel.x_words),
        _text(4, _TOP - 6, panel.y_words),
    ]
    for decade in range(x_from, x_to + 1):
        x = at_x(10.0**decade)
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        parts.append(_text(x - 8, _HEIGHT - _BOTTOM + 16, _number(decade)))
    for decade in range(y_from, y_to + 1):
        y = at_y(10.0**decade)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(_text(8, y + 4, _number(decade)))
    ends: list[float] = []
    for line, colour in zip(panel.lines, _COLOURS, strict=False):
        points = [(at_x(x), at_y(y)) for x, y in zip(line.x, line.y, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        x, y = points[-1]
        while any(abs(y - other) < 14 for other in ends):
            y += 14 if not ends or y >= max(ends) else 1
        ends.append(y)
        parts.append(f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" style="fill:{colour}">{escape(line.name)}</text>')
    return parts


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten between which all of them are."""
    least, greatest = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return least, max(greatest, least + 1)


def _number(decade: int) -> str:
    return f"{10**decade:,}" if 0 <= decade < 4 else f"{10 ** (decade - 3):,}k" if decade >= 4 else f"{10.0**decade:g}"


def _text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}>{escape(words)}</text>'
