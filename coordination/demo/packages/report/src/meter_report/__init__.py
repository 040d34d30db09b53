"""The consumption of each month, as a table."""

from meter_report.usage import Period, render, usage

__all__ = ["Period", "render", "usage"]
