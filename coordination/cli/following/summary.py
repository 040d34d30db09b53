"""A run as text: a line for each todo that ended, a table, the exit code; the waits of a run and when to
repeat them. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from socket import gethostname
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from coordination.api import RunStatus, RunView, TodoState, TodoView, WaitReason, is_landing, last_lines
from coordination.cli.screen.output import print_json
from coordination.cli.screen.tables import COLOURS, plain, print_table
from coordination.cli.times import how_long, with_local_times
from coordination.declared import Cell
from coordination.errors import ExitCode
from coordination.states import Tone, mark_of, tone_of
from coordination.terminal import spelled
from coordination.text import counted, listed, shortened

if TYPE_CHECKING:  # rich takes 25 ms, and a list of runs prints none of it
    from rich.text import Text

    from coordination.api.planning import Workplaces

NOTHING: Mapping[str, Any] = MappingProxyType({})

LONGEST_TASK = 60
"""Characters of a task in a line."""
CACHED = "cached"
"""State of a todo that succeeded by the result cache."""
UNDOING = frozenset({TodoState.COMPENSATING, TodoState.COMPENSATED, TodoState.COMPENSATION_FAILED})
BACK = frozenset({RunStatus.ROLLING_BACK, RunStatus.ROLLED_BACK, RunStatus.ROLLBACK_FAILED})


def exit_code(run: RunView) -> int:
    """Return the exit code of a run: 0 if all todos succeeded; 3 if one failed or the run was undone; 5 if
    todos were blocked from outside and none failed; 1 if the run was cancelled.
    """
    if run.status is RunStatus.FAILED or run.status in BACK:
        return ExitCode.FAILED
    if run.status is RunStatus.CANCELLED:
        return ExitCode.ERROR
    return ExitCode.BLOCKED if run.counts.get(TodoState.SKIPPED) else ExitCode.SUCCESS


def line(todo: TodoView, task: str = "") -> Text:
    """Return `✓ TODO-001  units  Test units  0.4 s`."""
    from rich.text import Text

    colour = COLOURS[tone_of(todo.state)]
    text = Text.assemble((mark_of(todo.state), colour), f" {todo.id}  ", (plain(todo.repo), "bold"))
    text.append(titled(task))
    if todo.state in UNDOING:
        return text.append(f"  {plain(_undone(todo))}", colour)
    if todo.duration_s is not None:
        text.append(f"  {todo.duration_s:.1f} s")
    if state_text(todo) == CACHED:
        text.append(f"  {CACHED} {plain(reason(todo))}", colour)
    elif todo.state is not TodoState.SUCCEEDED and (why := plain(reason(todo))):
        text.append(f"  {why}" if why.startswith(todo.state) else f"  {todo.state}: {why}", colour)
    return text


def no_task(_todo: str) -> str:
    """Return the task of a todo where no run is asked: none."""
    return ""


def titled(task: str) -> str:
    """Return the task as it follows the repository of a todo; empty where it is not known."""
    return f"  {shortened(plain(task), LONGEST_TASK)}" if task else ""


def end_of_output(tail: str) -> Iterator[str]:
    """Yield the last lines of an output as they follow the line of a failed todo."""
    yield from (f"  | {text}" for text in last_lines(tail))


def state_text(todo: TodoView) -> str:
    """Return the state of a todo for people."""
    return CACHED if todo.cached and todo.state is TodoState.SUCCEEDED else todo.state


def _undone(todo: TodoView) -> str:
    """Return `undone 0.2 s`, or `could not be undone: exit code 1`."""
    if todo.state is TodoState.COMPENSATION_FAILED:
        return f"could not be undone: {reason(todo)}"
    if todo.state is TodoState.COMPENSATING:
        return f"not undone yet: {reason(todo)}"
    took = "" if todo.undo_s is None else f"  {todo.undo_s:.1f} s"
    return reason(todo) if todo.accepted else f"undone{took}"


def reason(todo: TodoView) -> str:
    """Return the reason of a state: the first line of an error, a wait, or the run in which it was done."""
    if todo.state is TodoState.SUCCEEDED:
        if todo.cached:
            return f"from {todo.cached.todo} of run {todo.cached.run}"
        return f"done in run {todo.run}" if todo.run else ""
    if todo.accepted:
        return f"accepted by {todo.accepted_by}: {todo.accepted}"
    if todo.state is TodoState.COMPENSATED:
        return f"had {todo.was}" if todo.was is TodoState.SUCCEEDED else f"was {todo.was}"
    if todo.state is TodoState.COMPENSATING:
        return with_local_times(todo.waits_for or todo.error or "").partition("\n")[0]
    text = todo.error if todo.state.ended or todo.state is TodoState.RETRYING else todo.waits_for
    return with_local_times(text or "").partition("\n")[0]


def print_run(run: RunView, *, as_json: bool) -> None:
    """Print the run with a table of its todos."""
    if as_json:
        print_json(run)
        return
    print_head(run)
    print_todos(run)


def print_unwritten(run: RunView) -> None:
    """Print why the results of an ended run are not in the file yet."""
    if run.unwritten:
        text = f"the results are not in the file: {run.unwritten}; then: coord run sync {run.run_id}"
        _print_toned((spelled(text), Tone.HELD))


def print_todos(run: RunView) -> None:
    run = without_repeated_reasons(run)
    columns = ["todo", "repo", "host", "state", "try", "time", "used", "why"]
    if not any(elsewhere(todo) for todo in run.todos):
        columns.remove("host")
    if not run.usage:
        columns.remove("used")
    if not any(reason(todo) for todo in run.todos):
        columns.remove("why")
    print_table(columns, [[cells[name] for name in columns] for cells in map(cells_of, run.todos)])


def without_repeated_reasons(run: RunView) -> RunView:
    """Return a landing run whose skipped todos name the failed one, whose reason stands there already."""
    if not is_landing(run.plan_id):
        return run
    todos = [
        todo.model_copy(update={"error": short_cause(todo.error)})
        if todo.state is TodoState.SKIPPED and todo.error
        else todo
        for todo in run.todos
    ]
    return run.model_copy(update={"todos": todos})


def short_cause(why: str) -> str:
    """Return the todo that failed, without its reason: `PLAN-001.check.api failed`."""
    todo, failed, _ = why.partition(" failed: ")
    return f"{todo} failed" if failed else why


def print_end(run: RunView, *, as_json: bool, extra: Mapping[str, Any] = NOTHING) -> None:
    """Print an ended run whose todos were printed as they ended. `extra`: further fields of the JSON."""
    if as_json:
        print_json({**run.model_dump(), **extra} if extra else run)
    else:
        print_head(run)


def print_head(run: RunView, *, schedule: bool = False) -> None:
    """`schedule`: with the strategy, and the least time that any schedule takes."""
    status = (run.status, tone_of(run.status))
    figures = _figures(run, schedule=schedule)
    _print_toned(f"run {run.run_id} of {run.plan_id} ", status, f"{figures}: {format_counts(run)}")
    if run.internal_error:
        _print_toned((spelled(internal_error(run.internal_error)), Tone.BAD))
    _print_exceptions(run)
    if run.switched:
        click.echo(f"turned from levels to dataflow: {spelled(run.switched)}")
    if run.timed_out:
        click.echo(f"the run {spelled(run.timed_out)}")
    elif run.timeout_s is not None and not run.status.ended:
        click.echo(f"timeout: {run.timeout_s:g} s")
    if run.usage:
        click.echo(f"used by agents: {run.usage.text}")
    if run.rollback:
        why = short_cause(run.rollback) if is_landing(run.plan_id) else run.rollback
        click.echo(f"rolled back: {spelled(why)}")
    for todo in run.todos:
        for one in todo.not_committed:
            if one.reason.keeps_worktree:
                text = f"{todo.id} has not committed {spelled(one.text)}; {spelled(one.hint)}"
                _print_toned((text, Tone.HELD))


def _print_toned(*parts: str | tuple[str, Tone]) -> None:
    """Print a line of texts, each plain or with its tone."""
    from rich.console import Console
    from rich.text import Text

    texts = (part if isinstance(part, str) else (part[0], COLOURS[part[1]]) for part in parts)
    Console(highlight=False).print(Text.assemble(*texts), soft_wrap=True)


def _print_exceptions(run: RunView) -> None:
    """Print what the person who ordered the run let pass, and by which right."""
    if run.break_glass:
        click.echo(f"ordered by emergency access: {spelled(run.break_glass)}")
    if run.overrides:
        click.echo(f"overridden by {spelled(run.actor)}: {spelled(' '.join(run.overrides))}")


def internal_error(text: str) -> str:
    return f"internal error: {text}; please report it"


def elsewhere(todo: TodoView) -> bool:
    """Return whether another machine executed the todo."""
    return todo.host not in ("", gethostname())


def cells_of(todo: TodoView) -> Mapping[str, object]:
    """Return column → cell of a todo in a table."""
    return {
        "todo": todo.id,
        "repo": todo.repo,
        "host": todo.host,
        "state": state_cell(todo.state, state_text(todo)),
        "try": todo.attempt if todo.started_at else "",
        "time": "" if todo.duration_s is None else f"{todo.duration_s:.1f} s",
        "used": todo.usage.text if todo.usage else "",
        "why": reason(todo),
    }


def state_cell(state: TodoState, text: str = "") -> Cell:
    return Cell(text or state, tone_of(state))


def _figures(run: RunView, *, schedule: bool) -> str:
    person = f" by {plain(run.steered_by)}" if run.steered_by else ""
    strategy = f" by {run.strategy}" if schedule else ""
    took = "" if run.duration_s is None else f" in {run.duration_s:.1f} s"
    least = (
        f" (no schedule could take less than {run.bound_s:.1f} s)"
        if schedule and run.bound_s is not None
        else ""
    )
    figures = f"{strategy}{took}{least}"
    return f"{person}{',' if person and figures else ''}{figures}"


def format_counts(run: RunView) -> str:
    """Return `4 succeeded (3 of them cached), 1 failed, 1 waiting for approval`."""
    asking = sum(
        todo.state is TodoState.PARKED and todo.wait_reason is WaitReason.PERSON for todo in run.todos
    )
    counts = dict(run.counts)
    if asking:
        counts[TodoState.PARKED] = counts.get(TodoState.PARKED, asking) - asking
        counts["waiting for approval"] = asking
    return ", ".join(f"{n} {state}{_cached(run, state)}" for state, n in counts.items() if n > 0)


def _cached(run: RunView, state: str) -> str:
    return f" ({run.cached} of them {CACHED})" if run.cached and state == TodoState.SUCCEEDED else ""


def format_work(todos: str, repos: Collection[str], places: Workplaces) -> str:
    """Return `12 todos in 6 repositories on this host (embedded Redis), at most 4 at once`."""
    if not repos:
        return todos
    within = f"{todos} in {counted(len(repos), 'repository')}"
    if not places.hosts:
        return f"{within}, which no worker serves yet"
    hosts = (
        "this host"
        if places.hosts == (places.here,)
        else f"host{'s' * (len(places.hosts) > 1)} {listed(places.hosts)}"
    )
    embedded = " (embedded Redis)" if places.embedded else ""
    return f"{within} on {hosts}{embedded}, at most {places.at_once} at once"


SHOWN_RUNNING = 8
FIRST_REMINDER = timedelta(seconds=30)
QUEUED = "its turn"
"""The wait of todos behind others of the run."""
SERVE = (
    "coord worker --repo {repo}=PATH on the host that has it; or, with the server of this folder: coord up"
)


@dataclass(frozen=True, kw_only=True)
class Wait:
    why: str
    """Identifies the wait: the same text is the same wait."""
    text: str
    since: datetime | None = None
    """None where it is not recorded."""


def waits(run: RunView, jobs: int | None = None, task_of: Callable[[str], str] = no_task) -> list[Wait]:
    """Return the waits of a run, the longest first; todos that wait for the same thing share one wait.
    `jobs`: the number of its todos that may run at once; `task_of`: returns the task of a todo.
    """
    if run.status is RunStatus.PAUSED:
        text = f"the run is paused: coord run resume {run.run_id}"
        return [Wait(why=text, text=text)]
    running = run.counts.get(TodoState.RUNNING, 0)
    groups: dict[str, list[TodoView]] = {}
    for todo in _to_report(run):
        groups.setdefault(todo.waits_for or "", []).append(todo)
    found = [
        _wait(text, todos, full=jobs if jobs and running >= jobs else None, task_of=task_of)
        for text, todos in groups.items()
    ]
    return sorted(found, key=lambda wait: wait.since.timestamp() if wait.since else 0.0)


def still_running(run: RunView) -> str:
    """Return `· running: TODO-001 (2 min), TODO-002 (31 s) and 3 more`, the longest first; empty where
    nothing runs.
    """
    running_todos = [
        todo for todo in run.todos if todo.state is TodoState.RUNNING and todo.duration_s is not None
    ]
    running_todos.sort(key=lambda todo: -(todo.duration_s or 0.0))
    text = [
        f"{todo.id} ({how_long(timedelta(seconds=todo.duration_s or 0))})"
        for todo in running_todos[:SHOWN_RUNNING]
    ]
    more = len(running_todos) - SHOWN_RUNNING
    return f"· running: {', '.join(text)}{f' and {more} more' if more > 0 else ''}" if text else ""


@dataclass
class Reminders:
    """Selects the waits to print: new ones, and each one again when it has lasted twice as long."""

    _seen: dict[str, datetime] = field(default_factory=dict)
    _next: dict[str, datetime] = field(default_factory=dict)

    def due(self, found: Collection[Wait], now: datetime) -> list[Wait]:
        self._seen = {wait.why: self._seen.get(wait.why, wait.since or now) for wait in found}
        self._next = {why: at for why, at in self._next.items() if why in self._seen}
        due = [wait for wait in found if now >= self._next.get(wait.why, now)]
        for wait in due:
            self._next[wait.why] = now + max(FIRST_REMINDER, now - self._seen[wait.why])
        return [replace(wait, since=self._seen[wait.why]) for wait in due]


def format_wait(wait: Wait, now: datetime) -> str:
    waited = now - wait.since if wait.since else timedelta(0)
    return f"· {with_local_times(wait.text)}" + (
        f" ({how_long(waited)})" if waited >= timedelta(seconds=1) else ""
    )


def _to_report(run: RunView) -> Iterable[TodoView]:
    """Yield the todos whose waits are worth a line. While others run, a wait for a free worker is not."""
    running_todos = [todo for todo in run.todos if todo.state in (TodoState.RUNNING, TodoState.COMPENSATING)]
    busy = any(todo.waits_for is None for todo in running_todos)
    unreported = {None, WaitReason.TIMER, *([WaitReason.SLOT] if busy else [])}
    # A running todo waits, too: for another worker, if its own is gone.
    yield from (todo for todo in running_todos if todo.wait_reason not in unreported)
    for todo in run.todos:
        if todo.state is TodoState.PARKED or (
            todo.state is TodoState.DISPATCHED and todo.wait_reason not in unreported
        ):
            yield todo


def _wait(text: str, todos: list[TodoView], *, full: int | None, task_of: Callable[[str], str]) -> Wait:
    first = min(todos, key=lambda todo: todo.since or "")
    more = len(todos) - 1
    who = f"{first.id} waits" if not more else f"{first.id} and {more} more wait"
    if text != QUEUED and not more and (task := shortened(plain(task_of(first.id)), LONGEST_TASK)):
        who = f"{first.id} ({task}) waits"
    unserved = text.startswith(f"a worker for {first.repo}: none")
    hint = f"\n  {SERVE.format(repo=first.repo)}" if unserved else ""
    since = datetime.fromisoformat(first.since) if first.since else None
    if text == QUEUED:
        busy = f"--jobs {full} reached" if full else "other todos of their repository run"
        return Wait(why=text, text=f"{counted(len(todos), 'todo')} queued: {busy}", since=since)
    return Wait(why=text, text=f"{who} for {text}{hint}", since=since)
