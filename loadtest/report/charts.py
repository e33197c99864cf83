"""Charts as SVG text: lines and bars with axes, a legend and tooltips; no scripts, no files, no library.

Written here because a report must open anywhere, years later, from one file, and four kinds of chart need no plotting
package."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#2f6fdf", "#d9822b", "#1d9a6c", "#c2408f", "#7a5cd1", "#6b7280")
WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 34, 62
TICKS = 5
CHARACTER_PX = 6.6
MAX_LINE_POINTS = 400
DOT_LOOKS = ((100, 4.0, 0.9), (1_000, 3.0, 0.7), (math.inf, 2.5, 0.55))
"""(up to how many dots, radius, opacity)"""

Points = Sequence[tuple[float, float]]


def lines(
    title: str, x_label: str, y_label: str, series: Mapping[str, Points], *, limit: tuple[str, float] | None = None
) -> str:
    """One line per series; `limit` is a labelled horizontal line. Without any point: a note instead of a chart."""
    drawn = {
        name: sorted(points)[:: max(1, len(points) // MAX_LINE_POINTS)] for name, points in series.items() if points
    }
    plane = _plane([point for points in drawn.values() for point in points], limit)
    if plane is None:
        return _empty(title)
    parts = [plane.axes(x_label, y_label)]
    if limit is not None:
        parts.append(plane.limit(*limit))
    for index, points in enumerate(drawn.values()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{plane.x(x):.1f},{plane.y(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(points) <= 40:
            parts += [_dot(plane, x, y, colour, 3) for x, y in points]
    return _framed(title, parts, list(drawn))


def dots(title: str, x_label: str, y_label: str, points: Points, *, limit: tuple[str, float] | None = None) -> str:
    """One dot per point: few are large, many are pale where they lie apart."""
    plane = _plane(points, limit)
    if plane is None:
        return _empty(title)
    parts = [plane.axes(x_label, y_label), *([plane.limit(*limit)] if limit is not None else [])]
    radius, opacity = next(look for most, *look in DOT_LOOKS if len(points) <= most)
    parts += [_dot(plane, x, y, COLOURS[0], radius, opacity) for x, y in points]
    return _framed(title, parts, [])


def bars(title: str, x_label: str, y_label: str, heights: Points, width: float, *, logarithmic: bool = False) -> str:
    """A histogram: (start of a bar, how many); bars are `width` wide. `logarithmic`: for rare values beside very
    frequent ones."""
    shown = [(x, math.log10(count) + 1 if logarithmic else float(count), count) for x, count in heights if count > 0]
    if not shown:
        return _empty(title)
    edges = [(x, 0.0) for x, _, _ in shown] + [(x + width, y) for x, y, _ in shown]
    plane = _Plane(edges, decades=logarithmic)
    parts = [plane.axes(x_label, y_label + (", logarithmic" if logarithmic else ""))]
    for x, y, count in shown:
        left, top = plane.x(x), plane.y(y)
        size = f'width="{max(1.0, plane.x(x + width) - left - 0.5):.1f}" height="{plane.y(0) - top:.1f}"'
        tip = f"<title>{_number(x)} to {_number(x + width)}: {_number(count)}</title>"
        parts.append(f'<rect x="{left:.1f}" y="{top:.1f}" {size} fill="{COLOURS[0]}">{tip}</rect>')
    return _framed(title, parts, [])


class _Plane:
    """Maps values to pixels. The vertical axis begins at 0."""

    def __init__(self, points: Points, *, decades: bool = False) -> None:
        self._decades = decades
        self._from, self._to = min(x for x, _ in points), max(x for x, _ in points)
        if self._from == self._to:
            self._from, self._to = self._from - 0.5, self._to + 0.5
        top = max(y for _, y in points) or 1.0
        self._step = 1.0 if decades else _nice(top / TICKS)
        self._top = math.ceil(top / self._step + 1e-9) * self._step

    def x(self, value: float) -> float:
        return LEFT + (value - self._from) / (self._to - self._from) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - value / self._top * (HEIGHT - TOP - BOTTOM)

    def axes(self, x_label: str, y_label: str) -> str:
        parts = []
        for index in range(round(self._top / self._step) + 1):
            value = index * self._step
            y = self.y(value)
            shown = ("0" if not index else _number(10.0 ** (index - 1))) if self._decades else _number(value)
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{shown}</text>')
        step = _nice((self._to - self._from) / TICKS)
        value = math.ceil(self._from / step - 1e-9) * step
        while value <= self._to + step * 1e-6:
            x = self.x(value)
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}" class="axis"/>'
            )
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{_number(value)}</text>')
            value += step
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}" class="axis"/>'
        )
        parts.append(
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - BOTTOM + 33}" text-anchor="middle">'
            f"{escape(x_label)}</text>"
        )
        middle = (TOP + HEIGHT - BOTTOM) / 2
        parts.append(
            f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
        )
        return "".join(parts)

    def limit(self, label: str, value: float) -> str:
        y = self.y(value)
        return (
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="limit"/>'
            f'<text x="{WIDTH - RIGHT - 2}" y="{y - 4:.1f}" text-anchor="end" class="limit-label">'
            f"{escape(label)}</text>"
        )


def _plane(points: Points, limit: tuple[str, float] | None) -> _Plane | None:
    if not points:
        return None
    return _Plane([*points, (points[0][0], limit[1])] if limit is not None else points)


def _dot(plane: _Plane, x: float, y: float, colour: str, radius: float, opacity: float = 1.0) -> str:
    tip = f"<title>{_number(x)}: {_number(y)}</title>"
    place = f'cx="{plane.x(x):.1f}" cy="{plane.y(y):.1f}" r="{radius}"'
    return f'<circle {place} fill="{colour}" fill-opacity="{opacity}">{tip}</circle>'


def _framed(title: str, parts: Sequence[str], names: Sequence[str]) -> str:
    legend, x = [], float(LEFT)
    for index, name in enumerate(names if len(names) > 1 else ()):
        legend.append(
            f'<rect x="{x:.0f}" y="{HEIGHT - 16}" width="11" height="11" fill="{COLOURS[index % len(COLOURS)]}"/>'
        )
        legend.append(f'<text x="{x + 15:.0f}" y="{HEIGHT - 6}">{escape(name)}</text>')
        x += 15 + CHARACTER_PX * len(name) + 14
    heading = f'<text x="{LEFT}" y="18" class="title">{escape(title)}</text>'
    frame = f'<svg class="chart" role="img" aria-label="{escape(title)}" viewBox="0 0 {WIDTH} {HEIGHT}" xmlns="http://www.w3.org/2000/svg">'
    return "".join([frame, heading, *parts, *legend, "</svg>"])


def _empty(title: str) -> str:
    return _framed(
        title, [f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">nothing was measured</text>'], []
    )


def _nice(step: float) -> float:
    """The nearest 1, 2, 2.5 or 5 times a power of ten that is not smaller."""
    if step <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    return next((factor * power for factor in (1.0, 2.0, 2.5, 5.0) if factor * power >= step - 1e-12), 10.0 * power)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
