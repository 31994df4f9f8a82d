"""Line plots as SVG, both axes logarithmic. Written by hand: a benchmark should not need a plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50  # margins; names of lines stand to the right
COLOURS = ("#0072b2", "#000000", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
LABEL_HEIGHT = 16

Points = Sequence[tuple[float, float]]


class Axis(NamedTuple):
    """A logarithmic axis from `low` to `high`, drawn from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        share = (math.log10(value) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Return 1, 3, 10, 30, … as far as they lie within the axis."""
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        ticks = [factor * 10.0**exponent for exponent in exponents for factor in (1, 3)]
        return [tick for tick in ticks if self.low * 0.999 <= tick <= self.high * 1.001]


def draw_lines(lines: Mapping[str, Points], *, title: str, x_label: str, y_label: str) -> str:
    """Return a plot with a line for each name. Values must be above 0; a line without points is left out."""
    drawn = {name: sorted(points) for name, points in lines.items() if points}
    if not drawn:
        raise ValueError(f"{title!r} has no points to draw.")
    across = _span([x for points in drawn.values() for x, _ in points], LEFT, WIDTH - RIGHT)
    up = _span([y for points in drawn.values() for _, y in points], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 22, title, size=14),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_label, anchor="middle"),
        _text(12, TOP - 6, y_label),
        *_draw_grid(across, up),
        *_draw_each(drawn, across, up),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _span(values: Sequence[float], start: float, end: float) -> Axis:
    low, high = min(values), max(values)
    if low == high:
        low, high = low / 2, high * 2
    return Axis(low / 1.1, high * 1.1, start, end)


def _draw_grid(across: Axis, up: Axis) -> list[str]:
    parts = []
    for tick in across.ticks():
        x = across.place(tick)
        parts.append(f'<line x1="{x}" y1="{up.start}" x2="{x}" y2="{up.end}" stroke="#dddddd"/>')
        parts.append(_text(x, up.start + 18, f"{tick:,g}", anchor="middle"))
    for tick in up.ticks():
        y = up.place(tick)
        parts.append(f'<line x1="{across.start}" y1="{y}" x2="{across.end}" y2="{y}" stroke="#dddddd"/>')
        parts.append(_text(across.start - 8, y + 4, f"{tick:,g}", anchor="end"))
    return parts


def _draw_each(lines: Mapping[str, Points], across: Axis, up: Axis) -> list[str]:
    """Draw each line, with its name at its end; names that would touch are moved apart."""
    parts = []
    ends = sorted((up.place(points[-1][1]), name) for name, points in lines.items())
    free, label_y = float(TOP), {}
    for y, name in ends:
        label_y[name] = max(y, free)
        free = label_y[name] + LABEL_HEIGHT
    for index, (name, points) in enumerate(lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        places = [(across.place(x), up.place(y)) for x, y in points]
        path = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in places]
        parts.append(_text(WIDTH - RIGHT + 10, label_y[name] + 4, name, colour=colour))
    return parts


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, colour: str = "#222222") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(text)}</text>'
