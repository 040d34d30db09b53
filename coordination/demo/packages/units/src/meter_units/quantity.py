"""An amount that knows its unit, so that litres are never added to kilowatt hours."""

from dataclasses import dataclass
from enum import Enum
from typing import Optional


class Unit(str, Enum):
    """The unit of a meter, as it is written on the meter."""

    KWH = "kWh"
    M3 = "m3"
    LITRE = "l"


@dataclass(frozen=True)
class Quantity:
    """So much of a unit."""

    amount: float
    unit: Unit

    def __add__(self, other: "Quantity") -> "Quantity":
        return Quantity(self.amount + self._same_unit(other), self.unit)

    def __sub__(self, other: "Quantity") -> "Quantity":
        return Quantity(self.amount - self._same_unit(other), self.unit)

    def __str__(self) -> str:
        return f"{self.amount:,.1f} {self.unit.value}"

    def _same_unit(self, other: "Quantity") -> float:
        if self.unit != other.unit:
            raise ValueError(f"{self} and {other} are not of one unit")
        return other.amount


def parse(text: str, default: Optional[Unit] = None) -> Quantity:
    """Read `1,204.5 kWh`; the unit may be left out where there is a default. Raises ValueError."""
    amount, _, unit = text.strip().partition(" ")
    if not unit and default is None:
        raise ValueError(f"{text!r} has no unit, write one of {', '.join(each.value for each in Unit)}")
    return Quantity(float(amount.replace(",", "")), Unit(unit.strip()) if unit else default)
