"""Records of a run: its states, results and wait reasons; the brief that all its todos share, and the spec
with which a worker executes each.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from coordination.branches import prefix_of
from coordination.frozen import FrozenModel
from coordination.models import (
    OWN_BRANCHES,
    Agent,
    AgentAction,
    BranchPrefix,
    Commit,
    Duration,
    Gate,
    ManualAction,
    QaAction,
    Repo,
    Retry,
    Todo,
    Verdict,
)
from coordination.models.values import RunId
from coordination.text import counted

Blame = Literal["", "worker", "signature"]
"""Cause of a failure, for circuit breakers: the todo (empty); the worker; or a refused signature or
unreadable spec, for which neither is responsible.
"""


class TodoState(StrEnum):
    """State of a todo in a run."""

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
    """Only shown: a compensation goes through `ready` to `running` like a todo."""
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
    """Running todos are stopped; then finished todos are undone."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"

    @property
    def ended(self) -> bool:
        return self is not RunStatus.DRAFT and self not in LIVE


LIVE = (RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.ROLLING_BACK)
"""Statuses of a run that has not ended."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Outcome of an attempt, as the settle step takes it."""

    outcome: TodoState
    exit_code: int | None = None
    error: str = ""
    output: str = ""
    """JSON, or empty; for an attempt that did not succeed, the output that Redis does not have yet."""
    tip: str = ""
    began: str = ""
    """The commit with which the attempt began: equal to `tip` where nothing was committed."""
    blame: Blame = ""
    cached: str = ""
    """`<run> <todo>` of the cached result, where nothing was executed."""
    signed: str = ""
    """The worker's signed statement about it (trust/results.py); empty where there is none."""
    figures: str = ""
    """Figures of the change set at `tip`: base commit, commits, files, lines added and removed."""
    check: str = ""
    """Name, verdict and commit of a quality check; empty for other todos."""
    not_committed: str = ""
    """JSON of the files that its commit does not contain (not_committed.py); empty without any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """The part of a todo that never changes during a run: one text in the hash `place`, read by the steps,
    too.
    """

    order: str
    """Its longest remaining path as a negative number of ms, which orders the ready todos."""
    level: int
    repo: str
    kind: str
    """`shell`, or `shell:<digest of its labels>`: todos with equal kinds take equally long."""
    priority: str
    locks: str
    """Its right to work in the repository, and its resources: a line `<amount>/<capacity> <name>` each."""

    @classmethod
    def parse(cls, text: str) -> Descriptor:
        order, level, repo, kind, priority, *locks = text.split(" ", 5)
        return cls(
            order=order, level=int(level), repo=repo, kind=kind, priority=priority, locks="".join(locks)
        )

    def __str__(self) -> str:
        return f"{self.order} {self.level} {self.repo} {self.kind} {self.priority} {self.locks}"


class WaitReason(StrEnum):
    """Reasons why a todo that could run does not run; `waits_for` is the same as text."""

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
    """The machine has a temporary failure, such as a full disk."""
    BASE = "base"
    """The base branch cannot take a landing now: its remote cannot be reached, it keeps moving, or its
    checkout has local changes.
    """
    REQUEST = "request"
    """The pull request is not ready, or its forge does not answer."""
    DISCONNECTED = "disconnected"
    """A person has disconnected its repository."""
    SERVICE = "service"
    """The probe of the service that it starts has not passed yet."""
    BUDGET = "budget"
    """The budget of its plan, or of the day, for agents is used up."""
    LIMIT = "limit"
    """The account of its agent is used up for some time, or the model's service is overloaded."""

    @classmethod
    def _missing_(cls, value: object) -> WaitReason:
        """Read an unknown value as WORKER: anybody may have written it to Redis."""
        return cls.WORKER

    @property
    def asks_person(self) -> bool:
        """Return whether a person can end the wait, such as with an approval."""
        return self in (WaitReason.PERSON, WaitReason.BUDGET)


Number = Annotated[int, Field(ge=0)]


class AgentUsage(FrozenModel):
    """Use of agents. Numbers of different programs count different things: each decides what a turn is."""

    rounds: Number = 0
    """Starts of a program."""
    turns: Number = 0
    input: Number = 0
    """Tokens, with those that the provider had in its cache."""
    cached: Number = 0
    output: Number = 0
    micro_usd: Number | None = None
    """Cost in millionths of a dollar; None: no program told it, and its agent has no prices."""

    def __add__(self, other: AgentUsage) -> AgentUsage:
        costs = [cost for cost in (self.micro_usd, other.micro_usd) if cost is not None]
        return AgentUsage(
            rounds=self.rounds + other.rounds,
            turns=self.turns + other.turns,
            input=self.input + other.input,
            cached=self.cached + other.cached,
            output=self.output + other.output,
            micro_usd=sum(costs) if costs else None,
        )

    @property
    def tokens(self) -> int:
        return self.input + self.output

    @property
    def usd(self) -> float:
        """Return the cost, as far as it is known."""
        return (self.micro_usd or 0) / 1_000_000

    @property
    def text(self) -> str:
        """Return it for people: `2 rounds, 14 turns, 212,000 tokens, 0.31 USD`."""
        cost = "" if self.micro_usd is None else f", {self.usd:.2f} USD"
        tokens = counted(self.tokens, "token")
        return f"{counted(self.rounds, 'round')}, {counted(self.turns, 'turn')}, {tokens}{cost}"

    def numbers(self) -> str:
        """Return it as JSON of the numbers that are known, for the step that counts it."""
        return self.model_dump_json(exclude_none=True)

    @classmethod
    def read(cls, fact: str | None) -> AgentUsage | None:
        """Return the sum that the fact `usage` of a todo has; None without one, or where it is damaged."""
        if not fact:
            return None
        try:
            kept = json.loads(fact)
            return cls.model_validate(kept["before"]) + cls.model_validate(kept["now"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return None


def facts_by_todo(facts: Mapping[str, str]) -> defaultdict[str, dict[str, str]]:
    """Return todo → fact → value. `facts`: those of a run, by `<todo> <fact>`."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name, value in facts.items():
        todo, _, fact = name.rpartition(" ")
        found[todo][fact] = value
    return found


class ByPerson(FrozenModel):
    """How a person settles a milestone or manual todo; its dependents verify that."""

    model_config = ConfigDict(extra="forbid")

    approved_after: Duration | None = None
    """Time after which its gate counts as approved without a person; None: never."""
    two_persons: bool = False

    @classmethod
    def of(cls, todo: Todo) -> ByPerson:
        gate = todo.gate or Gate()
        approved_after = gate.timeout if gate.on_timeout is Verdict.APPROVE else None
        return cls(approved_after=approved_after, two_persons=gate.two_persons)


class Origin(FrozenModel):
    """Address from which a repository is fetched and to which it is pushed, from the file at submission."""

    url: str
    branch: str
    """The repository's branch, from which runs begin."""


class ReadRepo(FrozenModel):
    """A repository that an agent sees besides its own, as it was at submission."""

    model_config = ConfigDict(extra="forbid")

    repo: str
    branch: str
    url: str = ""
    tip: Commit | Literal[""] = ""
    """The commit at which the change set has it; empty: it is seen at its base branch."""
    run: RunId | Literal[""] = ""
    """The run that has left it there."""
    signed: str = ""
    """The signed result that states the tip."""

    @property
    def origin(self) -> Origin | None:
        return Origin(url=self.url, branch=self.branch) if self.url else None


class TodoSpec(FrozenModel):
    """A todo as a worker executes it; written once, at submission. Workers need no ecosystem.yaml."""

    todo: Todo
    repo: Repo
    timeout: Duration
    retry: Retry
    predecessors: dict[str, str] = {}
    """Direct predecessor → its repository."""
    by_person: dict[str, ByPerson] = {}
    """The direct predecessors that a person settles: milestones and manual todos."""
    behind: str = ""
    """Digest of the gates that are approved before it starts, its own included; empty without any."""
    agents: tuple[Agent, ...] = ()
    """The agents that its action and its compensation name."""
    reads: tuple[ReadRepo, ...] = ()
    """The other repositories that its agent sees."""

    def agent(self, action: AgentAction, failures: int = 0) -> Agent | None:
        """Return the agent of an attempt that follows so many failures; None if no agent has this name."""
        name = action.agent[min(failures, len(action.agent) - 1)] if action.agent else ""
        return next((agent for agent in self.agents if agent.name == name), None)

    @property
    def judges(self) -> bool:
        """Return whether it judges a commit: a quality check, or a command that may change nothing."""
        return isinstance(self.todo.action, QaAction) or getattr(self.todo.action, "read_only", False)

    def after(self, predecessors: Mapping[str, Todo], behind: str) -> TodoSpec:
        """Return the spec of a todo that waits for these. `behind`: see `behind_gates`."""
        by_person = {
            name: ByPerson.of(todo)
            for name, todo in predecessors.items()
            if isinstance(todo.action, ManualAction)
        }
        repos = {name: todo.repo for name, todo in predecessors.items()}
        return self.model_copy(update={"predecessors": repos, "by_person": by_person, "behind": behind})


def changes_nothing(spec: str) -> bool:
    """Return whether a stored spec is that of a todo that judges a commit, and has no compensation. Only
    these fields are read: a run may have thousands of todos.
    """
    todo = json.loads(spec).get("todo", {})
    action = todo.get("action") or {}
    return not todo.get("compensate") and (action.get("type") == "qa" or action.get("read_only") is True)


BRANCH_PREFIX = "branch_prefix"
"""The field of a run's meta with the prefix of its branch, if that is not the default."""


TAKES_UP = "takes_up"
"""The field of a retry's meta with `Lineage.takes_up`, separated by blanks."""


class RepoStart(FrozenModel):
    """The beginning of a run in a repository."""

    tip: str = ""
    """The commit at which earlier runs, or the change set, left it; empty: the run begins at the base branch.
    """
    branch: str = ""
    """The branch of the change set; empty where the run writes none."""
    set_back: str = ""
    """The run whose work is partly executed again: its commits beyond `tip` are not used."""
    published: str = ""
    """The commit of its pull request behind which `tip` was set back: the run begins with the inverse of what
    lies between.
    """


AT_BASE_BRANCH = RepoStart()


class Lineage(FrozenModel):
    """The beginning of a run: the earlier runs on whose work it builds, and its commit in each repository.
    Workers, rollbacks, cleaning and views read this one record.
    """

    takes_up: tuple[str, ...] = ()
    """The run that this one retries, then the run which that one retries, and so on; for a run of checks,
    those that made what is checked.
    """
    builds_on: tuple[str, ...] = ()
    """The earlier runs of the change set whose results it carries over, newest first."""
    redone: dict[str, str] = {}
    """Todo that is executed again → the run whose result of it no longer counts, as those of earlier runs."""
    change_set: str = ""
    """The change set at whose tips a run begins that writes none, such as one of its checks."""
    repos: dict[str, RepoStart] = {}

    @property
    def runs(self) -> tuple[str, ...]:
        """Return the runs whose results it may carry over: those that it takes up, and those of its change
        set.
        """
        return tuple(dict.fromkeys((*self.takes_up, *self.builds_on)))

    def runs_of(self, todo: str) -> tuple[str, ...]:
        """Return the earlier runs whose result of a todo counts."""
        runs, last = self.runs, self.redone.get(todo)
        if last is None:
            return runs
        return runs[: runs.index(last)] if last in runs else self.takes_up

    @property
    def branches(self) -> dict[str, str]:
        """Return repository → the branch of the change set, for those that the run writes."""
        return {repo: start.branch for repo, start in self.repos.items() if start.branch}

    def within(self, repo: str) -> RepoStart:
        """Return where the run begins in a repository."""
        return self.repos.get(repo, AT_BASE_BRANCH)


class RunBrief(FrozenModel):
    """Facts that all todos of a run share and that each worker reads once."""

    run_id: str
    plan_id: str
    kill_grace: Duration = timedelta(seconds=5)
    commit_message: str = "{todo}: {task}"
    commit_hooks: Literal["run", "skip"] = "run"
    branch_prefix: BranchPrefix = OWN_BRANCHES
    """Beginning of the name of its branch, and of those of the runs that it retries."""
    predecessors: dict[str, tuple[str, ...]] = {}
    """Direct predecessors, in the order of the run; each key comes after its own predecessors."""
    repo_of: dict[str, str] = {}
    origins: dict[str, Origin] = {}
    """Origins of the repositories with a `url`. No other address is asked for their commits."""
    change_set: str = ""
    """The change set that gets its commits; empty in a run without one."""
    lineage: Lineage = Lineage()
    lands_locally: bool = False
    """True if its landing goes into the checkouts, also where a repository has a `url`."""
    by_hand: tuple[str, ...] = ()
    """The todos that a person does or has done, so that no worker signs a result of them."""
    criteria: dict[str, str] = {}
    """Quality check → the todo whose acceptance criterion it is: without the check the todo is not completed.
    """
    recurring: bool = False
    """True for a recurring plan, of which nothing is written into the file."""
    file: str = ""
    """Digest of the file into which a worker may write its results; empty if none may."""
    no_cache: bool = False
    """No todo is given a cached result: each is executed, and its result is cached."""

    def prefixes_in(self, repo: str) -> tuple[str, ...]:
        """Return the prefixes of the branches that it has in a repository: its own, and the change set's."""
        branch = self.lineage.within(repo).branch
        return tuple(dict.fromkeys(filter(None, (self.branch_prefix, prefix_of(branch)))))

    def runs_of(self, todo: str) -> tuple[str, ...]:
        """Return the runs whose result of a todo counts here: this one, and those whose results it carries
        over.
        """
        return (self.run_id, *self.lineage.runs_of(todo))

    def ancestors(self, todo: str) -> set[str]:
        """Return every transitive predecessor of a todo. Other todos of the run cost nothing."""
        seen: set[str] = set()
        ahead = list(self.predecessors.get(todo, ()))
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead.extend(self.predecessors[name])
        return seen


class _OrderedStart(RepoStart):
    model_config = ConfigDict(extra="forbid")

    tip: Commit | Literal[""] = ""
    set_back: RunId | Literal[""] = ""
    published: Commit | Literal[""] = ""


class BriefPart(FrozenModel):
    """The part of the brief about one repository, which its restricted workers get."""

    model_config = ConfigDict(extra="forbid")

    repo: str
    origin: Origin | None = None
    start: _OrderedStart


def common_part(brief: RunBrief) -> RunBrief:
    """Return the brief without its entries for single todos and repositories."""
    lineage = brief.lineage.model_copy(update={"repos": {}})
    empty: dict[str, str] = {}
    of_todos = dict.fromkeys(("predecessors", "repo_of", "criteria", "origins"), empty)
    return brief.model_copy(update={**of_todos, "lineage": lineage})


def parts_of(brief: RunBrief) -> Iterator[BriefPart]:
    """Yield the part of the brief for each repository."""
    for repo in sorted({*brief.repo_of.values(), *brief.lineage.repos}):
        start = _OrderedStart(**vars(brief.lineage.within(repo)))
        yield BriefPart(repo=repo, origin=brief.origins.get(repo), start=start)


class _OrderedRepo(Repo):
    model_config = ConfigDict(extra="forbid")


class OrderedSpec(TodoSpec):
    """A spec that was signed: a field that this version does not know is refused."""

    model_config = ConfigDict(extra="forbid")

    repo: _OrderedRepo


class _OrderedOrigin(Origin):
    model_config = ConfigDict(extra="forbid")


class _OrderedLineage(Lineage):
    model_config = ConfigDict(extra="forbid")

    takes_up: tuple[RunId, ...] = ()
    builds_on: tuple[RunId, ...] = ()
    redone: dict[str, RunId] = {}
    repos: dict[str, _OrderedStart] = {}  # type: ignore[assignment]


class OrderedBrief(RunBrief):
    """A brief that was signed. A worker gives runs and commits of it to git, and makes paths of them."""

    model_config = ConfigDict(extra="forbid")

    run_id: RunId
    origins: dict[str, _OrderedOrigin] = {}  # type: ignore[assignment]
    lineage: _OrderedLineage = _OrderedLineage()
