"""Line charts as inline SVG: no script, no library, nothing to load."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Series = Sequence[tuple[float, float]]
"""Points (step, value) in order of step."""

_COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4b5563")
_WIDTH, _HEIGHT = 460, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart of a report.

    Attributes:
        title: Its heading.
        svg: The drawing.
        legend: Colour and name of each line.
    """

    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...]


def smooth(points: Series, window: int) -> list[tuple[float, float]]:
    """Average each value with those before it, over at most `window` points."""
    values = [value for _, value in points]
    return [
        (step, sum(values[max(0, i - window + 1) : i + 1]) / len(values[max(0, i - window + 1) : i + 1]))
        for i, (step, _) in enumerate(points)
    ]


def line_chart(title: str, lines: Mapping[str, Series]) -> Chart | None:
    """Draw lines over steps; None where there is nothing to draw.

    Args:
        title: Heading of the chart.
        lines: Points of each line by its name; those without a finite point are left out.
    """
    drawn = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in lines.items()}
    drawn = {name: points for name, points in drawn.items() if points}
    if not drawn:
        return None
    xs = [x for points in drawn.values() for x, _ in points]
    ys = [y for points in drawn.values() for _, y in points]
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1)
    y_ticks = _ticks(min(ys + [0.0]), max(ys))
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - (y - y_low) / (y_high - y_low) * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in y_ticks:
        _, y = place(x_low, tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(x_low, x_high)[:-1]:
        if tick >= x_low:
            x, _ = place(tick, y_low)
            parts.append(f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end">step</text>')
    legend: list[tuple[str, str]] = []
    for index, (name, points) in enumerate(drawn.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        if len(points) == 1:
            x, y = place(*points[0])
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" points="{path}"/>')
        legend.append((colour, name))
    parts.append("</svg>")
    return Chart(title=title, svg=Markup("".join(parts)), legend=tuple(legend))


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that enclose [low, high], about five of them."""
    span = max(high - low, 1e-9)
    raw = span / 4
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(i * step, 10) for i in range(first, last + 1)]
