"""The words of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from coordination.broker.delivery import Delivery
from coordination.models import Command, Duration, Repo, Retry, Todo

Blame = Literal["", "worker"]
"""`worker`: it failed for reasons of the worker's own, which say nothing of the todo; for circuit breakers."""


class TodoState(StrEnum):
    """Where a todo stands in a run."""  # the picture: `__init__.py`

    WAITING = "waiting"
    READY = "ready"
    DISPATCHED = "dispatched"
    RUNNING = "running"
    PARKED = "parked"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    COMPENSATING = "compensating"
    """Only shown: what undoes it goes through `ready` to `running` like a todo."""
    COMPENSATED = "compensated"
    COMPENSATION_FAILED = "compensation_failed"

    @property
    def ended(self) -> bool:
        return self in _ENDED


_ENDED = frozenset(
    {
        TodoState.SUCCEEDED,
        TodoState.FAILED,
        TodoState.SKIPPED,
        TodoState.CANCELLED,
        TodoState.COMPENSATED,
        TodoState.COMPENSATION_FAILED,
    }
)


class RunStatus(StrEnum):
    DRAFT = "draft"
    """Being written; expires unless it is sealed."""
    RUNNING = "running"
    PAUSED = "paused"
    ROLLING_BACK = "rolling_back"
    """What runs is stopped; then what was done is undone."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"

    @property
    def ended(self) -> bool:
        return self is not RunStatus.DRAFT and self not in LIVE


LIVE = (RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.ROLLING_BACK)
"""A run that has not ended."""


class TodoSpec(BaseModel):
    """What a worker must know to carry out a todo; written once, at submission. Workers need no ecosystem.yaml."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    todo: Todo
    repo: Repo
    timeout: Duration
    retry: Retry


class Origin(BaseModel):
    """Where a repository is fetched from and pushed to, as the file said when the run was submitted."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    url: str
    branch: str
    """Its own, which runs begin from."""


class RunBrief(BaseModel):
    """What all todos of a run share, and workers read once."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    run_id: str
    plan_id: str
    agent_command: Command | None = None
    kill_grace: Duration = timedelta(seconds=5)
    commit_message: str = "{todo}: {task}"
    commit_hooks: Literal["run", "skip"] = "run"
    predecessors: dict[str, tuple[str, ...]] = {}
    """Direct ones, in the order of the run; every key stands after its own predecessors."""
    repo_of: dict[str, str] = {}
    origins: dict[str, Origin] = {}
    """Of the repositories that have a `url`. No other address is ever asked for a commit of theirs."""
    carried_from: tuple[str, ...] = ()
    """The run that this one takes up again, before it the one that that one took up, and so on."""
    carried_tips: dict[str, str] = {}
    """Repository → the commit at which it was left by then."""
    set_back: dict[str, str] = {}
    """Repository → the run whose work there is done again in part: what it or an earlier one left beyond that commit is not taken up."""
    no_cache: bool = False
    """No todo is given the result of an earlier one: each runs, and its result is kept for others."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a step answers: a word, and what follows from it for whoever called it."""

    word: str
    sends: tuple[Delivery, ...] = ()
    """Messages that must be sent now."""
    wakes: tuple[tuple[str, str], ...] = ()
    """Run and todo that were handed what they waited for."""
    status: str = ""
    """The run's, after the step."""
    header: tuple[Delivery, ...] = ()
    """A level that has opened, for one chord."""
    grant: Grant | None = None


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A claim that was granted: the todo is ours until its lease is lost."""

    run_id: str
    todo_id: str
    attempt: int
    fence: int
    spec: TodoSpec
    tip: str | None
    """The commit at which the worktree must stand; None before the first success in this repository."""
    tries: int
    """Failures of the todo's own so far."""
    checkpoint: str = ""
    """JSON: what a former attempt had written to COORD_OUTPUT before it ended; empty if nothing."""
    shared: bool = False
    """Whether there is any shared context, be it of others: without, nobody asks for it."""
    undo: Undo | None = None
    """Given where the todo is not to be done but undone."""


@dataclass(frozen=True, kw_only=True)
class Undo:
    was: TodoState
    """What it had come to."""
    output: str
    """JSON that it handed over, else what its checkpoint holds; empty if neither."""
    last: bool
    """Nothing else of the run is left to undo in this repository: its worktree and branch can go."""
    run: str
    """In which it was done: of what was carried over, an earlier one."""
    had_ended: bool
    """Before it was rolled back: since then people may have worked on its branches."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How an attempt ended."""

    outcome: TodoState
    exit_code: int | None = None
    error: str = ""
    output: str = ""
    """JSON, or empty; of an attempt that did not succeed: what it had written by then, where Redis does not know it yet."""
    tip: str = ""
    began: str = ""
    """The commit that the attempt began with: the same as `tip` where nothing was committed."""
    blame: Blame = ""
    cached: str = ""
    """`<run> <todo>`: whose result this is, where nothing ran."""


@dataclass(frozen=True, kw_only=True)
class PredecessorOutput:
    """What a todo that has settled left for those after it."""

    todo: str
    output: Any
    commit: str | None
    """At which it left its repository; None where nothing is committed."""
    run: str
    """In which it really ran: of what was carried over, an earlier one."""
    fence: int
    """That settled it: of two todos of one repository, the higher one came later."""


@dataclass(frozen=True, kw_only=True)
class TodoInputs:
    """What a todo begins with."""

    todos: list[PredecessorOutput]
    """Of its predecessors, in the order in which they were asked for."""
    context: dict[str, Any]
    """What it sees of its context: key → value."""
    omitted: int
    """How much more it would see, if that were not too large."""
    claimed_by: int = 0
    """The fence of the todo's last claim when all this had been read; 0 where Redis knows of none."""


class Source(BaseModel):
    """Of a result that was taken up: who made it."""

    run: str
    todo: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """The part of a todo that never changes during a run: one text in the hash `place`, read by the steps, too."""

    order: str
    """Its longest remaining path as a negative number of ms, which orders the ready todos."""
    level: int
    repo: str
    kind: str
    """`shell`, or `shell:<digest of its labels>`: todos with equal kinds take equally long."""
    priority: str
    wants: str
    """Its right to work in the repository, and its resources: a line `<amount>/<capacity> <name>` each."""

    @classmethod
    def parse(cls, text: str) -> Descriptor:
        order, level, repo, kind, priority, *wants = text.split(" ", 5)
        return cls(order=order, level=int(level), repo=repo, kind=kind, priority=priority, wants="".join(wants))

    def __str__(self) -> str:
        return f"{self.order} {self.level} {self.repo} {self.kind} {self.priority} {self.wants}"


class WaitReason(StrEnum):
    """Reasons why a todo that could run does not run; `waits_for` says the same as text."""

    REPOSITORY = "repository"
    """Another todo of the run, or another run, works in the repository."""
    SLOT = "slot"
    """All slots of the workers, or `max_parallel`, are in use."""
    RESOURCE = "resource"
    """A resource is in use."""
    TIMER = "timer"
    """The delay before the next attempt."""
    PERSON = "person"
    """An approval, or a manual todo."""
    BREAKER = "breaker"
    """A circuit breaker is open."""
    PAUSED = "paused"
    """The run is paused."""
    WORKER = "worker"
    """No worker can execute it at present."""
    TROUBLE = "trouble"
    """The machine has passing trouble, such as a full disk."""

    @classmethod
    def _missing_(cls, value: object) -> WaitReason:
        """Read an unknown value as WORKER: anybody may have written it to Redis."""
        return cls.WORKER


class TodoView(BaseModel):
    """One todo of a run, everywhere the same."""

    id: str
    repo: str
    state: TodoState
    attempt: int
    worker: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    duration_s: float | None = None
    """How long it took, or has taken by now while it runs."""
    exit_code: int | None = None
    error: str | None = None
    waits_for: str | None = None
    wait_reason: WaitReason | None = None
    """The kind of `waits_for`."""
    since: str | None = None
    """When it came into its state."""
    run: str | None = None
    """In which it was done, where a retry carried it over; its times are from there."""
    cached: Source | None = None
    """Nothing ran: it was given this result of an earlier one."""
    approved_by: str | None = None
    """Who let it begin at its gate, or did it; `error` says who did not."""
    comment: str | None = None
    """What they said, or whoever rejected it."""
    was: TodoState | None = None
    """What it had come to before it was undone: its times are from then."""
    undo_s: float | None = None
    """How long what undid it took."""
    accepted: str | None = None
    """Why somebody let it count as undone, and who."""
    accepted_by: str | None = None
    output: Any = None

    @property
    def host(self) -> str:
        """Where it was carried out last; empty if nowhere yet."""
        return (self.worker or "").partition("@")[2]


class RunView(BaseModel):
    """A run, everywhere the same. `bound_s`: no schedule could have taken less, by the measured durations."""

    run_id: str
    plan_id: str
    status: RunStatus
    strategy: str
    on_failure: str
    actor: str
    steered_by: str | None = None
    """Who has paused or cancelled it, or had it undone."""
    rollback: str | None = None
    """Why what it did is undone, or was."""
    timeout_s: float | None = None
    """After which it is ended."""
    timed_out: str | None = None
    """Where it was: `timed out after 90 s`."""
    internal_error: str | None = None
    """Where coord itself has failed: nobody will ever move it on."""
    started_at: str | None
    finished_at: str | None
    duration_s: float | None
    bound_s: float | None
    carried_from: str | None = None
    """The run that this one takes up again."""
    counts: Mapping[str, int]
    cached: int = 0
    """How many of those that succeeded were given an earlier result instead of running."""
    todos: tuple[TodoView, ...]

    def only(self, states: Collection[TodoState]) -> RunView:
        """With none but the todos in these states; the counts stay."""
        return self.model_copy(update={"todos": tuple(todo for todo in self.todos if todo.state in states)})
