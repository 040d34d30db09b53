"""The measurements of a household meter: an amount and its unit."""

from meter_units.quantity import Quantity, Unit, parse

__all__ = ["Quantity", "Unit", "parse"]
