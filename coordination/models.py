"""Records of ecosystem.yaml as frozen models, without I/O.

This module alone defines the fields and values of the file; `ecosystem/parsing.py` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from coordination import patterns

FILE_NAME = "ecosystem.yaml"
ECOSYSTEM_ID = r"^[a-z0-9-]{8,64}$"

DURATION_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*")


def parse_duration(value: object) -> object:
    """Parse `90s`, `10m`, `1.5h` or a number of seconds; leave anything else to pydantic, which accepts ISO
    8601.
    """
    if isinstance(value, bool):
        raise ValueError("a duration is a number of seconds, or a number with ms, s, m, h or d")
    try:
        if isinstance(value, int | float):
            return timedelta(seconds=value)
        if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
            return timedelta(seconds=float(match[1]) * DURATION_UNITS_S[match[2] or "s"])
    except (OverflowError, ValueError) as error:  # infinite, not a number, or more than a billion days
        raise ValueError("a duration cannot be that long") from error
    return value


SIZE_UNITS = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_SIZE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*(KiB|MiB|GiB|TiB)?\s*")


def parse_size(value: object) -> object:
    """Parse `1GiB` or `512MiB` to bytes; leave anything else to pydantic, which accepts a number."""
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(float(match[1]) * SIZE_UNITS[match[2] or ""])
    return value


def _reject_dot_names(name: str) -> str:
    if name in (".", ".."):  # worktrees are in folders named after the repository
        raise ValueError("a repository's name must differ from . and ..")
    return name


def _reject_numbers(value: object) -> object:
    # pydantic would read 2026, and "20260131" too, as a moment in 1970
    if isinstance(value, int | float) or (isinstance(value, str) and value.isdecimal()):
        raise ValueError("a date is written like 2026-01-31")
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration), Field(gt=timedelta(0))]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    Field(ge=0, le=2**60),
    WithJsonSchema(
        {"type": ["integer", "string"], "minimum": 0, "pattern": r"^\s*\d+(\.\d+)?\s*([KMGT]iB)?\s*$"}
    ),
]
"""Number of bytes: `1GiB`, `512MiB`, or a plain number."""
Text = Annotated[str, Field(min_length=1)]
RepoName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=100), AfterValidator(_reject_dot_names)
]
ResourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=100)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Command = Text | Annotated[tuple[Text, ...], Field(min_length=1)]
Day = Annotated[date | datetime, BeforeValidator(_reject_numbers)]
# Strict, because YAML reads `yes` as true, and true would count as 1.
Count = Annotated[int, Field(strict=True, ge=1)]
# Lua counts in doubles, and sums of units must stay exact there.
Units = Annotated[Count, Field(le=1_000_000_000)]
Amount = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
PositiveNumber = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Scalar = str | Annotated[int, Field(strict=True)] | Annotated[float, Field(strict=True, allow_inf_nan=False)]
Labels = tuple[Text, ...]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_fields(cls, data: Any) -> Any:
        """Treat a field without a value (`labels:`) as absent."""
        if isinstance(data, dict) and None in data.values():
            return {
                key: value for key, value in data.items() if value is not None or key not in cls.model_fields
            }
        return data


class Foreign(Record):
    """A record that other tools may extend: unknown fields stay in the file and are ignored."""

    model_config = ConfigDict(extra="ignore")


class Word(StrEnum):
    """An enumeration whose values are read in any case and written in lower case."""

    @classmethod
    def _missing_(cls, value: object) -> Word | None:
        known = cls._value2member_map_
        return cast(Word | None, known.get(value.lower())) if isinstance(value, str) else None


def lower_case(value: object) -> object:
    """Return text in lower case, anything else unchanged."""
    return value.lower() if isinstance(value, str) else value


class IssueStatus(Word):
    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    BLOCKED = "blocked"
    RESOLVED = "resolved"
    CLOSED = "closed"


class Level(Word):
    """Urgency or severity."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class PlanStatus(Word):
    DRAFT = "draft"
    ACTIVE = "active"
    ON_HOLD = "on_hold"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


class TodoStatus(Word):
    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


OPEN_TODO = frozenset({TodoStatus.PENDING, TodoStatus.IN_PROGRESS, TodoStatus.BLOCKED})
"""Statuses of unfinished todos; a sweep executes these."""


class DependencyType(Word):
    RUNTIME = "runtime"
    DEVELOPMENT = "development"
    MCP = "mcp"
    TEST = "test"
    DOCUMENTATION = "documentation"


class DependencyStatus(Word):
    SATISFIED = "satisfied"
    UNSATISFIED = "unsatisfied"
    UNKNOWN = "unknown"
    DEPRECATED = "deprecated"


class Strategy(Word):
    AUTO = "auto"
    """Forecast both; use levels unless dataflow is clearly faster."""
    LEVELS = "levels"
    """Dispatch each level of the graph as a Celery chord; the next level starts when the whole level has
    settled.
    """
    DATAFLOW = "dataflow"
    """Dispatch a todo as soon as its last predecessor has settled."""


class OnFailure(Word):
    HALT = "halt"
    """Start no further todos; let running ones finish."""
    CONTINUE = "continue"
    """Skip only the todos that depend on the failed one."""
    ROLLBACK = "rollback"
    """Undo the completed todos."""


class WriteBack(Word):
    """Data of an ended run that is written into the file."""

    STATUS = "status"
    """Succeeded todos become completed, with their hours; undone todos become pending again."""
    NONE = "none"


class Workspace(Word):
    WORKTREE = "worktree"
    """A git worktree of the run."""
    IN_PLACE = "in-place"
    """The repository's own path, one todo at a time."""


class ResourceType(Word):
    """Kind of a resource, shown to people; all kinds behave alike."""

    AGENT = "agent"
    FILE = "file"
    DATABASE = "database"
    API = "api"
    CUSTOM = "custom"


class ShellAction(Record):
    type: Literal["shell"]
    run: Command


class PythonAction(Record):
    type: Literal["python"]
    call: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")]
    args: dict[str, Any] = {}


class AgentAction(Record):
    type: Literal["agent"]
    prompt: Text | None = None


class ManualAction(Record):
    type: Literal["manual"]


class NoopAction(Record):
    """Succeeds without doing anything, in the worker's process; joins branches of a plan, and measures the
    overhead per todo.
    """

    type: Literal["noop"]


def _bare_command(value: object) -> object:
    if isinstance(value, str | list):
        return {"type": "shell", "run": value}
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        return {**value, "type": value["type"].lower()}
    return value


Action = Annotated[
    Annotated[
        ShellAction | PythonAction | AgentAction | ManualAction | NoopAction, Field(discriminator="type")
    ],
    BeforeValidator(_bare_command),
]
Compensation = Annotated[
    Annotated[ShellAction | PythonAction | AgentAction, Field(discriminator="type")],
    BeforeValidator(_bare_command),
]
"""Action that undoes a todo; only actions that a worker can execute."""


class Verdict(Word):
    APPROVE = "approve"
    REJECT = "reject"


class Gate(Record):
    """A point where a person's approval is needed; without a timeout the run waits indefinitely."""

    timeout: Duration | None = None
    on_timeout: Verdict = Verdict.REJECT


def _bare_gate(value: object) -> object:
    if value is True:
        return {}
    if isinstance(value, dict | Gate):
        return value
    raise ValueError("needs true, or a mapping like {timeout: 24h, on_timeout: reject}")


AtGate = Annotated[Gate, BeforeValidator(_bare_gate)]


def _check_relative_path(pattern: str) -> str:
    parts = pattern.split("/")
    if pattern.startswith(("/", "~")) or ".." in parts:
        raise ValueError("must be a path or a glob inside the repository, relative to its folder")
    if not pattern.isprintable():
        raise ValueError("contains invisible characters; remove them")
    if ".git" in parts:
        raise ValueError("names git's own folder; files that git tracks count without being named")
    return pattern


class Cache(Record):
    """Reuse of an earlier success with the same action, tree, inputs and predecessors' outputs.

    Files that git tracks are always compared. `inputs` names others: files that `prepare` or an earlier todo
    left.
    """

    inputs: tuple[Annotated[Text, AfterValidator(_check_relative_path)], ...] = ()
    ttl: Duration | None = None


def _bare_cache(value: object) -> object:
    if value is True:
        return {}
    if isinstance(value, dict | Cache):
        return value
    raise ValueError('needs true, or a mapping like {inputs: ["build/**"], ttl: 7d}')


class Backoff(Word):
    """Growth of the delay between attempts with the number of failures."""

    IMMEDIATE = "immediate"
    FIXED = "fixed"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    FIBONACCI = "fibonacci"


class Jitter(Word):
    NONE = "none"
    FULL = "full"
    """A random delay, evenly distributed from 0 to the computed delay."""


def _regular_expression(pattern: str) -> str:
    if mistake := patterns.mistake_in(pattern):
        raise ValueError(mistake)
    return pattern


class OutputSign(Record):
    """Matches if the pattern (Python's regular expressions) is found in a line of the attempt's output."""

    output: Annotated[Text, AfterValidator(_regular_expression)]


def _failure_sign_kind(value: object) -> str | None:
    if isinstance(value, dict | OutputSign):
        return "what it wrote"
    if value == "timeout":
        return "its time was up"
    return "exit code" if isinstance(value, int | float) and not isinstance(value, bool) else None


FailureSign = Annotated[
    Annotated[int, Field(strict=True, ge=1, le=255), Tag("exit code")]
    | Annotated[Literal["timeout"], Tag("its time was up")]
    | Annotated[OutputSign, Tag("what it wrote")],
    Discriminator(
        _failure_sign_kind,
        custom_error_type="failure_sign",
        custom_error_message="needs an exit code, the word timeout, or a mapping like {output: REGEX}",
    ),
    BeforeValidator(lower_case),
]
"""Criterion for a failure: an exit code, the timeout, or a pattern in the output."""


class Retry(Record):
    """Rules for repeating a failed todo. `attempts` includes the first."""

    attempts: Annotated[Count, Field(le=100)] = 3
    strategy: Backoff = Backoff.EXPONENTIAL
    delay: Duration = timedelta(seconds=1)
    factor: Annotated[Amount, Field(ge=1)] = 2.0
    max_delay: Duration = timedelta(seconds=30)
    jitter: Jitter = Jitter.FULL
    retry_on: tuple[FailureSign, ...] = ()
    """Repeat only failures that match one of these; if empty, repeat all."""
    stop_on: tuple[FailureSign, ...] = ()
    """Never repeat failures that match one of these; takes precedence over `retry_on`."""


class Repo(Foreign):
    name: RepoName
    path: Text | None = None
    url: Text | None = None
    branch: Text = "main"
    role: Text | None = None
    tags: Labels = ()
    slots: Annotated[Count, Field(le=64)] = 1
    prepare: Command | None = None
    qa: Command | None = None
    workspace: Workspace = Workspace.WORKTREE
    """Workspace of todos that declare none."""
    submodules: Annotated[bool, Field(strict=True)] | None = None
    """Check out submodules in worktrees; None: those that the checkout has initialised."""


class Resource(Record):
    """A capacity that todos of all repositories share: at most `capacity` units are in use at once, over all
    runs.
    """

    name: ResourceName
    type: ResourceType = ResourceType.CUSTOM
    capacity: Units = 1
    breaker: Annotated[bool, Field(strict=True)] = True
    """Open a circuit breaker if todos that hold the resource keep failing; false for a mere capacity."""


class ResourceNeed(Record):
    """Units of a resource that a todo holds while it runs; a bare name means one unit."""

    name: ResourceName
    amount: Units = 1

    def __str__(self) -> str:
        return self.name if self.amount == 1 else f"{self.name}:{self.amount}"


def _bare_name(value: object) -> object:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict | ResourceNeed):
        return value
    raise ValueError("needs the name of a resource, or a mapping like {name: gpu, amount: 2}")


def _reject_duplicates(needs: tuple[ResourceNeed, ...]) -> tuple[ResourceNeed, ...]:
    names = [need.name for need in needs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(
            f"names {twice} twice; name it once with the whole amount: {{name: {twice}, amount: N}}"
        )
    return needs


ResourceNeeds = Annotated[
    tuple[Annotated[ResourceNeed, BeforeValidator(_bare_name)], ...], AfterValidator(_reject_duplicates)
]


class Issue(Record):
    id: Id
    title: Text
    description: str = ""
    status: IssueStatus = IssueStatus.PENDING
    priority: Level = Level.MEDIUM
    severity: Text | None = None
    """Free text; critical, high, medium and low are suggested."""
    repos: tuple[RepoName, ...] = ()
    created: Day | None = None
    updated: Day | None = None
    target: Day | None = None
    dependencies: tuple[Id, ...] = ()
    blocking: tuple[Id, ...] = ()
    assignee: Text | None = None
    labels: Labels = ()
    metadata: dict[str, Any] = {}


class Criterion(Record):
    """Condition for the completion of a milestone: text, optionally with a command that checks it."""

    text: Text
    check: Command | None = None


class Milestone(Record):
    id: Id
    name: Text
    description: str = ""
    due: Day | None = None
    status: TodoStatus = TodoStatus.PENDING
    dependencies: tuple[Id, ...] = ()
    completion_criteria: tuple[
        Annotated[Criterion, BeforeValidator(lambda v: {"text": v} if isinstance(v, str) else v)], ...
    ] = ()
    deliverables: tuple[Text, ...] = ()
    gate: AtGate | None = None


class Plan(Record):
    id: Id
    title: Text
    description: str = ""
    status: PlanStatus = PlanStatus.DRAFT
    repos: tuple[RepoName, ...] = ()
    created: Day | None = None
    updated: Day | None = None
    target: Day | None = None
    milestones: tuple[Milestone, ...] = ()
    strategy: Strategy = Strategy.AUTO
    on_failure: OnFailure = OnFailure.HALT
    max_parallel: Count | None = None
    timeout: Duration | None = None
    recurring: Annotated[bool, Field(strict=True)] = False
    retry: Retry | None = None


class Todo(Record):
    id: Id
    task: Text
    description: str = ""
    repo: RepoName
    status: TodoStatus = TodoStatus.PENDING
    priority: Level = Level.MEDIUM
    created: Day | None = None
    updated: Day | None = None
    estimated_hours: PositiveNumber | None = None
    actual_hours: Amount | None = None
    blocked_by: tuple[Id, ...] = ()
    blocking: tuple[Id, ...] = ()
    assignee: Text | None = None
    labels: Labels = ()
    acceptance_criteria: tuple[Text, ...] = ()
    plan: Id | None = None
    action: Action | None = None
    compensate: Compensation | None = None
    gate: AtGate | None = None
    timeout: Duration | None = None
    retry: Retry | None = None
    resources: ResourceNeeds = ()
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], Scalar] = {}
    workspace: Workspace = Workspace.WORKTREE
    needs_paths: Annotated[bool, Field(strict=True)] = True
    """Wait until the files of all predecessors are available on the worker's host; if false, `path` may be
    null.
    """
    cache: Annotated[Cache, BeforeValidator(_bare_cache)] | None = None

    def working_in(self, repo: Repo) -> Todo:
        """Return the todo with its repository's workspace if it declares none.

        `cache` is dropped in place, because the files that the todo reads and changes there are unknown.
        """
        if "workspace" in self.model_fields_set or repo.workspace is self.workspace:
            return self
        cache = None if repo.workspace is Workspace.IN_PLACE else self.cache
        return self.model_copy(update={"workspace": repo.workspace, "cache": cache})

    @field_validator("cache")
    @classmethod
    def _check_cache_allowed(cls, cache: Cache | None, known: ValidationInfo) -> Cache | None:
        """Refuse `cache` for todos with effects beyond their commit and output, which cannot be restored."""
        if cache is None:
            return None
        if isinstance(known.data.get("action"), ManualAction | NoopAction):
            raise ValueError(
                "cannot be used with the actions manual and noop, which run no command; remove it"
            )
        if known.data.get("workspace") is Workspace.IN_PLACE:
            raise ValueError(
                "cannot be used with workspace: in-place, because the files that the todo reads and changes "
                "there are unknown; remove one of the two"
            )
        if known.data.get("compensate") is not None:
            raise ValueError(
                "cannot be used with compensate, because the todo's effects outside of its repository would "
                "not be repeated; remove one of the two"
            )
        return cache


R = TypeVar("R")

SECRET = re.compile("TOKEN|SECRET|PASSWORD|KEY", re.IGNORECASE)
HIDDEN = "***"


def secrets_of(todo: Todo) -> tuple[str, ...]:
    """Return the values of the todo's `env` whose names mark them as secret."""
    return tuple(str(value) for name, value in todo.env.items() if SECRET.search(name))


def presentable(record: R) -> R:
    """Return the record as it may be shown: a todo without its secrets, which the file, Redis and workers
    keep.
    """
    if not isinstance(record, Todo) or not record.env:
        return record
    env = {name: HIDDEN if SECRET.search(name) else value for name, value in record.env.items()}
    return record.model_copy(update={"env": env})


class Validation(Record):
    """Check of a dependency: a command and its expected output, or an address and its expected status."""

    command: Command | None = None
    expected_pattern: Text | None = None
    health_check: Text | None = None
    expected_status: Annotated[Count, Field(ge=100, le=599)] | None = None
    timeout: Duration | None = None


class Dependency(Record):
    id: Id
    consumer: RepoName
    provider: RepoName
    type: DependencyType = DependencyType.RUNTIME
    version_constraint: Text | None = None
    status: DependencyStatus = DependencyStatus.UNKNOWN
    created: Day | None = None
    updated: Day | None = None
    notes: str = ""
    validation: Validation | None = None


EcosystemId = Annotated[str, Field(pattern=ECOSYSTEM_ID)]


class Coordination(Record):
    id: EcosystemId | None = None
    issues: tuple[Issue, ...] = ()
    plans: tuple[Plan, ...] = ()
    todos: tuple[Todo, ...] = ()
    dependencies: tuple[Dependency, ...] = ()


class Ecosystem(Foreign):
    """The whole file. `settings` is validated by `settings.Settings`."""

    settings: dict[str, Any] = {}
    repos: tuple[Repo, ...] = ()
    resources: tuple[Resource, ...] = ()
    coordination: Coordination = Coordination()

    def with_coordination(self, **sections: tuple[Record, ...]) -> Ecosystem:
        """Return a copy with other records in these sections, which are not validated again."""
        return self.model_copy(update={"coordination": self.coordination.model_copy(update=sections)})

    def capacities(self) -> Mapping[str, int]:
        """Return the number of units of each resource by name."""
        return {resource.name: resource.capacity for resource in self.resources}

    def without_breaker(self) -> tuple[str, ...]:
        """Return the resources that have no circuit breaker."""
        return tuple(resource.name for resource in self.resources if not resource.breaker)

    def todos_of(self, plan: Plan) -> tuple[Todo, ...]:
        """Return the todos that name the plan, whatever their status, in the file's order.

        If none does: the open todos of its repositories that name no plan.
        """
        todos = self.coordination.todos
        if named := tuple(todo for todo in todos if todo.plan == plan.id):
            return named
        repos = frozenset(plan.repos)
        return tuple(t for t in todos if t.plan is None and t.repo in repos and t.status in OPEN_TODO)
