"""The words that people write in ecosystem.yaml, as frozen records. No I/O.

What the file may hold is said here and nowhere else; how it is read stands in `ecosystem/document.py`.
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
    """`90s`, `10m`, `1.5h` or a number of seconds; anything else is left for pydantic to judge (ISO 8601 passes)."""
    if isinstance(value, bool):
        raise ValueError("a duration is a number of seconds, or a number with ms, s, m, h or d")
    try:
        if isinstance(value, int | float):
            return timedelta(seconds=value)
        if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
            return timedelta(seconds=float(match[1]) * DURATION_UNITS_S[match[2] or "s"])
    except (OverflowError, ValueError) as error:  # infinite, not a number, or past a billion days
        raise ValueError("a duration cannot be that long") from error
    return value


SIZE_UNITS = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_SIZE = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*(KiB|MiB|GiB|TiB)?\s*")


def parse_size(value: object) -> object:
    """Return the bytes of `1GiB` or `512MiB`; anything else is left for pydantic to judge (a number of bytes passes)."""
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(float(match[1]) * SIZE_UNITS[match[2] or ""])
    return value


def _no_folder_of_its_own(name: str) -> str:
    if name in (".", ".."):  # worktrees stand in folders named after the repository
        raise ValueError("a repository's name must differ from . and ..")
    return name


def _no_number(value: object) -> object:
    # pydantic would take 2026 for a moment in 1970, "20260131" too
    if isinstance(value, int | float) or (isinstance(value, str) and value.isdecimal()):
        raise ValueError("a date is written like 2026-01-31")
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration), Field(gt=timedelta(0))]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    Field(ge=0, le=2**60),
    WithJsonSchema({"type": ["integer", "string"], "minimum": 0, "pattern": r"^\s*\d+(\.\d+)?\s*([KMGT]iB)?\s*$"}),
]
"""Of bytes: `1GiB`, `512MiB`, or their number."""
Text = Annotated[str, Field(min_length=1)]
RepoName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=100), AfterValidator(_no_folder_of_its_own)]
ResourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=100)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
Command = Text | Annotated[tuple[Text, ...], Field(min_length=1)]
Day = Annotated[date | datetime, BeforeValidator(_no_number)]
# Strict, because YAML reads `yes` as true, and true would count as 1.
Count = Annotated[int, Field(strict=True, ge=1)]
# Steps in Redis count in doubles, and sums of units must stay whole numbers there.
Units = Annotated[Count, Field(le=1_000_000_000)]
Amount = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
MoreThanNothing = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Scalar = str | Annotated[int, Field(strict=True)] | Annotated[float, Field(strict=True, allow_inf_nan=False)]
Labels = tuple[Text, ...]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, data: Any) -> Any:
        """A field that is written with nothing after it (`labels:`) counts as not written."""
        if isinstance(data, dict) and None in data.values():
            return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}
        return data


class Foreign(Record):
    """A record that other tools may extend: fields that are unknown here stay in the file and are ignored."""

    model_config = ConfigDict(extra="ignore")


class Word(StrEnum):
    """One of a few words, read in any case and written in lower case."""

    @classmethod
    def _missing_(cls, value: object) -> Word | None:
        known = cls._value2member_map_
        return cast(Word | None, known.get(value.lower())) if isinstance(value, str) else None


def lower_case(value: object) -> object:
    """A word as it is written; anything else as it is."""
    return value.lower() if isinstance(value, str) else value


class IssueStatus(Word):
    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    BLOCKED = "blocked"
    RESOLVED = "resolved"
    CLOSED = "closed"


class Level(Word):
    """How urgent, and how severe."""

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
"""What is still to be done: a sweep takes these."""


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
    """Forecast both, take levels unless dataflow is clearly faster."""
    LEVELS = "levels"
    """Each level of the graph is a Celery chord; the next begins when the whole level has settled."""
    DATAFLOW = "dataflow"
    """A todo is dispatched the moment its last predecessor settles."""


class OnFailure(Word):
    HALT = "halt"
    """Nothing new starts; what runs finishes."""
    CONTINUE = "continue"
    """Only what depends on the failure is skipped."""
    ROLLBACK = "rollback"
    """Undo what was done."""


class WriteBack(Word):
    """What of a run that has ended is written into the file."""

    STATUS = "status"
    """What succeeded is completed, with its hours; what was undone is pending again."""
    NONE = "none"


class Workspace(Word):
    WORKTREE = "worktree"
    """A git worktree of the run's own."""
    IN_PLACE = "in-place"
    """The repository's path itself, one todo at a time."""


class ResourceType(Word):
    """What a resource is, for people: all types are kept in the same way."""

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
    """Does nothing, in the worker's own process: it costs what every todo costs, and nothing else. A plan's join; a measure."""

    type: Literal["noop"]


def _bare_command(value: object) -> object:
    if isinstance(value, str | list):
        return {"type": "shell", "run": value}
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        return {**value, "type": value["type"].lower()}
    return value


Action = Annotated[
    Annotated[ShellAction | PythonAction | AgentAction | ManualAction | NoopAction, Field(discriminator="type")],
    BeforeValidator(_bare_command),
]
Compensation = Annotated[
    Annotated[ShellAction | PythonAction | AgentAction, Field(discriminator="type")], BeforeValidator(_bare_command)
]
"""What undoes a todo: an action that a worker can carry out."""


class Verdict(Word):
    APPROVE = "approve"
    REJECT = "reject"


class Gate(Record):
    """A person's approval is needed before it goes on. Without a timeout it is waited for as long as it takes."""

    timeout: Duration | None = None
    on_timeout: Verdict = Verdict.REJECT


def _bare_gate(value: object) -> object:
    if value is True:
        return {}
    if isinstance(value, dict | Gate):
        return value
    raise ValueError("needs true, or a mapping like {timeout: 24h, on_timeout: reject}")


AtGate = Annotated[Gate, BeforeValidator(_bare_gate)]


def _inside_the_repository(pattern: str) -> str:
    parts = pattern.split("/")
    if pattern.startswith(("/", "~")) or ".." in parts:
        raise ValueError("must be a path or a glob inside the repository, relative to its folder")
    if not pattern.isprintable():
        raise ValueError("has characters that cannot be seen; take them out")
    if ".git" in parts:
        raise ValueError("names git's own folder; what git tracks counts without being named")
    return pattern


class Cache(Record):
    """Where action, tree, inputs and predecessors' outputs are those of an earlier success, that one's result is taken instead.

    What git tracks counts anyhow: `inputs` are for what it does not, files that `prepare` or a todo before this one left.
    """

    inputs: tuple[Annotated[Text, AfterValidator(_inside_the_repository)], ...] = ()
    ttl: Duration | None = None


def _bare_cache(value: object) -> object:
    if value is True:
        return {}
    if isinstance(value, dict | Cache):
        return value
    raise ValueError('needs true, or a mapping like {inputs: ["build/**"], ttl: 7d}')


class Backoff(Word):
    """How the delay before another try grows with the failures."""

    IMMEDIATE = "immediate"
    FIXED = "fixed"
    LINEAR = "linear"
    EXPONENTIAL = "exponential"
    FIBONACCI = "fibonacci"


class Jitter(Word):
    NONE = "none"
    FULL = "full"
    """Drawn evenly from 0 to the delay."""


def _regular_expression(pattern: str) -> str:
    if mistake := patterns.mistake_in(pattern):
        raise ValueError(mistake)
    return pattern


class OutputSign(Record):
    """The pattern (a regular expression of Python's) finds something in a line that the attempt wrote."""

    output: Annotated[Text, AfterValidator(_regular_expression)]


def _kind_of_sign(value: object) -> str | None:
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
        _kind_of_sign,
        custom_error_type="failure_sign",
        custom_error_message="needs an exit code, the word timeout, or a mapping like {output: REGEX}",
    ),
    BeforeValidator(lower_case),
]
"""By what a failure is told from others: an exit code, the end of its time, or what it wrote."""


class Retry(Record):
    """When to try a failed todo again. `attempts` includes the first."""

    attempts: Annotated[Count, Field(le=100)] = 3
    strategy: Backoff = Backoff.EXPONENTIAL
    delay: Duration = timedelta(seconds=1)
    factor: Annotated[Amount, Field(ge=1)] = 2.0
    max_delay: Duration = timedelta(seconds=30)
    jitter: Jitter = Jitter.FULL
    retry_on: tuple[FailureSign, ...] = ()
    """Only failures with one of these signs are worth another try; without any, all are."""
    stop_on: tuple[FailureSign, ...] = ()
    """Failures with one of these are not, whatever else they show."""


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
    """Of its todos that do not say it themselves."""
    submodules: Annotated[bool, Field(strict=True)] | None = None
    """Whether worktrees get its submodules; None: those that its checkout has."""


class Resource(Record):
    """What todos share, whatever repository they work in: `capacity` units of it are in use at most, over all runs."""

    name: ResourceName
    type: ResourceType = ResourceType.CUSTOM
    capacity: Units = 1
    breaker: Annotated[bool, Field(strict=True)] = True
    """Whether a circuit breaker opens when todos that hold it keep failing; not where it is only a capacity."""


class ResourceNeed(Record):
    """What a todo must hold while it runs; a bare name is one unit of it."""

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


def _each_once(needs: tuple[ResourceNeed, ...]) -> tuple[ResourceNeed, ...]:
    names = [need.name for need in needs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"names {twice} twice; say it once, with the whole amount: {{name: {twice}, amount: N}}")
    return needs


ResourceNeeds = Annotated[tuple[Annotated[ResourceNeed, BeforeValidator(_bare_name)], ...], AfterValidator(_each_once)]


class Issue(Record):
    id: Id
    title: Text
    description: str = ""
    status: IssueStatus = IssueStatus.PENDING
    priority: Level = Level.MEDIUM
    severity: Text | None = None
    """A free word; critical, high, medium and low are offered."""
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
    """What must hold before a milestone counts as done: words, or words with a command that checks them."""

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
    estimated_hours: MoreThanNothing | None = None
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
    """Whether it waits until the files of all its predecessors can be had where it runs; false: `path` may be null."""
    cache: Annotated[Cache, BeforeValidator(_bare_cache)] | None = None

    def working_in(self, repo: Repo) -> Todo:
        """Return the todo as it is carried out: with the workspace of its repository where it names none itself.

        In place, `cache` does not count: nobody knows what the todo finds and changes there.
        """
        if "workspace" in self.model_fields_set or repo.workspace is self.workspace:
            return self
        cache = None if repo.workspace is Workspace.IN_PLACE else self.cache
        return self.model_copy(update={"workspace": repo.workspace, "cache": cache})

    @field_validator("cache")
    @classmethod
    def _can_be_restored(cls, cache: Cache | None, known: ValidationInfo) -> Cache | None:
        """Only what a todo commits and hands over can be. Refused where it is known to do anything else."""
        if cache is None:
            return None
        if isinstance(known.data.get("action"), ManualAction | NoopAction):
            raise ValueError("is not for an action that no worker runs a command for (manual, noop); remove it")
        if known.data.get("workspace") is Workspace.IN_PLACE:
            raise ValueError(
                "is not for workspace: in-place: nobody knows what the todo finds and changes there; remove one of the two"
            )
        if known.data.get("compensate") is not None:
            raise ValueError(
                "is not for a todo with compensate, which does something outside of its repository: that would not be done; "
                "remove one of the two"
            )
        return cache


R = TypeVar("R")

SECRET = re.compile("TOKEN|SECRET|PASSWORD|KEY", re.IGNORECASE)
HIDDEN = "***"


def secrets_of(todo: Todo) -> tuple[str, ...]:
    """Values of its `env` whose names say that they are secret."""
    return tuple(str(value) for name, value in todo.env.items() if SECRET.search(name))


def presentable(record: R) -> R:
    """The record as people and programs are shown it: a todo without its secrets. The file, Redis and workers have them."""
    if not isinstance(record, Todo) or not record.env:
        return record
    env = {name: HIDDEN if SECRET.search(name) else value for name, value in record.env.items()}
    return record.model_copy(update={"env": env})


class Validation(Record):
    """How a dependency is checked for real: a command and what it must print, or an address and what it must answer."""

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
    """The whole file. `settings` is judged by `settings.Settings`, whose names it uses."""

    settings: dict[str, Any] = {}
    repos: tuple[Repo, ...] = ()
    resources: tuple[Resource, ...] = ()
    coordination: Coordination = Coordination()

    def with_coordination(self, **sections: tuple[Record, ...]) -> Ecosystem:
        """The same with other records in these sections, which nobody judges again."""
        return self.model_copy(update={"coordination": self.coordination.model_copy(update=sections)})

    def capacities(self) -> Mapping[str, int]:
        """How many units there are of each resource, by its name."""
        return {resource.name: resource.capacity for resource in self.resources}

    def without_breaker(self) -> tuple[str, ...]:
        """The resources that are no more than a capacity."""
        return tuple(resource.name for resource in self.resources if not resource.breaker)

    def todos_of(self, plan: Plan) -> tuple[Todo, ...]:
        """The todos that name the plan, whatever their status; if none does, the open todos of its repos that name no
        plan at all. In the file's order.
        """
        todos = self.coordination.todos
        if named := tuple(todo for todo in todos if todo.plan == plan.id):
            return named
        repos = frozenset(plan.repos)
        return tuple(t for t in todos if t.plan is None and t.repo in repos and t.status in OPEN_TODO)
