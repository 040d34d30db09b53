"""Records of runs as every front end shows them: a run, its todos, its progress, its levels or waves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, ClassVar

from coordination.declared import Column, Table
from coordination.frozen import FrozenModel
from coordination.runs.change_sets.records import TakenOver
from coordination.runs.not_committed import NotCommitted
from coordination.runs.records import AgentUsage, RunStatus, TodoState, WaitReason


class Source(FrozenModel):
    """Origin of a cached result."""

    run: str
    todo: str


class TodoView(FrozenModel):
    """One todo of a run, as every front end shows it."""

    id: str
    repo: str
    level: int = 0
    """Level of the plan's graph: all predecessors are in earlier levels."""
    state: TodoState
    attempt: int
    worker: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    duration_s: float | None = None
    """Duration; for a running todo, until now; for the start of a service, from the order until it was up."""
    exit_code: int | None = None
    error: str | None = None
    waits_for: str | None = None
    wait_reason: WaitReason | None = None
    """The kind of `waits_for`."""
    since: str | None = None
    """Time at which it came into its state."""
    run: str | None = None
    """The run that executed it, where a retry carried it over; its times are from there."""
    cached: Source | None = None
    """Origin of its cached result, where nothing was executed."""
    approved_by: str | None = None
    """Person who approved it at its gate, or did it; `error` names the one who rejected it."""
    signed_by: str | None = None
    """Worker whose signature of its result was verified on this machine; None if none was verified."""
    comment: str | None = None
    """Comment of the approval or rejection."""
    was: TodoState | None = None
    """End state before the rollback; its times are from then. `state` is the same for one that only looks."""
    undo_s: float | None = None
    """Duration of the compensation."""
    accepted: str | None = None
    """Reason for which a failed compensation was accepted, and by whom."""
    accepted_by: str | None = None
    not_committed: tuple[NotCommitted, ...] = ()
    """Its files that are not in its commit, for each reason."""
    usage: AgentUsage | None = None
    """Use of its agents, over all its attempts in this run."""
    output: Any = None

    @property
    def host(self) -> str:
        """Return the host that executed it last; empty if none has yet."""
        return (self.worker or "").partition("@")[2]

    @property
    def has_failed(self) -> bool:
        """Return whether it failed, also where it was undone afterwards, or could not be undone."""
        ended = TodoState.COMPENSATION_FAILED, TodoState.FAILED
        return self.state in ended or (self.was is TodoState.FAILED and bool(self.error))


class NoEta(StrEnum):
    """Reasons why the end of a run cannot be predicted; `why_no_eta` is the same as text."""

    ENDED = "ended"
    """The run has ended."""
    ROLLING_BACK = "rolling_back"
    """Nothing is known about the durations of compensations."""
    STUCK = "stuck"
    """Nothing will move the run on, because of a fault of coord."""
    PAUSED = "paused"
    """The run is paused."""
    PERSON = "person"
    """A todo waits for an approval, or for a person's work."""
    WORKER = "worker"
    """A todo waits for a worker that is not there."""
    TROUBLE = "trouble"
    """A machine or a remote has a temporary failure, such as a full disk."""
    UNKNOWN = "unknown"
    """No todo has an estimate, none is known from earlier runs, and none has ended yet."""
    LARGE = "large"
    """A list of runs does not compute it for so many todos."""


class RunningTodo(FrozenModel):
    """A todo that a worker executes now."""

    id: str
    repo: str
    worker: str | None
    host: str
    attempt: int
    since: str | None
    running_s: float | None
    expected_s: float | None = None
    """Expected duration, from the time of the submission."""


class WaitingTodos(FrozenModel):
    """Todos that wait for the same thing."""

    reason: WaitReason
    waits_for: str
    count: int
    todos: tuple[str, ...]
    """The first of them, longest waiting first."""
    since: str | None


class NextTodo(FrozenModel):
    """A todo that may start when something ends, in order of urgency."""

    id: str
    repo: str
    after: tuple[str, ...] = ()
    """Open todos that must succeed before; empty if it waits only for its turn."""


class Progress(FrozenModel):
    """How far a run is, and how it goes on."""  # by the rules of planner/remaining.py

    at: str | None
    """The time of these figures, by the clock of Redis."""
    percent: float
    """Share of the work that is over, by the durations that were expected at the submission; in a rollback
    the share of the todos that are undone. Below 100 until the run has ended.
    """
    eta: str | None = None
    """Expected end, by the clock of Redis."""
    left_s: float | None = None
    """Seconds that the rest takes; with a reason for no `eta`: from the time at which that is removed."""
    at_least: bool = False
    """True if `eta` and `left_s` are lower bounds, because the run has too many open todos."""
    no_eta: NoEta | None = None
    why_no_eta: str | None = None
    approvals: int = 0
    """Number of todos further on that wait for a person; `left_s` counts no time for them."""
    running: tuple[RunningTodo, ...] = ()
    """Longest running first."""
    waiting: tuple[WaitingTodos, ...] = ()
    """Longest waiting first."""
    next: tuple[NextTodo, ...] = ()


class LevelView(FrozenModel):
    """One level of a run's graph."""

    level: int
    state: TodoState
    """The furthest state of its open todos; if all have ended, the worst end."""
    counts: Mapping[str, int]
    todos: tuple[str, ...]


class WaveState(StrEnum):
    """How far a wave is."""

    WAITING = "waiting"
    """None of its todos has begun."""
    RUNNING = "running"
    """It lands, soaks, or is checked."""
    LANDED = "landed"
    """It has landed, and its checks are green."""
    FAILED = "failed"
    REVERTED = "reverted"
    """It had landed, and was taken out again."""
    SKIPPED = "skipped"
    """It never began."""


class WaveFailure(FrozenModel):
    """A todo of a wave that has failed."""

    todo: str
    error: str | None


class WaveView(FrozenModel):
    """A wave of a landing run."""

    number: int
    state: WaveState
    repos: Mapping[str, str]
    """Repository → the state of the todo that lands it."""
    waits_for: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    checks: Mapping[str, int] = {}
    """State → number of quality checks, before and behind it."""
    work_s: float = 0.0
    """Durations of its todos that have ended, added up."""
    expected_s: float | None = None
    """The same as it was expected at the submission, of todos with an estimate or experience."""
    failures: tuple[WaveFailure, ...] = ()
    carried_over: tuple[str, ...] = ()
    """Repositories that the run, which has ended, has not landed: `coord land` lands them later."""
    todos: tuple[str, ...]


class RunView(FrozenModel):
    """A run, as every front end shows it. `bound_s`: no schedule could have taken less, by the measured
    durations.
    """

    shown: ClassVar = Table(
        columns=(
            Column("RUN"),
            Column("PLAN"),
            Column("STATUS"),
            Column("DONE"),
            Column("STARTED", wide=True),
            Column("TIME"),
            Column("TODOS", flexible=True, folds=True),
        ),
        none="there is no run",
        no_match="no run matches; list the runs: coord list-runs",
        next_step="start one: coord sweep PLAN",
    )
    run_id: str
    plan_id: str
    status: RunStatus
    strategy: str
    switched: str | None = None
    """Why the run left the levels that `auto` had chosen: `T1 waited for an approval: coord approve T1`."""
    on_failure: str
    actor: str
    signed_by: str | None = None
    """Person or program whose signature of the order was verified on this machine; None if none was."""
    unsigned: tuple[str, ...] | None = None
    """The parts that no verified signature covers, with the reason; `actor` and `approved_by` are then only
    claims. None: nobody looked, as only the view of one run does.
    """
    steered_by: str | None = None
    """Person who paused it, cancelled it, or had it rolled back."""
    rollback: str | None = None
    """Reason of its rollback."""
    timeout_s: float | None = None
    """Time after which it is ended."""
    timed_out: str | None = None
    """Text if it was ended by its timeout: `timed out after 90 s`."""
    internal_error: str | None = None
    """Fault of coord itself because of which nothing will move the run on."""
    unwritten: str | None = None
    """Reason why a worker could not write its results into the file; they wait."""
    started_at: str | None
    finished_at: str | None
    duration_s: float | None
    bound_s: float | None
    carried_from: str | None = None
    """The run that this one retries."""
    change_set: str | None = None
    """The change set that it works on; None for a landing, and for a run that makes none."""
    takes_over: tuple[TakenOver, ...] = ()
    """The unlanded commits of the change set with which it began."""
    branches: Mapping[str, str] = {}
    """Repository → the branch with its work: that of the change set, or of the run; only in a view with the
    todos.
    """
    tips: Mapping[str, str] = {}
    """Repository → the commit at which the run left it; only in a view with the todos."""
    break_glass: str | None = None
    """Reason of the emergency access with which it was ordered."""
    overrides: tuple[str, ...] = ()
    """Options by which `actor` had it go on without a safeguard, such as `--no-qa` or `--accept=TODO`."""
    counts: Mapping[str, int]
    cached: int = 0
    """Number of succeeded todos with a cached result."""
    progress: Progress | None = None
    """None in a view of some of its todos."""
    waves: tuple[WaveView, ...] = ()
    """Those of a landing in waves; only in a view with the todos."""
    todos: tuple[TodoView, ...]

    @property
    def usage(self) -> AgentUsage | None:
        """Return the use of the agents of all its todos; None if none has used anything."""
        used = [todo.usage for todo in self.todos if todo.usage]
        return sum(used, AgentUsage()) if used else None

    def only(self, states: Collection[TodoState]) -> RunView:
        """Return the view with only the todos in these states; the counts stay."""
        return self.model_copy(update={"todos": tuple(todo for todo in self.todos if todo.state in states)})
