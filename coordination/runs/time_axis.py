"""The time axis of a chart: round numbers, never many. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from coordination.planner import svg

MOST_TICKS = 12
TICKS_S = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 14_400, 43_200, 86_400),
)  # fmt: skip


def axis(x: Callable[[float], float], start_ms: int, end_ms: int, top: float, bottom: float) -> Iterator[str]:
    """Lines from `top` to `bottom`, each with the time since the start above it."""
    step_s = _step((end_ms - start_ms) / 1000)
    for i in range(int((end_ms - start_ms) / 1000 / step_s) + 1):
        at = x(start_ms + i * step_s * 1000)
        yield svg.element("path", d=f"M{at:.1f},{top - 6:.1f} V{bottom:.1f}", class_="grid")
        yield svg.text(took(i * step_s), at, top - 11, "xs faint", "middle")


def _step(span_s: float) -> float:
    step = next((tick for tick in TICKS_S if span_s / tick <= MOST_TICKS), TICKS_S[-1])
    while span_s / step > MOST_TICKS:
        step *= 2
    return step


def took(seconds: float) -> str:
    """`0.25 s`, `12 s`, `1:05 min`, `2:30 h`"""
    if seconds < 100:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} min" if minutes < 100 else f"{minutes // 60}:{minutes % 60:02} h"
