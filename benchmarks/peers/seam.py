"""Defines a peer: a module of this folder with `run`, Job → Ran, which executes the graph in a process of its
own.

The clock runs from the first start of a task to the last end. What it needs installed, and how it is called,
is in all.py. In that process is nothing of coord but this folder and `layered`, so that a peer needs none of
coord's packages.
"""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    levels: int
    width: int
    url: str
    """URL of the Redis with an append-only file that coord uses in this run."""
    folder: str
    """An empty one."""


@dataclass(frozen=True)
class Ran:
    seconds: float
    note: str = ""


def main(peer: str, given: str) -> None:
    job = Job(**json.loads(given))
    ran = importlib.import_module(f"benchmarks.peers.{peer}").run(job)
    Path(job.folder, "ran.json").write_text(json.dumps(asdict(ran)))


if __name__ == "__main__":
    main(*sys.argv[1:])
