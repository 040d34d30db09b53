"""A run on the screen while it goes on: a line for each todo that ends, what is waited for, a bar on a terminal.

Nothing here belongs to the run: whoever stops looking, or is killed, changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from coordination.cli.summary import line
from coordination.runs.progress import Event
from coordination.runs.records import RunStatus, RunView, TodoState
from coordination.runs.service import Runs
from coordination.wire.connection import NO_ROOM

LOOK_S = 2.0
"""How often a quiet run is asked what it waits for."""
SHOWN_WAITS = 3
SERVE = "coord worker --repo {repo}=PATH where it lies; or, with the server of this folder: coord down, coord up"
WAITS = {TodoState.PARKED, TodoState.DISPATCHED}
PARKED = f"todo.{TodoState.PARKED}"
ENDS = {f"todo.{state}" for state in TodoState if state.ended}
TOLD = {*ENDS, f"todo.{TodoState.RETRYING}"}


class Following:
    def __init__(self, runs: Runs, run_id: str) -> None:
        self._runs = runs
        self._run_id = run_id
        self._console = Console(stderr=True, highlight=False)
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._seen = "0"
        self._waits: dict[str, float] = {}
        self._looked = time.monotonic()

    def until_the_end(self) -> RunView:
        """Shows the run until it has ended. May be called again after an interruption: it goes on where it was."""
        with self._shown():
            for event in self._runs.follow(self._run_id, self._seen):
                if event is None:
                    self._look()
                else:
                    self._seen = event.id
                    self._tell(event)
        return self._runs.read(self._run_id)

    @contextmanager
    def _shown(self) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as self._progress:
            counts = self._runs.reader.read(self._run_id, todos=False).counts
            ended = sum(n for state, n in counts.items() if TodoState(state).ended) if self._seen != "0" else 0
            self._bar = self._progress.add_task(self._run_id, total=sum(counts.values()), completed=ended)
            yield

    def _tell(self, event: Event) -> None:
        if event.what == "todo.lost":
            self._print(f"! {event.todo} lost its worker {event.fields.get('worker')}: it is taken up again")
        elif event.what == "redis.restarted":
            self._print("! Redis was restarted: leases are given time to renew")
        elif event.what == PARKED:
            self._looked -= LOOK_S  # why is told at the first quiet moment: most are not parked for as long as that
        elif event.what in TOLD:
            # As it was then: an ended run is watched from its first event on.
            todo = self._runs.reader.todo(self._run_id, event.todo)
            self._print(line(todo.model_copy(update={"state": TodoState(event.what.removeprefix("todo."))})))
        if event.what in ENDS and self._progress is not None and self._bar is not None:
            self._progress.advance(self._bar)

    def _look(self) -> None:
        """Say what a quiet run waits for: once as a line, and on a terminal for how long."""
        if time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        found = self._found_waits()
        for words in found:
            if words not in self._waits:
                self._print(f"· {words}")
        self._waits = {words: self._waits.get(words, self._looked) for words in found}
        if self._progress is not None and self._bar is not None:
            longest = min(self._waits.values(), default=self._looked)
            what = f"  waiting for {self._looked - longest:.0f} s" if self._waits else ""
            self._progress.update(self._bar, description=f"{self._run_id}{what}")

    def _found_waits(self) -> list[str]:
        run = self._runs.reader.read(self._run_id)
        todos = run.todos
        if run.status is RunStatus.PAUSED:
            return [f"the run is paused: coord resume {self._run_id}"]
        needed = {t.repo for t in todos if t.state is TodoState.DISPATCHED}
        without = self._runs.presence.unserved(needed)
        unserved = [f"no worker serves {repo}: {SERVE.format(repo=repo)}" for repo in without]
        # While something of the run goes on, that others wait for their turn with a worker is no news.
        told = {TodoState.PARKED} if any(t.state is TodoState.RUNNING for t in todos) else WAITS
        shown = [t for t in todos if t.waits_for and t.state in told and t.repo not in without]
        waiting = [f"{t.id} waits for {t.waits_for}" for t in shown]
        more = len(waiting) - SHOWN_WAITS
        if self._runs.no_room():
            unserved.insert(0, f"Redis cannot write to its disk, so nothing goes on: {NO_ROOM}")
        return [*unserved, *waiting[:SHOWN_WAITS], *([f"{more} more todos wait"] if more > 0 else [])]

    def _print(self, what: object) -> None:
        self._console.print(what, soft_wrap=True)
