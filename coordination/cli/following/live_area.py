"""The end of the screen while a run is followed: a bar, the running todos and their output, the waits.

It is drawn ten times a second from what was read last; durations go on in between.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as ProgressBar
from rich.table import Column, Table
from rich.text import Text

from coordination.api import TodoView
from coordination.cli.following.summary import SHOWN_RUNNING, Wait, format_wait
from coordination.cli.screen.tables import COLOURS, plain
from coordination.cli.times import how_long
from coordination.states import mark_of, tone_of
from coordination.terminal import spelled

SHOWN_WAITS = 8
WIDE = 100
"""Width from which on the bar has its full length, and running todos have their tasks beside the output."""
LONGEST_NAME = 24
"""Cells of an id and of a repository; of a narrow terminal, each has a fifth at most."""


@dataclass(frozen=True, kw_only=True)
class RunningLine:
    """A running todo, its task, and the last line that it has written; empty where it has written nothing."""

    todo: TodoView
    task: str
    said: str
    read_at: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> str:
        lasted = (self.todo.duration_s or 0.0) + time.monotonic() - self.read_at
        minutes, seconds = divmod(int(lasted), 60)
        return f"{minutes} min {seconds} s" if 2 <= minutes < 60 else how_long(timedelta(seconds=int(lasted)))


class LiveArea(ProgressBar):
    """The bar of a run, its running todos and its waits."""

    running: Sequence[RunningLine] = ()
    """Longest running first."""
    waiting: Sequence[Wait] = ()

    def __init__(self, console: Console) -> None:
        super().__init__(*_columns(wide=console.width >= WIDE), console=console, transient=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if running := self.running:
            yield _table(running[:SHOWN_RUNNING], self.console.width)
            if (more := len(running) - SHOWN_RUNNING) > 0:
                yield Text(f"▶ and {more} more")
        for wait in self.waiting[:SHOWN_WAITS]:
            yield Text(spelled(format_wait(wait, datetime.now(UTC))))
        if (more := len(self.waiting) - SHOWN_WAITS) > 0:
            yield Text(f"· and {more} more")


def _columns(*, wide: bool) -> Sequence[ProgressColumn]:
    return (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=40 if wide else 12),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[progress]}", markup=False),
    )


def _table(running: Sequence[RunningLine], width: int) -> Table:
    """Return a line for each todo: `▶ TODO-048  auth  7 min 2 s  Test auth  pass 420 of 900`. In a narrow
    terminal the output replaces the task.
    """
    wide, name = width >= WIDE, min(LONGEST_NAME, max(1, width // 5))
    table = Table.grid(
        _column(name),
        _column(name),
        _column(),
        *([_column(ratio=2)] if wide else []),
        _column(ratio=3),
        padding=(0, 2, 0, 0),
        expand=True,
    )
    for one in running:
        task, said = plain(one.task), plain(spelled(one.said))
        rest = (task, said) if wide else (said or task,)
        mark = (mark_of(one.todo.state), COLOURS[tone_of(one.todo.state)])
        todo = Text.assemble(mark, f" {plain(one.todo.id)}")
        table.add_row(todo, Text(plain(one.todo.repo), "bold"), one.elapsed, *map(Text, rest))
    return table


def _column(longest: int | None = None, *, ratio: int | None = None) -> Column:
    return Column(no_wrap=True, overflow="ellipsis", max_width=longest, ratio=ratio)
