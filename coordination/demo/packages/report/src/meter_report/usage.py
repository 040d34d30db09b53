"""From what a meter showed to what was used: the difference between a reading and the one before it."""

from datetime import datetime
from enum import Enum
from typing import Optional

from meter_text import Align, table
from meter_units import Quantity


class Period(str, Enum):
    """The period that one row sums up, as strftime writes it."""

    DAY = "%Y-%m-%d"
    MONTH = "%Y-%m"
    YEAR = "%Y"


def usage(shown: list[tuple[datetime, Quantity]], period: Period = Period.MONTH) -> dict[str, Quantity]:
    """The consumption of each period. Everything since the reading before counts for the later one."""
    used: dict[str, Quantity] = {}
    shown = sorted(shown, key=lambda reading: reading[0])
    for (_, before), (at, after) in zip(shown, shown[1:]):
        name = at.strftime(period.value)
        used[name] = used[name] + (after - before) if name in used else after - before
    return used


def render(used: dict[str, Quantity], price: Optional[float] = None) -> str:
    """The table that people see, with a column of costs where a price is known."""
    rows = [("period", "used", "unit", "cost")]
    for period, quantity in sorted(used.items()):
        cost = "" if price is None else f"{quantity.amount * price:.2f}"
        rows.append((period, f"{quantity.amount:,.1f}", quantity.unit.value, cost))
    columns = 3 if price is None else 4
    aligns = (Align.LEFT, Align.RIGHT, Align.LEFT, Align.RIGHT)
    return table([row[:columns] for row in rows], aligns[:columns])
