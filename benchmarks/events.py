"""The cost of events for a claim with its settle: the same steps with and without the stream, in turns.

    python -m benchmarks.events [--todos N]

Two runs of N independent todos are executed on one embedded server (append-only file, appendfsync everysec)
by one client, in blocks that alternate. The library of the second one writes no events, but puts their
fields together; all else is the same. The ratio is the median of the ratios of neighbouring blocks, of the
time that the client sees and of the processor time of Redis.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from unittest import mock

from redis import Redis

from benchmarks.clock import seconds
from coordination.backend import library
from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps import Step
from coordination.models import Coordination, Ecosystem, OnFailure, Plan, Repo, ShellAction, Strategy, Todo
from coordination.planner.graph import build
from coordination.runs.records import Result, TodoState
from coordination.runs.store import RunStore
from coordination.runs.submission.order import Order
from coordination.settings import Settings
from tests.engine import submit

R = TypeVar("R")
PLAN = "PLAN-001"
LEASE = timedelta(minutes=1)
BLOCK = 10
SETTINGS = Settings()
CALLED = "redis.pcall('XADD', head .. KEY.events,"


class OneLibrary(StepCaller):
    """Calls the steps of one library, whatever the current one is."""

    def __init__(self, client: Redis, digest: str) -> None:
        super().__init__(client)
        self._digest = digest

    def __call__(self, step: Step[R], keys: Sequence[str]) -> R:
        current, *words = library.fcall(step, keys)
        function = f"{str(current).rpartition('_')[0]}_{self._digest}"
        return step.result(self._client.fcall(function, *words))


@contextmanager
def silent() -> Iterator[None]:
    """Build the library without the call that writes an event."""
    read = library._read

    def changed(name: str) -> str:
        return read(name).replace(f"return {CALLED}", f"if true then return '' end return {CALLED}")

    with mock.patch.object(library, "_read", changed):
        forget()
        yield
    forget()


def forget() -> None:
    for made in (library._body, library.digest, library.function):
        made.cache_clear()


@dataclass(frozen=True, kw_only=True)
class Side:
    store: RunStore
    run_id: str
    digest: str
    took: list[float]
    inside: list[float]


def begin(client: Redis, namespace: str, n: int) -> Side:
    library.load(client, "")
    digest = library.digest()
    store = RunStore(client, namespace, OneLibrary(client, digest))
    todos = tuple(
        Todo(id=f"t{i}", task="n", repo=f"repo-{i}", plan=PLAN, action=ShellAction(type="shell", run="true"))
        for i in range(n)
    )
    eco = Ecosystem(
        repos=tuple(Repo(name=todo.repo) for todo in todos),
        coordination=Coordination(plans=(Plan(id=PLAN, title="a benchmark"),), todos=todos),
    )
    order = Order(
        strategy=Strategy.DATAFLOW, reason="", on_failure=OnFailure.CONTINUE, max_parallel=None, actor="b"
    )
    run_id, _ = submit(store, build(eco, PLAN), eco, SETTINGS, order)
    while (piece := store.next_batch(run_id)) is not None:
        store.execute_batch(run_id, piece)
    return Side(store=store, run_id=run_id, digest=digest, took=[], inside=[])


def execute(side: Side, numbers: range) -> None:
    for i in numbers:
        grant = side.store.claim(side.run_id, f"t{i}", 1, worker="w", host="h", lease=LEASE).grant
        assert grant is not None
        assert side.store.settle(grant, Result(outcome=TodoState.SUCCEEDED, exit_code=0)).word == "settled"


def compare(client: Redis, n: int) -> tuple[Side, Side]:
    """Return the two sides: with events, and without."""
    loud = begin(client, "loud", n)
    with silent():
        quiet = begin(client, "quiet", n)
    for number, first in enumerate(range(0, n, BLOCK)):
        sides = (loud, quiet) if number % 2 else (quiet, loud)
        for side in sides:
            numbers = range(first, min(first + BLOCK, n))
            before = _cpu_us(client)
            side.took.append(seconds(lambda s=side, r=numbers: execute(s, r)) / len(numbers))  # type: ignore[misc]
            side.inside.append((_cpu_us(client) - before) / len(numbers))
    return loud, quiet


def _cpu_us(client: Redis) -> float:
    used = client.info("cpu")
    return 1e6 * float(used["used_cpu_user_main_thread"] + used["used_cpu_sys_main_thread"])


def main(n: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = EmbeddedServer(Path(folder), SETTINGS)
        try:
            with connect(server.start(), Profile.WORKER) as client:
                loud, quiet = compare(client, n)
                size = client.memory_usage("loud:events", samples=0)
                count = client.xlen("loud:events")
                assert client.xlen("quiet:events") == 0
        finally:
            server.stop()
    for name, with_, without in (
        ("claim and settle, seen by the client", [1e6 * t for t in loud.took], [1e6 * t for t in quiet.took]),
        ("claim and settle, processor time of Redis", loud.inside, quiet.inside),
    ):
        ratio = statistics.median(one / other for one, other in zip(with_, without, strict=True))
        low, high = statistics.median(without), statistics.median(with_)
        print(f"{name:<42} {low:7.1f} µs without events, {high:7.1f} with; in pairs x {ratio:.3f}")
    print(f"{'events of a todo':<42} {count / n:7.2f}, {size / count:.0f} bytes each")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.events", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--todos", type=int, default=5000, metavar="N")
    main(parser.parse_args().todos)
