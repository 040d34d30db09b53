"""`meter add power "1,204.5 kWh"` and `meter report power`, on the files in the current folder."""

import argparse
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from meter_config import load
from meter_report import render, usage
from meter_store import Book
from meter_units import parse


def main() -> None:
    """Run as the `meter` command."""
    sys.exit(run(sys.argv[1:], Path.cwd()))


def run(words: list[str], folder: Path, now: Optional[datetime] = None) -> int:
    """Do what the words say to the files in a folder; returns the exit code."""
    options = _parser().parse_args(words)
    meters, book = load(folder / "meters.toml"), Book(folder / "readings.jsonl")
    if options.meter not in meters:
        print(f"there is no meter {options.meter!r}, name one of: {', '.join(meters)}", file=sys.stderr)
        return 1
    meter = meters[options.meter]
    if options.command == "report":
        print(render(usage([(each.at, each.shown) for each in book.readings(meter.name)]), meter.price))
        return 0
    try:
        reading = book.add(
            meter.name, parse(options.shown, default=meter.unit), now or datetime.now(timezone.utc)
        )
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{reading.at:%Y-%m-%d %H:%M}  {meter.name}  {reading.shown}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="meter", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="write down what a meter shows")
    add.add_argument("meter")
    add.add_argument("shown", help="such as '1,204.5 kWh'; the unit may be left out")
    report = commands.add_parser("report", help="print what was used in each month")
    report.add_argument("meter")
    return parser
