"""Progress of a run on the screen: a line for each todo that ends, what the run waits for, a live area on a
terminal.

Without a terminal, a line also for each todo that begins, and every `progress_interval` one with the running
todos, so that the log of a CI job shows that it is alive. The run does not depend on its viewers: one that
leaves, or is killed, changes nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import TaskID
from rich.text import Text

from coordination.api import (
    BEGINNING,
    IN_HAND,
    NO_ROOM,
    NoEta,
    Progress,
    RunEvent,
    RunStatus,
    RunView,
    TodoState,
    TodoView,
    WaitReason,
    is_landing,
    levels_of,
    only_looks,
)
from coordination.cli.following.live_area import SHOWN_WAITS, LiveArea, RunningLine
from coordination.cli.following.summary import (
    SHOWN_RUNNING,
    Reminders,
    Wait,
    cells_of,
    end_of_output,
    format_wait,
    internal_error,
    line,
    short_cause,
    state_cell,
    still_running,
    waits,
)
from coordination.cli.screen.tables import plain, print_table
from coordination.cli.times import format_time, how_long, with_local_times
from coordination.errors import NotFound, Unreachable, Unreadable
from coordination.terminal import driven, spelled
from coordination.text import counted, listed, quoted

if TYPE_CHECKING:
    from coordination.api.run import Run

UPDATE_S = 2.0
"""Interval at which the waits of a run are read."""
RUNNING_EVERY = timedelta(seconds=30)
"""Interval at which running todos are printed where there is no bar."""
SHARE = 20
"""Time between two reads of the progress, as a multiple of the duration of a read."""
BEGINS = f"todo.{TodoState.RUNNING}"
PARKED = f"todo.{TodoState.PARKED}"
SKIPPED = f"todo.{TodoState.SKIPPED}"
SUCCEEDED = f"todo.{TodoState.SUCCEEDED}"
ROLLS_BACK = f"run.{RunStatus.ROLLING_BACK}"
STATE_EVENTS = {f"todo.{state}" for state in TodoState}
IN_HAND_EVENTS = {f"todo.{state}" for state in IN_HAND}
ENDS = {f"todo.{state}" for state in TodoState if state.ended}
FAILURES = {f"todo.{TodoState.FAILED}", f"todo.{TodoState.COMPENSATION_FAILED}"}
REPORTED = {*ENDS, f"todo.{TodoState.RETRYING}"}


class Following:
    def __init__(
        self,
        run: Run,
        since: str = BEGINNING,
        restarted: Callable[[], Iterable[str]] = list,
        every: timedelta = RUNNING_EVERY,
        *,
        shows_output: bool = True,
    ) -> None:
        """`restarted`: returns the processes of this machine that were started again since the last call;
        raises Unreachable where one is given up. `every`: interval of the line with the running todos;
        `shows_output`: a failed todo is followed by the end of its output.
        """
        self._run = run
        self._shows_output = shows_output
        self.shown: set[str] = set()
        """The failed todos that were followed by the end of their output."""
        self._restarted = restarted
        # The bar moves the cursor, so that control sequences pass; each text is made safe before.
        self._console = Console(file=driven(sys.stderr), highlight=False)
        self._has_bar = sys.stderr.isatty() and not self._console.is_dumb_terminal
        self._screen: LiveArea | None = None
        self._bar: TaskID | None = None
        self._seen = since
        self._reminders = Reminders()
        self._running_every_s = every.total_seconds()
        self._jobs: int | None = None
        self._plan = ""
        self._updated_at = self._running_reported_at = time.monotonic()
        self._changed = self._has_bar
        """Since the waits were read, a todo was parked or, on a terminal, has begun."""
        self._progress = ""
        self._progress_due = 0.0
        self._rolling_back = False
        self._in_hand: set[str] = set()
        """Todos that have begun and not ended: of a large run, only these are read repeatedly."""

    def until_the_end(self, leave: Callable[[RunView], bool] | None = None) -> RunView:
        """Show the run until it has ended, or `leave` returns true for its todos that have begun. After an
        interruption another call continues. Raises NotFound if Redis has lost the run, whatever that one has
        done.
        """
        try:
            return self._until_the_end(leave)
        except NotFound as lost:
            subject = self._plan.rpartition(":")[2]
            raise NotFound(
                f"Redis has no record of run {self._run.id} any more: it was deleted, or Redis lost its data",
                f"see what has landed, and what has not: coord changes {quoted(subject)}",
            ) from lost

    def _until_the_end(self, leave: Callable[[RunView], bool] | None) -> RunView:
        with suppress(Unreachable):  # later events name the todos as well
            self._in_hand = self._run.todos_in_hand()
            self._jobs = self._run.max_parallel()
            self._plan = self._run.view(only=()).plan_id
        with self._screen_open():
            for event in self._run.follow(self._seen):
                if event is not None:
                    self._seen = event.id
                    self._track(event)
                    self._report(event)
                view = self._update_waits(quiet=event is None)
                if view is not None and leave is not None and leave(view):
                    break
        return self._run.view()

    @contextmanager
    def _screen_open(self) -> Iterator[None]:
        if not self._has_bar:
            yield
            return
        # Todos that were carried over, or blocked from the beginning, have no events in this run.
        run = self._run.view()
        continues = self._seen != BEGINNING
        self._rolling_back = continues and run.status is RunStatus.ROLLING_BACK
        shown = [
            t for t in run.todos if (t.started_at if self._rolling_back else t.attempt and t.run is None)
        ]
        ended = sum(t.state.ended for t in shown if t.was or not self._rolling_back) if continues else 0
        self._screen = LiveArea(self._console)
        self._bar = self._screen.add_task(
            self._run.id,
            total=len(shown),
            completed=ended,
            progress=brief(run.progress) if run.progress else "",
        )
        # The time since the start of the run, not of this command.
        self._screen.tasks[self._bar].start_time = self._screen.get_time() - age_s(run)
        with self._screen:
            yield

    def _show_rollback(self, event: RunEvent) -> None:
        self._rolling_back = True
        why = str(event.fields.get("why"))
        if not is_landing(self._plan):
            self._print(f"↶ rolling back: {why}")
        elif any(todo.started_at and not only_looks(self._plan, todo.id) for todo in self._run.view().todos):
            self._print(f"↶ rolling back: {short_cause(why)}")
        if self._screen is not None and self._bar is not None:
            started = sum(bool(t.started_at) for t in self._run.view().todos)
            title = f"{self._run.id}, rolling back"
            self._screen.update(self._bar, completed=0, total=started, description=title)

    def _track(self, event: RunEvent) -> None:
        if event.what in IN_HAND_EVENTS:
            self._in_hand.add(event.todo)
        elif event.what in STATE_EVENTS:
            self._in_hand.discard(event.todo)
        if self._screen is not None and event.what in STATE_EVENTS:
            self._changed |= event.what == BEGINS
            self._screen.running = [one for one in self._screen.running if one.todo.id in self._in_hand]

    def _report(self, event: RunEvent) -> None:
        if event.what == "todo.lost":
            again = "it will run again" if event.fields.get("again") == "yes" else "it is given up"
            self._print(f"! {event.todo} lost its worker {event.fields.get('worker')}: {again}")
        elif event.what == "run.stuck":
            self._print("! " + internal_error(f"{event.fields.get('why')}; {event.fields.get('where')}"))
        elif event.what == "run.switched":
            self._print(f"· the run turns from levels to dataflow: {event.fields.get('title')}")
        elif event.what == "redis.restarted":
            self._print("! Redis was restarted: leases are given time to renew")
        elif event.what == "todo.approved":  # a rejected todo has failed, and that line names the person
            comment = f": {text}" if (text := event.fields.get("comment")) else ""
            self._print(f"· {event.todo} was approved by {event.fields.get('by')}{comment}")
        elif event.what == PARKED:
            # The reason is printed at the next quiet moment: most todos are parked for a shorter time.
            self._changed = True
        elif self._is_reported(event):
            # The state at the event, not the present one: an ended run is shown from its first event on.
            state, undoing = TodoState(event.what.removeprefix("todo.")), "undo" in event.fields
            with suppress(Unreadable):  # another program may have written an event about an unknown todo
                todo = self._run.todo(event.todo, state, undoing=undoing)
                self._print(line(self._without_reason(todo), self._task_of(todo.id)))
                self._show_output(todo, event)
        elif event.what == ROLLS_BACK:
            self._show_rollback(event)
        counts = event.what in ENDS and self._rolling_back == ("undo" in event.fields)
        if counts and self._screen is not None and self._bar is not None:
            self._screen.advance(self._bar)

    def _show_output(self, todo: TodoView, event: RunEvent) -> None:
        """Print the end of the output of the attempt that has failed."""
        if not self._shows_output or event.what not in FAILURES or is_landing(self._plan):
            return
        if "\n" in (
            todo.error or ""
        ):  # a hint says more than the output, and stands in the report at the end
            return
        for text in end_of_output(self._run.log_tail(todo.id, event.fields.get("attempt", ""))):
            self._print(text)
            self.shown.add(todo.id)

    def _task_of(self, todo: str) -> str:
        return "" if is_landing(self._plan) else self._run.task(todo)

    def _without_reason(self, todo: TodoView) -> TodoView:
        """Return a todo as its line shows it: the report at the end of a landing has the reasons."""
        is_refused = is_landing(self._plan) and todo.state is TodoState.FAILED
        return todo.model_copy(update={"error": None}) if is_refused else todo

    def _is_reported(self, event: RunEvent) -> bool:
        if is_landing(self._plan) and self._is_left_out(event):
            return False
        if "undo" in event.fields and only_looks(self._plan, event.todo):
            return event.what == f"todo.{TodoState.COMPENSATION_FAILED}"
        begins = event.what == BEGINS and "undo" not in event.fields
        return event.what in REPORTED or (begins and not self._has_bar)

    def _is_left_out(self, event: RunEvent) -> bool:
        """Return whether a landing has no line for it: each repository has one, when it has landed."""
        checked = event.what == SUCCEEDED and only_looks(self._plan, event.todo)
        return checked or event.what in (BEGINS, SKIPPED)

    def _update_waits(self, *, quiet: bool) -> RunView | None:
        """Show the waits of the run: below the bar on a terminal, else as lines at intervals. Return what was
        read; None where it is not time yet.
        """
        if time.monotonic() - self._updated_at < min(UPDATE_S, self._running_every_s) and not (
            quiet and self._changed
        ):
            return None
        self._updated_at, self._changed = time.monotonic(), False
        for restart in self._restarted():
            self._print(f"! {restart}")
        with suppress(Unreachable):  # `follow` decides how long Redis may be unreachable
            view = self._run.view(only=self._in_hand)
            self._show_waits(view)
            return view
        return None

    def _show_waits(self, view: RunView) -> None:
        found, now = self._waits(view), datetime.now(UTC)
        if self._screen is not None:
            self._screen.waiting = found
            self._show_running(self._screen, view)
            self._update_progress()
            return
        if time.monotonic() - self._running_reported_at >= self._running_every_s:
            self._running_reported_at = time.monotonic()
            self._update_progress()
            if text := still_running(view):
                self._print(f"· {self._progress}{text.replace('·', ';', 1)}")
        due = self._reminders.due(found, now)
        for wait in due[:SHOWN_WAITS]:
            self._print(format_wait(wait, now))
        if (more := len(due) - SHOWN_WAITS) > 0:
            self._print(f"· and {more} more: coord show-run {self._run.id}")

    def _show_running(self, screen: LiveArea, view: RunView) -> None:
        """Show the running todos; read the tasks of new ones, and the last lines of those that fit."""
        running = [todo for todo in view.todos if todo.state is TodoState.RUNNING]
        running.sort(key=lambda todo: -(todo.duration_s or 0.0))
        fit = running[:SHOWN_RUNNING]
        said = self._run.last_lines({todo.id: todo.attempt for todo in fit})
        tasks = self._run.tasks([todo.id for todo in fit])
        screen.running = [
            RunningLine(todo=todo, task=tasks.get(todo.id, ""), said=said.get(todo.id, ""))
            for todo in running
        ]

    def _update_progress(self) -> None:
        """Read the progress of the run. Of a large run, which takes longer to read, it is read less often."""
        began = time.monotonic()
        if began < self._progress_due:
            return
        with suppress(Unreadable):
            self._progress = brief(self._run.progress())
        self._progress_due = time.monotonic() + SHARE * (time.monotonic() - began)
        if self._screen is not None and self._bar is not None:
            self._screen.update(self._bar, progress=self._progress)

    def _waits(self, view: RunView) -> list[Wait]:
        found = waits(view, self._jobs, self._task_of)
        if self._run.redis_is_full():
            text = f"Redis cannot write to its disk, so no todo can start or end: {NO_ROOM}"
            found.insert(0, Wait(why=text, text=text))
        return found

    def _print(self, text: str | Text) -> None:
        self._console.print(text if isinstance(text, Text) else Text(spelled(text)), soft_wrap=True)


def age_s(run: RunView) -> float:
    """Return the seconds since a run was started."""
    if run.started_at is None:
        return 0.0
    now = run.finished_at or (run.progress.at if run.progress else None)
    at = datetime.fromisoformat(now) if now else datetime.now(UTC)
    return max(0.0, (at - datetime.fromisoformat(run.started_at)).total_seconds())


SHOWN = 8
"""Largest number of running or waiting todos that are named."""
SHORT = timedelta(seconds=10)


def brief(progress: Progress) -> str:
    """Return `42 % done, about 3 min left`, for the bar and for lines at intervals."""
    done = f"{int(progress.percent)} % done"
    if progress.eta is None or progress.left_s is None:
        return done
    return f"{done}, {_left(progress)} left"


def _left(progress: Progress) -> str:
    """Return `about 3 min`, or `at least 3 min`; below ten seconds `a few seconds`."""
    if progress.left_s is None:
        return ""
    left = timedelta(seconds=round(progress.left_s))
    duration = "a few seconds" if left < SHORT else how_long(left)
    return f"at least {duration}" if progress.at_least else duration if left < SHORT else f"about {duration}"


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
    done = f"{int(progress.percent)} % done"
    left = _left(progress)
    approvals = (
        f", without the time of {counted(progress.approvals, 'approval')}"
        if progress.approvals and left
        else ""
    )
    if progress.eta is not None:
        until = f"until {format_time(datetime.fromisoformat(progress.eta))}"
        return f"{done}, {left} left, {until}{' or later' if progress.at_least else ''}{approvals}"
    why = plain(with_local_times(progress.why_no_eta or ""))
    further = f"; then {left} more{approvals}" if left and progress.no_eta is not NoEta.STUCK else ""
    return f"{done}, end unknown: {why}{further}"


def print_levels(run: RunView) -> None:
    """Print the todos by level, each level with its state and counts."""
    todos = {todo.id: todo for todo in run.todos}
    columns = ("todo", "repo", "state", "try", "time", *(["used"] if run.usage else []), "why")
    empty = ("",) * (len(columns) - 4)
    rows: list[tuple[object, ...]] = []
    for level in levels_of(run):
        counts = ", ".join(f"{n} {state}" for state, n in level.counts.items())
        rows.append((f"level {level.level}", "", state_cell(level.state), *empty, counts))
        rows += [_row(todos[name], columns) for name in level.todos]
    print_table(columns, rows)


def _row(todo: TodoView, columns: tuple[str, ...]) -> tuple[object, ...]:
    shown = {**cells_of(todo), "todo": f"  {todo.id}"}
    return tuple(shown[name] for name in columns)
