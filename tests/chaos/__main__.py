"""The long form of the harness: `python -m tests.chaos [--minutes N] [--only NAME,NAME]`, or `make chaos
MINUTES=… ONLY=…`.

Each part prints its figures when it has ended; a table of all parts follows. The exit code is 1 if anything
was lost, done twice or done too early. A part is a module or class with FAULT (its name), DOES (its effect on
coord) and `main(minutes) -> Figures`; `minutes` limits the parts that have no end of their own.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Iterable
from importlib import import_module
from typing import Protocol, cast

from tests.chaos.figures import Figures

PARTS = {
    "storm": "tests.chaos.storms:KillStorm",
    "restarts": "tests.chaos.outages:Restarts",
    "lines": "tests.chaos.outages:Lines",
    "everything": "tests.chaos.everything",
    "takeover": "tests.chaos.takeover",
    "git": "tests.chaos.storms:GitKills",
    "disk": "tests.chaos.storms:FullDisk",
    "restores": "tests.chaos.storms:Restores",
    "guards": "tests.chaos.storms:GuardKills",
    "hostile": "tests.chaos.hostile",
    "soak": "tests.chaos.soak",
    "failpoints": "tests.chaos.failpoints.sweep",
    "histories": "tests.chaos.histories",
    "planted": "tests.chaos.planted",
}
"""Name → module, or class of a module, in the order in which they run."""
MINUTES = 10.0


class Part(Protocol):
    FAULT: str
    DOES: str

    def main(self, minutes: float) -> Figures: ...


def main(minutes: float, only: Iterable[str]) -> int:
    rows = []
    for name in only:
        module, _, storm = PARTS[name].partition(":")
        part = cast(Part, getattr(import_module(module), storm) if storm else import_module(module))
        began = time.monotonic()
        figures = _figures(part, minutes)
        rows.append((part.FAULT, part.DOES, figures))
        _say(name, figures, time.monotonic() - began)
    print("\n| fault | what it does | measured | wrong | late |\n|---|---|---|---|---|")
    for fault, does, figures in rows:
        print(f"| {fault} | {does} | {figures.measured} | {len(figures.wrong)} | {len(figures.late)} |")
    return 1 if any(figures.wrong or figures.late for _, _, figures in rows) else 0


def _figures(part: Part, minutes: float) -> Figures:
    try:
        return part.main(minutes)
    except Exception:  # noqa: BLE001 (a crashed part is a finding, and the others still run)
        return Figures(measured="it fell over", wrong=[traceback.format_exc()])


def _say(name: str, figures: Figures, took_s: float) -> None:
    failed = ", ".join(
        f"{len(them)} {what}" for them, what in ((figures.wrong, "WRONG"), (figures.late, "LATE")) if them
    )
    print(f"{name}: {failed or 'ok'} in {took_s:.0f} s: {figures.measured}", flush=True)
    for words in (*figures.wrong, *figures.late):
        print(f"  {words}", flush=True)


def _names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(
            f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}"
        )
    return names


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="N")
    parser.add_argument(
        "--only", type=_names, default=list(PARTS), metavar="NAME,NAME", help=", ".join(PARTS)
    )
    words = parser.parse_args()
    sys.exit(main(words.minutes, words.only or PARTS))
