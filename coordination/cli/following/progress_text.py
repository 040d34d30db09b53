"""The progress of a live run as text: how far it is, when it ends, what runs, waits and comes next; the todos
of a run by level. Pure but for the tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from coordination.api import NoEta, Progress, RunView, TodoView, WaitReason, levels_of
from coordination.cli.following.summary import cells_of, state_cell
from coordination.cli.screen.tables import plain, print_table
from coordination.cli.times import format_time, how_long, with_local_times
from coordination.text import counted, listed

SHOWN = 8
"""Largest number of running or waiting todos that are named."""
SHORT = timedelta(seconds=10)


def brief(progress: Progress) -> str:
    """Return `42 % done, about 3 min left`, for a bar or a line that is printed now and then."""
    done = f"{int(progress.percent)} % done"
    if progress.eta is None or progress.left_s is None:
        return done
    return f"{done}, {_left(progress)} left"


def _left(progress: Progress) -> str:
    """Return `about 3 min`, or `at least 3 min`; a few seconds are not told apart."""
    if progress.left_s is None:
        return ""
    left = timedelta(seconds=round(progress.left_s))
    some = "a few seconds" if left < SHORT else how_long(left)
    return f"at least {some}" if progress.at_least else some if left < SHORT else f"about {some}"


def progress_lines(progress: Progress) -> Iterator[str]:
    """Yield the lines of a live run that `show-run` prints above its todos."""
    yield _end(progress)
    for todo in progress.running[:SHOWN]:
        where = f"{todo.repo}, {plain(todo.host)}" if todo.host else todo.repo
        took = "" if todo.running_s is None else f" for {how_long(timedelta(seconds=todo.running_s))}"
        since = f"since {format_time(todo.since)}" if todo.since else ""
        yield f"running  {todo.id} ({where}) {since}{took}"
    if (more := len(progress.running) - SHOWN) > 0:
        yield f"running  and {more} more"
    for wait in progress.waiting[:SHOWN]:
        if wait.reason is not WaitReason.SLOT:
            others = f" and {wait.count - 1} more" if wait.count > 1 else ""
            yield f"waiting  {wait.todos[0]}{others}: {plain(with_local_times(wait.waits_for))}"
    if progress.next:
        texts = (f"{todo.id} after {listed(todo.after)}" if todo.after else todo.id for todo in progress.next)
        yield f"next     {'; '.join(texts)}"


def _end(progress: Progress) -> str:
    done = f"{progress.percent:g} % done"
    left = _left(progress)
    asked = (
        f", without the time of {counted(progress.approvals, 'approval')}"
        if progress.approvals and left
        else ""
    )
    if progress.eta is not None:
        until = f"until {format_time(datetime.fromisoformat(progress.eta))}"
        return f"{done}, {left} left, {until}{' or later' if progress.at_least else ''}{asked}"
    why = plain(with_local_times(progress.why_no_eta or ""))
    further = f"; then {left} more{asked}" if left and progress.no_eta is not NoEta.STUCK else ""
    return f"{done}, end unknown: {why}{further}"


def print_levels(run: RunView) -> None:
    """Print the todos by level, each level with its state and counts."""
    todos = {todo.id: todo for todo in run.todos}
    columns = ("todo", "repo", "state", "try", "time", "why")
    rows: list[tuple[object, ...]] = []
    for level in levels_of(run):
        counts = ", ".join(f"{n} {state}" for state, n in level.counts.items())
        rows.append((f"level {level.level}", "", state_cell(level.state), "", "", counts))
        rows += [_row(todos[name], columns) for name in level.todos]
    print_table(columns, rows)


def _row(todo: TodoView, columns: tuple[str, ...]) -> tuple[object, ...]:
    shown = {**cells_of(todo), "todo": f"  {todo.id}"}
    return tuple(shown[name] for name in columns)
