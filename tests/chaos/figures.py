"""Result of a part of the harness: one line of figures, and the violations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Figures:
    measured: str
    wrong: list[str] = field(default_factory=list)
    """By the oracle: lost, done twice, too early."""
    late: list[str] = field(default_factory=list)
    """Durations or sizes over their limit: to be measured again on an idle machine."""


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least this part of them does not exceed; nan of none."""
    return sorted(values)[math.ceil(part * len(values)) - 1] if values else math.nan


def spread(values: Sequence[float]) -> str:
    """p50, p99 and the largest, of seconds."""
    if not values:
        return "never measured"
    return (
        f"p50 {quantile(values, 0.5):.1f} s, p99 {quantile(values, 0.99):.1f} s, "
        f"max {max(values):.1f} s of {len(values)}"
    )
