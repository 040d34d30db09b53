"""A run in words: a line for a todo that ended, a table at the end, and the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from socket import gethostname
from types import MappingProxyType
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from coordination.cli.screen.output import print_json
from coordination.cli.screen.tables import Cell, plain, print_table
from coordination.runs.records import RunStatus, RunView, TodoState, TodoView
from coordination.terminal import spelled

SOME_FAILED = 3
BLOCKED = 5
INTERRUPTED = 130
NOTHING: Mapping[str, Any] = MappingProxyType({})

MARKS = {
    TodoState.SUCCEEDED: ("✓", "green"),
    TodoState.FAILED: ("✗", "red"),
    TodoState.SKIPPED: ("-", "yellow"),
    TodoState.CANCELLED: ("-", "yellow"),
    TodoState.RETRYING: ("↻", "yellow"),
    TodoState.RUNNING: ("▶", "cyan"),
    TodoState.COMPENSATING: ("↶", "cyan"),
    TodoState.COMPENSATED: ("↶", "yellow"),
    TodoState.COMPENSATION_FAILED: ("✗", "red bold"),
}
CACHED = "cached"
"""What a todo that succeeded is called that did not run."""
UNDOING = frozenset({TodoState.COMPENSATING, TodoState.COMPENSATED, TodoState.COMPENSATION_FAILED})
BACK = frozenset({RunStatus.ROLLING_BACK, RunStatus.ROLLED_BACK, RunStatus.ROLLBACK_FAILED})


def exit_code(run: RunView) -> int:
    """0: all succeeded. 3: some failed, or all was undone. 5: blocked from outside, nothing failed. 1: cancelled."""
    if run.status is RunStatus.FAILED or run.status in BACK:
        return SOME_FAILED
    if run.status is RunStatus.CANCELLED:
        return 1
    return BLOCKED if run.counts.get(TodoState.SKIPPED) else 0


def line(todo: TodoView) -> Text:
    """`✓ TODO-001  units  0.4 s`"""
    mark, colour = MARKS.get(todo.state, ("·", "white"))
    text = Text.assemble((mark, colour), f" {todo.id}  ", (plain(todo.repo), "bold"))
    if todo.state in UNDOING:
        return text.append(f"  {plain(_undone(todo))}", colour)
    if todo.duration_s is not None:
        text.append(f"  {todo.duration_s:.1f} s")
    if shown(todo) == CACHED:
        text.append(f"  {CACHED} {plain(reason(todo))}", colour)
    elif todo.state is not TodoState.SUCCEEDED and (why := plain(reason(todo))):
        text.append(f"  {why}" if why.startswith(todo.state) else f"  {todo.state}: {why}", colour)
    return text


def shown(todo: TodoView) -> str:
    """Its state, as people read it."""
    return CACHED if todo.cached and todo.state is TodoState.SUCCEEDED else todo.state


def _undone(todo: TodoView) -> str:
    """`undone  0.2 s`, `could not be undone: exit code 1`"""
    if todo.state is TodoState.COMPENSATION_FAILED:
        return f"could not be undone: {reason(todo)}"
    if todo.state is TodoState.COMPENSATING:
        return f"not undone yet: {reason(todo)}"
    took = "" if todo.undo_s is None else f"  {todo.undo_s:.1f} s"
    return reason(todo) if todo.accepted else f"undone{took}"


def reason(todo: TodoView) -> str:
    """Why it is where it is: an error's first line, what it waits for, or the run in which it was done."""
    if todo.state is TodoState.SUCCEEDED:
        if todo.cached:
            return f"from {todo.cached.todo} of run {todo.cached.run}"
        return f"done in run {todo.run}" if todo.run else ""
    if todo.accepted:
        return f"accepted by {todo.accepted_by}: {todo.accepted}"
    if todo.state is TodoState.COMPENSATED:
        return f"had {todo.was}" if todo.was is TodoState.SUCCEEDED else f"was {todo.was}"
    if todo.state is TodoState.COMPENSATING:
        return (todo.waits_for or todo.error or "").partition("\n")[0]
    words = todo.error if todo.state.ended or todo.state is TodoState.RETRYING else todo.waits_for
    return (words or "").partition("\n")[0]


def print_run(run: RunView, *, as_json: bool, beside: Mapping[str, Any] = NOTHING) -> None:
    """`beside`: further fields of the JSON."""
    if as_json:
        print_json({**run.model_dump(), **beside} if beside else run)
        return
    by = f" by {plain(run.steered_by)}," if run.steered_by else ""
    status = (run.status, _colour(run.status))
    head = Text.assemble(f"run {run.run_id} of {run.plan_id} ", status, f"{by} {_figures(run)}")
    Console(highlight=False).print(head, soft_wrap=True)
    if run.internal_error:
        Console(highlight=False).print(Text(spelled(internal_error(run.internal_error)), "red"), soft_wrap=True)
    if run.timed_out:
        click.echo(f"it {spelled(run.timed_out)}")
    elif run.timeout_s is not None and not run.status.ended:
        click.echo(f"it is ended after {run.timeout_s:g} s")
    if run.rollback:
        click.echo(f"undone since {spelled(run.rollback)}")
    columns = ["todo", "repo", "host", "state", "try", "time", "why"]
    if not any(elsewhere(todo) for todo in run.todos):
        columns.remove("host")
    if not any(reason(todo) for todo in run.todos):
        columns.remove("why")
    print_table(columns, [[cells[name] for name in columns] for cells in map(_cells, run.todos)])


def internal_error(words: str) -> str:
    return f"internal error: {words}; please report it with that"


def elsewhere(todo: TodoView) -> bool:
    """Whether it was carried out on another machine than this one."""
    return todo.host not in ("", gethostname())


def _cells(todo: TodoView) -> Mapping[str, object]:
    return {
        "todo": todo.id,
        "repo": todo.repo,
        "host": todo.host,
        "state": Cell(shown(todo), MARKS.get(todo.state, ("", ""))[1]),
        "try": todo.attempt if todo.started_at else "",
        "time": "" if todo.duration_s is None else f"{todo.duration_s:.1f} s",
        "why": reason(todo),
    }


def _figures(run: RunView) -> str:
    took = "" if run.duration_s is None else f" in {run.duration_s:.1f} s"
    bound = "" if run.bound_s is None else f" (no schedule could take less than {run.bound_s:.1f} s)"
    return f"by {run.strategy}{took}{bound}: {figures(run)}"


def figures(run: RunView) -> str:
    """`4 succeeded (3 of them cached), 1 failed`"""
    return ", ".join(f"{n} {state}{_cached(run, state)}" for state, n in run.counts.items())


def _cached(run: RunView, state: str) -> str:
    return f" ({run.cached} of them {CACHED})" if run.cached and state == TodoState.SUCCEEDED else ""


def _colour(status: RunStatus) -> str:
    red = (RunStatus.FAILED, RunStatus.ROLLBACK_FAILED)
    return "green" if status is RunStatus.SUCCEEDED else "red" if status in red else "yellow"
