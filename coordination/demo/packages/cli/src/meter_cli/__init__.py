"""The meter command: add a reading, print a report."""

from meter_cli.command import main, run

__all__ = ["main", "run"]
