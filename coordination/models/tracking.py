"""Issues, plans, todos, dependencies, and the file that holds them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from coordination.declared import Column, Table
from coordination.models.agents import AgentAction
from coordination.models.checks import CheckKind, QaAction, check_of
from coordination.models.execution import (
    Action,
    Cache,
    CacheRules,
    Compensation,
    InWorker,
    ManualAction,
    NoopAction,
    Retry,
    SandboxRules,
    Workspace,
    is_made_by_coord,
)
from coordination.models.landing import PlanWaves
from coordination.models.repositories import Repo, Resource, ResourceNeeds
from coordination.models.services import IntegrationCheck, Services
from coordination.models.templates import PlanRules, Template
from coordination.models.values import (
    AtGate,
    Command,
    Count,
    Day,
    Duration,
    EcosystemId,
    Foreign,
    Hours,
    Id,
    Labels,
    Level,
    PositiveHours,
    ProgramText,
    Record,
    RepoName,
    SecretName,
    Text,
    Variables,
    Word,
)


class IssueStatus(Word):
    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    BLOCKED = "blocked"
    RESOLVED = "resolved"
    CLOSED = "closed"


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


class ForgeLink(Record):
    """The issue at a forge that an issue of the file is synchronised with; `coord issue sync` writes it."""

    id: Annotated[str, Field(pattern=r"^[a-z]+:[^\s#]+#[1-9][0-9]*$", max_length=500)] | None = None
    """As in `github:acme/api#7`; None: it is being created."""
    marker: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None
    """Word by which the issue is found in the forge while it is being created."""
    synced: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]] = {}
    """Digest of each field when both sides had the same value last."""


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
    forge: ForgeLink | None = None


class Criterion(Record):
    """Condition for the completion of a milestone: text, optionally with a command that checks it."""

    text: ProgramText
    check: Command | None = None


def text_of(criterion: str | Criterion) -> str:
    """Return the text of a criterion."""
    return criterion if isinstance(criterion, str) else criterion.text


class Milestone(Record):
    id: Id
    name: ProgramText
    description: str = ""
    due: Day | None = None
    status: TodoStatus = TodoStatus.PENDING
    dependencies: tuple[Id, ...] = ()
    completion_criteria: tuple[
        Annotated[Criterion, BeforeValidator(lambda v: {"text": v} if isinstance(v, str) else v)], ...
    ] = ()
    deliverables: tuple[Text, ...] = ()
    gate: AtGate | None = None


class PlanRecord(Record):
    """The fields of a plan that only a plan has, not a template of one."""

    id: Id
    title: ProgramText
    description: str = ""
    status: PlanStatus = PlanStatus.DRAFT
    repos: tuple[RepoName, ...] = ()
    created: Day | None = None
    updated: Day | None = None
    target: Day | None = None
    milestones: tuple[Milestone, ...] = ()


class Plan(PlanRules, PlanRecord):
    """A plan. Its rules follow its other fields, because the fields of the first base come last."""


class Todo(Record):
    id: Id
    task: ProgramText
    description: str = ""
    repo: RepoName
    status: TodoStatus = TodoStatus.PENDING
    priority: Level = Level.MEDIUM
    created: Day | None = None
    updated: Day | None = None
    estimated_hours: PositiveHours | None = None
    actual_hours: Hours | None = None
    blocked_by: tuple[Id, ...] = ()
    blocking: tuple[Id, ...] = ()
    assignee: Text | None = None
    labels: Labels = ()
    acceptance_criteria: tuple[Text | Criterion, ...] = ()
    """Texts, or criteria whose `check` runs as a todo after this one."""
    plan: Id | None = None
    action: Action | None = None
    compensate: Compensation | None = None
    gate: AtGate | None = None
    timeout: Duration | None = None
    retry: Retry | None = None
    resources: ResourceNeeds = ()
    env: Variables = {}
    workspace: Workspace = Workspace.WORKTREE
    needs_paths: Annotated[bool, Field(strict=True)] = True
    """Wait until the files of all predecessors are available on the worker's host; if false, `path` may be
    null.
    """
    cache: CacheRules | None = None
    sandbox: SandboxRules | None = None
    secrets: tuple[SecretName, ...] = ()
    """Names of credentials of the worker's machine, which the commands of the todo get as files."""

    def working_in(self, repo: Repo) -> Todo:
        """Return the todo with its repository's workspace if it declares none, and with the checks that it
        runs, or that its agent's work must pass. `cache` is dropped in place, because the files that the todo
        reads and changes there are unknown.
        """
        if isinstance(self.action, QaAction):
            return self._checking(self.action, repo)._working_in(repo)
        if self.action is None or isinstance(self.action, AgentAction):
            return self._verified(self.action or AgentAction(type="agent"), repo)._working_in(repo)
        return self._working_in(repo)

    def _verified(self, action: AgentAction, repo: Repo) -> Todo:
        """Return the todo with the checks of its agent's work: those of `verify`, and the commands of its
        acceptance criteria. A name that the repository does not declare stays: the graph refuses it.
        """
        unit = (check for check in repo.qa if check.kind is CheckKind.UNIT)
        criteria = (one.check for one in self.acceptance_criteria if isinstance(one, Criterion))
        wanted = [*(unit if action.verify is None else action.verify), *filter(None, criteria)]
        verify = tuple(dict.fromkeys(check_of(one, repo.check) for one in wanted))
        return self.model_copy(update={"action": action.model_copy(update={"verify": verify})})

    def _checking(self, action: QaAction, repo: Repo) -> Todo:
        """Return the todo with the declared check filled in. Its result is reused, and only the check's own
        retries count. A check that the repository does not declare is left out: the graph refuses it.
        """
        check = repo.check(action.check) if action.run is None else None
        if check is not None:
            action = action.model_copy(
                update={
                    "check": check.name,
                    "run": check.run,
                    "kind": action.kind or check.kind,
                    "report": action.report or check.report,
                    "retries": action.retries or check.retries,
                }
            )
        return self.model_copy(
            update={
                "action": action,
                "timeout": self.timeout or (check.timeout if check else None),
                "retry": Retry(attempts=1 + action.retries),
                "cache": None if self.workspace is Workspace.IN_PLACE else self.cache or Cache(),
            }
        )

    def _working_in(self, repo: Repo) -> Todo:
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
        if isinstance(known.data.get("action"), ManualAction | InWorker):
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

    @field_validator("secrets")
    @classmethod
    def _check_secrets_allowed(cls, secrets: tuple[str, ...], known: ValidationInfo) -> tuple[str, ...]:
        if secrets and isinstance(known.data.get("action"), ManualAction | NoopAction):
            raise ValueError(
                "cannot be used with the actions manual and noop, which run no command; remove it"
            )
        if len({name.lower() for name in secrets}) < len(secrets):
            raise ValueError("names a credential twice; names that differ in case only are one file")
        return secrets


R = TypeVar("R")

SECRET = re.compile("TOKEN|SECRET|PASSWORD|KEY", re.IGNORECASE)
HIDDEN = "***"


def criteria_in_words(todos: Iterable[Todo]) -> tuple[tuple[str, str], ...]:
    """Return the acceptance criteria that no command checks, each with the id of its todo."""
    return tuple(
        (todo.id, text_of(one))
        for todo in todos
        for one in todo.acceptance_criteria
        if isinstance(one, str) or one.check is None
    )


def secrets_of(todo: Todo) -> tuple[str, ...]:
    """Return the values of the todo's `env` whose names mark them as secret."""
    return tuple(str(value) for name, value in todo.env.items() if SECRET.search(name))


def without_secrets(env: Variables) -> Variables:
    """Return the variables whose names do not mark them as secret."""
    return {name: value for name, value in env.items() if not SECRET.search(name)}


_LOGIN = re.compile(r"(?P<scheme>https?://)(?P<user>[^/@:\s]*)(?P<password>:[^/@\s]*)?@", re.IGNORECASE)
LONGEST_USER = 19
"""Characters of a user's name in a url; a longer one is a token."""


def reads_of(todo: Todo) -> tuple[str, ...]:
    """Return the other repositories that the agent of a todo sees."""
    return todo.action.reads if isinstance(todo.action, AgentAction) else ()


def presentable_url(url: str) -> str:
    """Return the address of a remote without its password, and without a token in place of the user."""

    def without_secret(found: re.Match[str]) -> str:
        user = HIDDEN if len(found["user"]) > LONGEST_USER else found["user"]
        return f"{found['scheme']}{user}{f':{HIDDEN}' if found['password'] else ''}@"

    return _LOGIN.sub(without_secret, url)


def presentable(record: R) -> R:
    """Return the record as it may be shown: a todo without the secrets of its `env`, a repository without
    those of its `url`. The file, Redis and workers keep them.
    """
    if isinstance(record, Repo) and record.url:
        shown = presentable_url(record.url)
        return record if shown == record.url else record.model_copy(update={"url": shown})
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
    shown: ClassVar = Table(
        columns=(
            Column("DEP", of="id"),
            Column("STATUS"),
            Column("CONSUMER"),
            Column("PROVIDER"),
            Column("CONSTRAINT", of="version_constraint", leaves=1),
            Column("TYPE", leaves=2),
            Column("NOTES", flexible=True),
        ),
        none="no dependency matches",
        next_step="create one: coord dep create",
    )

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


def _refuse_made_by_coord(todo: Todo) -> Todo:
    if is_made_by_coord(todo.action) or is_made_by_coord(todo.compensate):
        raise ValueError(
            "has an action that only coord gives to todos; remove it, and: coord land PLAN, or coord service "
            "start NAME"
        )
    return todo


class Coordination(Record):
    id: EcosystemId | None = None
    issues: tuple[Issue, ...] = ()
    plans: tuple[Plan, ...] = ()
    todos: tuple[Annotated[Todo, AfterValidator(_refuse_made_by_coord)], ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    templates: tuple[Template, ...] = ()
    services: Services = ()
    checks: tuple[IntegrationCheck, ...] = ()
    waves: tuple[PlanWaves, ...] = ()


class Ecosystem(Foreign):
    """The whole file. `settings` is validated by `settings.Settings`."""

    settings: dict[str, Any] = {}
    repos: tuple[Repo, ...] = ()
    resources: tuple[Resource, ...] = ()
    coordination: Coordination = Field(default_factory=Coordination)

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
