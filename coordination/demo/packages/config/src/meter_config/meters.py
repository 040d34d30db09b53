"""Read `meters.toml`: a table for each meter, with its unit, its price and what it may use in a month."""

from dataclasses import dataclass
from typing import Optional

from meter_units import Quantity, Unit, parse

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.9 and 3.10
    import tomli as tomllib


@dataclass(frozen=True)
class Meter:
    """One meter of the house."""

    name: str
    unit: Unit
    price: Optional[float] = None
    budget: Optional[Quantity] = None

    def cost(self, used: Quantity) -> Optional[float]:
        """The price of that much; None where no price is known."""
        return None if self.price is None else round(used.amount * self.price, 2)


def load(path) -> dict[str, Meter]:
    """The meters of the file by name. Raises ValueError where the file says something that no meter can."""
    with open(path, "rb") as file:
        tables = tomllib.load(file)
    return {name: _meter(name, entry) for name, entry in tables.items()}


def _meter(name, entry) -> Meter:
    unit = Unit(entry["unit"])
    budget = parse(str(entry["budget"]), default=unit) if "budget" in entry else None
    if budget and budget.unit != unit:
        raise ValueError(f"{name}: counts {unit.value}, but its budget is {budget}")
    return Meter(name, unit, entry.get("price"), budget)
