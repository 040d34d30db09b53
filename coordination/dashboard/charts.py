"""Small SVG charts of figures over time: bars per day, and steps.

A table next to a chart, and its label, show the same figures as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from markupsafe import Markup

WIDTH, HEIGHT = 640, 140
TOP, BOTTOM = 8, 20
Steps = Sequence[tuple[datetime, int]]
"""Times in order, each with the number from that time on."""


def bars(days: Sequence[str], *series: tuple[str, Sequence[int]]) -> Markup:
    """Return an SVG bar chart with a group of bars per day."""
    most = max((value for _, values in series for value in values), default=0) or 1
    step = WIDTH / max(1, len(days))
    wide = max(1.0, step / (len(series) + 1))
    parts = []
    for n, (name, values) in enumerate(series):
        for i, value in enumerate(values):
            if value:
                high = value / most * (HEIGHT - BOTTOM - 4)
                parts.append(
                    Markup(
                        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
                        "<title>{}: {} {}</title></rect>"
                    ).format(
                        f"series-{n}",
                        i * step + n * wide,
                        HEIGHT - BOTTOM - high,
                        wide,
                        high,
                        days[i],
                        value,
                        name,
                    )
                )
    label = ", ".join(f"{sum(values)} {name}" for name, values in series)
    first, last = (days[0], days[-1]) if days else ("", "")
    return _chart("bars", f"{label} from {first} to {last}", parts, first, last)


def steps(*series: tuple[str, Steps], until: datetime) -> Markup:
    """Return an SVG chart with a stepped line per series, from its first time until `until`."""
    times = [at for _, points in series for at, _ in points]
    begin, most = min(times), max((value for _, points in series for _, value in points), default=0) or 1
    span = max(1.0, (until - begin).total_seconds())
    parts = []
    for n, (name, points) in enumerate(series):
        path, value = "", 0
        for at, number in points:
            x, y = (at - begin).total_seconds() / span * WIDTH, _height(number, most)
            path += f"H{x:.1f}V{y:.1f}" if path else f"M{x:.1f},{y:.1f}"
            value = number
        words = f"{value} {name}"
        parts.append(
            Markup('<path class="steps-{}" d="{}H{}"><title>{}</title></path>').format(n, path, WIDTH, words)
        )
    label = ", ".join(f"{points[0][1]} to {points[-1][1]} {name}" for name, points in series if points)
    return _chart("bars steps", label, parts, f"{begin:%Y-%m-%d %H:%M}", f"{until:%Y-%m-%d %H:%M}")


def _chart(style: str, label: str, parts: Sequence[Markup], first: str, last: str) -> Markup:
    """Return the chart: the parts above an axis whose ends are named."""
    return Markup(
        '<svg class="{style}" viewBox="0 0 {w} {h}" role="img" aria-label="{label}">'
        '<line class="axis" x1="0" y1="{y}" x2="{w}" y2="{y}"/>{parts}'
        '<text x="0" y="{h4}">{first}</text><text x="{w}" y="{h4}" text-anchor="end">{last}</text></svg>'
    ).format(
        style=style,
        w=WIDTH,
        h=HEIGHT,
        y=HEIGHT - BOTTOM,
        h4=HEIGHT - 4,
        label=label,
        first=first,
        last=last,
        parts=Markup("").join(parts),
    )


def _height(value: int, most: int) -> float:
    return HEIGHT - BOTTOM - value / most * (HEIGHT - BOTTOM - TOP)
