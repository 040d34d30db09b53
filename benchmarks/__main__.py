"""The benchmarks of speed, one after the other, as one table and one JSON: `python -m benchmarks [--json
FILE] [NAME …]`.

Each is a process of its own, and may be called alone: `python -m benchmarks.throughput`. One that fails is
shown as failed, and the others go on; then the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.report import STDOUT, machine, write

NAMES = ("throughput", "makespan", "scale", "latency", "cache", "startup")


def measured(name: str, short: bool, to_stderr: bool) -> dict[str, Any]:
    """Return the benchmark's output, or how it ended without output."""
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as folder:
        file = Path(folder) / "figures.json"
        words = [
            sys.executable,
            "-m",
            f"benchmarks.{name}",
            "--json",
            str(file),
            *(["--short"] if short else []),
        ]
        code = subprocess.run(words, stdout=sys.stderr if to_stderr else None, check=False).returncode
        found: dict[str, Any] = (
            json.loads(file.read_text()) if file.exists() else {"benchmark": name, "figures": []}
        )
        return {**found, "exit_code": code}


def main(names: list[str], short: bool, json_to: str | None) -> int:
    at_start = machine()
    parts = []
    for name in names:
        parts.append(measured(name, short, to_stderr=json_to == STDOUT))
        print(file=sys.stderr if json_to == STDOUT else sys.stdout, flush=True)
    if json_to:
        write(json_to, {"machine": at_start, "benchmarks": parts})
    return int(any(part["exit_code"] for part in parts))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; without one: all")
    parser.add_argument("--json", nargs="?", const=STDOUT, metavar="FILE", help="to stdout without FILE")
    parser.add_argument(
        "--short", action="store_true", help="seconds, to see that they run: their figures say nothing"
    )
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    sys.exit(main(options.names or list(NAMES), options.short, options.json))
