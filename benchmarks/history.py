"""The cost of the journal for an edit and of events for a todo; the times of the history.

    python -m benchmarks.history [EVENTS] [--rounds N]

An edit of a file with 1,000 todos is made with and without the journal, in turns; the difference of the
medians counts. The events have texts of 20 words out of 5,000. Searches are drawn at random.
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
from pathlib import Path
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
WORDS = [f"word{number}" for number in range(5000)]
KINDS = ("todo.completed", "todo.updated", "issue.created", "issue.closed")


def main(events: int, rounds: int) -> None:
    benchmark_of_events.main(TODOS)
    draw = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        plain, recorded = edits(Path(folder), rounds)
        print(f"{'edit of 1,000 todos, without the journal':<44} {plain:8.2f} ms")
        print(f"{'the journal adds':<44} {recorded - plain:8.2f} ms")
        with HistoryStore(Path(folder) / "history.db") as store:
            began = time.perf_counter()
            for first in range(0, events, BATCH):
                store.add(made(draw, range(first, min(events, first + BATCH))), source="all", position=first)
            print(f"{'events written per second':<44} {events / (time.perf_counter() - began):8.0f}")
            size = sum(part.stat().st_size for part in Path(folder).glob("history.db*"))
            print(f"{'bytes per event':<44} {size / events:8.0f}")
            for name, asked in questions(store, draw):
                print(f"{name:<44} p50 {asked[0]:6.1f} ms, p99 {asked[1]:6.1f} ms")


def edits(folder: Path, rounds: int) -> tuple[float, float]:
    """Return the median of an edit in ms, without and with the journal."""
    files = [folder / name / "ecosystem.yaml" for name in ("without", "with")]
    for file in files:
        file.parent.mkdir()
        file.write_text(ecosystem(TODOS))
    took: tuple[list[float], list[float]] = ([], [])
    for number in range(2 * rounds):
        without = mock.patch.object(editing, "_recorded", return_value=nullcontext())
        with nullcontext() if number % 2 else without:
            gc.collect()  # the objects of `mock` would be collected in the other turn
            began = time.perf_counter()
            editing.edit(
                files[number % 2],
                lambda e, n=number: e.set(("todos", "TODO-00500"), "assignee", f"somebody {n}"),
            )
            took[number % 2].append((time.perf_counter() - began) * 1000)
    return statistics.median(took[0]), statistics.median(took[1])


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
    options = parser.parse_args()
    main(options.events, options.rounds)
