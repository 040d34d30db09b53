"""The cost of the journal for an edit and of events for a todo; the times of the history.

    python -m benchmarks.history [EVENTS] [--rounds N] [--only edit|emit|history]

`edit`: an edit of a file with 1,000 todos, in pairs, once as it was before there was a journal and once with
it, each first in turns; wall time, and the median of the differences of the pairs. `emit`: the
events of a todo (benchmarks/events.py). `history`: a database of EVENTS events with texts of 20 words out of
5,000, and searches drawn at random.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import events as benchmark_of_events
from benchmarks.load import ecosystem
from coordination.ecosystem import editing
from coordination.history.events import HistoryEvent
from coordination.history.search import HistoryFilters, search
from coordination.history.store import HistoryStore
from coordination.history.trends import trends

TODOS = 1000
BATCH = 5000
MOST_READ = 100_000
WORDS = [f"word{number}" for number in range(5000)]
KINDS = ("todo.completed", "todo.updated", "issue.created", "issue.closed")


def main(events: int, rounds: int, only: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if only in (None, "emit"):
            benchmark_of_events.main(TODOS)
        if only in (None, "edit"):
            print_edits(Path(folder), rounds)
        if only in (None, "history"):
            print_history(Path(folder), events)


def print_edits(folder: Path, rounds: int) -> None:
    pairs = list(edits(folder, rounds))
    whole = statistics.median(took for (took, _), _ in pairs)
    adds = statistics.median(writing - plain for (_, plain), (_, writing) in pairs)
    show("edit of 1,000 todos, without the journal", f"{whole:8.2f} ms")
    show(f"the journal adds (median of {len(pairs)} pairs)", f"{adds:8.2f} ms, {100 * adds / whole:.1f} %")


def edits(folder: Path, rounds: int) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """Yield the times of an edit, without the journal and with it."""
    files = [folder / name / "ecosystem.yaml" for name in ("without", "with")]
    for file in files:
        file.parent.mkdir()
        file.write_text(ecosystem(TODOS))
    for number in range(rounds):
        turns = (False, True) if number % 2 else (True, False)
        took = {recorded: edit(files[recorded], number, recorded=recorded) for recorded in turns}
        if number:  # the first one writes the journal's beginning, and reads modules
            yield took[False], took[True]


def edit(file: Path, number: int, *, recorded: bool) -> tuple[float, float]:
    """Return the wall time of an edit in ms, and that of its last part, which writes the file and the
    journal: the parts before are the same and vary by more than the journal takes.
    """
    writing = 0.0
    write = editing._write

    def timed(*change: Any) -> None:
        nonlocal writing
        began = time.perf_counter()
        write(*change)
        writing = time.perf_counter() - began

    without = mock.patch.object(editing, "_record")
    with mock.patch.object(editing, "_write", timed), nullcontext() if recorded else without:
        gc.collect()  # the objects of `mock` would be collected in the other turn
        began = time.perf_counter()
        editing.edit(file, lambda e: e.set(("todos", "TODO-00500"), "assignee", f"somebody {number}"))
        return (time.perf_counter() - began) * 1000, writing * 1000


def print_history(folder: Path, events: int) -> None:
    draw = random.Random(1)
    with HistoryStore(folder / "history.db") as store:
        began = time.perf_counter()
        for first in range(0, events, BATCH):
            store.add(made(draw, range(first, min(events, first + BATCH))), source="all", position=first)
        show("events written per second", f"{events / (time.perf_counter() - began):8.0f}")
        size = sum(part.stat().st_size for part in folder.glob("history.db*"))
        show("bytes per event", f"{size / events:8.0f}")
        began, read = time.perf_counter(), sum(1 for _ in islice(store.every(), MOST_READ))
        show("events read per second", f"{read / (time.perf_counter() - began):8.0f}")
        for name, asked in questions(store, draw):
            show(name, f"p50 {asked[0]:6.1f} ms, p99 {asked[1]:6.1f} ms")


def show(name: str, figure: str) -> None:
    print(f"{name:<44} {figure}", flush=True)


def made(draw: random.Random, numbers: range) -> Iterator[HistoryEvent]:
    now = datetime.now(UTC)
    for number in numbers:
        yield HistoryEvent(
            id=f"event{number}",
            at=now - timedelta(seconds=30 * number),
            kind=draw.choice(KINDS),
            subject=f"TODO-{draw.randrange(20_000):05}",
            title=" ".join(draw.choices(WORDS, k=6)),
            actor="ann@host",
            repos=(f"repo{draw.randrange(50)}",),
            record={
                "assignee": draw.choice("abcdef"),
                "description": " ".join(draw.choices(WORDS, k=20)),
                "created": "2026-01-01",
            },
        )


def questions(store: HistoryStore, draw: random.Random) -> Iterator[tuple[str, tuple[float, float]]]:
    def name() -> str:
        return f"TODO-{draw.randrange(20_000):05}"

    asked: dict[str, Callable[[], object]] = {
        "search for an id": lambda: search(store, name()),
        "search for a word": lambda: search(store, draw.choice(WORDS)),
        "search for two words": lambda: search(store, " ".join(draw.choices(WORDS, k=2))),
        "search for a word in one repository": lambda: search(
            store, draw.choice(WORDS), HistoryFilters(repo="repo7")
        ),
        "history of one record": lambda: search(store, filters=HistoryFilters(subject=name())),
        "trends of 30 days": lambda: trends(store, now=datetime.now(UTC)),
    }
    for what, ask in asked.items():
        took = []
        for _ in range(10 if "trends" in what else 200):
            began = time.perf_counter()
            ask()
            took.append((time.perf_counter() - began) * 1000)
        took.sort()
        yield what, (took[len(took) // 2], took[int(len(took) * 0.99)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.history", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("events", nargs="?", type=int, default=1_000_000, metavar="EVENTS")
    parser.add_argument("--rounds", type=int, default=40, metavar="N")
    parser.add_argument("--only", choices=("edit", "emit", "history"))
    options = parser.parse_args()
    main(options.events, max(2, options.rounds), options.only)
