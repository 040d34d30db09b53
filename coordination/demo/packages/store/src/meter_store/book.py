"""A file that only grows: one line of JSON for each reading."""

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from meter_units import Quantity, Unit


@dataclass(frozen=True)
class Reading:
    """The reading of a meter, and its time."""

    meter: str
    at: datetime
    shown: Quantity


class Book:
    """All readings of a household. A meter never counts backwards, and the book refuses what says so."""

    def __init__(self, path) -> None:
        self._path = Path(path)

    def add(self, meter: str, shown: Quantity, at: Optional[datetime] = None) -> Reading:
        """Write a reading down, as of now where no time is given. Raises ValueError."""
        last = self.last(meter)
        if last and (shown - last.shown).amount < 0:
            raise ValueError(f"{meter} showed {last.shown} before, it cannot show {shown} now")
        reading = Reading(meter, at or datetime.now(timezone.utc), shown)
        with self._path.open("a") as file:
            file.write(json.dumps(_to_line(reading)) + "\n")
        return reading

    def last(self, meter: str) -> Optional[Reading]:
        """The newest reading of a meter; None where there is none."""
        return max(self.readings(meter), key=lambda reading: reading.at, default=None)

    def readings(self, meter: str) -> list[Reading]:
        """The readings of a meter, in the order in which they were written."""
        if not self._path.exists():
            return []
        lines = map(json.loads, self._path.read_text().splitlines())
        return [_from_line(line) for line in lines if line["meter"] == meter]


def _to_line(reading: Reading) -> dict:
    at = reading.at.astimezone(timezone.utc).isoformat()
    return {
        "meter": reading.meter,
        "at": at,
        "amount": reading.shown.amount,
        "unit": f"{reading.shown.unit.value}",
    }


def _from_line(line: dict) -> Reading:
    return Reading(
        line["meter"], datetime.fromisoformat(line["at"]), Quantity(line["amount"], Unit(line["unit"]))
    )
