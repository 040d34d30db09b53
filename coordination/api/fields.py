"""The fields of records, each declared once: options of commands, arguments of tools, and keywords of scripts
that create or change a record.

None, and an empty list, is a field that was not given. `changes_of` makes the changes of an update of them,
which are applied when the file is written: of two people who add a label at the same time, both labels are
there afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BaseModel

from coordination.api import texts
from coordination.api.parameters import NO_ITEMS, Lists
from coordination.declared import Option, fields_of, option_of
from coordination.errors import UsageError
from coordination.models import (
    DependencyStatus,
    DependencyType,
    Gate,
    IssueStatus,
    Level,
    OnFailure,
    PlanStatus,
    ResourceNeed,
    Strategy,
    TodoStatus,
)

CONTENT, STATE, RELATIONS, EXECUTION, CHECK = "Content", "State", "Relations", "Execution", "Check"
MILESTONES = "Milestones"


@dataclass(frozen=True, kw_only=True)
class Field(Option):
    """The declaration of a field."""

    sets: str = ""
    """The field of the record, where that is not its name; `validation.command` is `command` in `validation`.
    """
    value: Callable[[Any], Any] | None = None
    """Returns the value in the file; None sets nothing."""
    name_of: Callable[[Any], str] = str
    """Returns the name of an item of a list: names are unique, and an item is removed by its name."""
    panel: str = CONTENT


def name_of(need: str | Mapping[str, Any] | ResourceNeed) -> str:
    if isinstance(need, ResourceNeed):
        return need.name
    return need if isinstance(need, str) else str(need["name"])


def _new_id(first: str) -> Field:
    return Field(f"Set the id (default: the next free one, like {first}).", metavar="ID")


def _list(text: str, flag: str, completes: str, panel: str = RELATIONS, metavar: str = "ID") -> Field:
    return Field(text, flag=flag, completes=completes, panel=panel, metavar=f"{metavar},…")


def _check(text: str, metavar: str, sets: str) -> Field:
    return Field(text, metavar=metavar, sets=f"validation.{sets}", panel=CHECK)


TITLE = Field("Set the title: one line.", metavar="TEXT")
TASK = Field("Set the task: one line.", metavar="TEXT")
REPO = Field("Set the repository.", metavar="REPO", completes="repo_names", panel=RELATIONS)
NAME = Field("Set the name.", metavar="TEXT", panel=MILESTONES)
CONSUMER = Field("Set the repository that needs it.", metavar="REPO", completes="repo_names")
PROVIDER = Field("Set the repository that provides it.", metavar="REPO", completes="repo_names")
STATUS = Field("Set the status.", metavar="WORD", panel=STATE)

Description = Annotated[str | None, Field("Set the description.", metavar="TEXT", stdin=True)]
Priority = Annotated[Level | None, Field("Set the priority.", metavar="WORD", panel=STATE)]
Assignee = Annotated[
    str | None, Field("Assign a person or agent.", metavar="NAME", completes="assignees", panel=STATE)
]
Target = Annotated[str | None, Field("Set the due date: 2026-01-31.", metavar="DATE", panel=STATE)]
Labels = Annotated[
    tuple[str, ...],
    _list("Set labels, by which lists can be filtered.", "--label", "labels", STATE, "LABEL"),
]
Repos = Annotated[tuple[str, ...], _list("Set the repositories.", "--repos", "repo_names", metavar="REPO")]
BlockedBy = Annotated[
    tuple[str, ...],
    _list("Set the issues, todos or plans that must be finished first.", "--blocked-by", "work_ids"),
]
Blocking = Annotated[
    tuple[str, ...],
    _list("Set the issues, todos or plans that wait for it.", "--blocking", "work_ids"),
]
GATE = Field(
    "Wait for an approval; after TIME reject it, or approve it.",
    metavar="yes|TIME[:approve]",
    reads="gate",
    for_agents="`on_timeout` applies after `timeout`, such as 24h.",
    value=lambda gate: gate or None,
    panel=EXECUTION,
)
AtGate = Annotated[bool | Gate | None, GATE]


@dataclass(frozen=True, kw_only=True)
class RecordFields:
    """Fields of a record."""

    @classmethod
    def options(cls) -> Mapping[str, Field]:
        """Return field → its declaration."""
        return {name: option_of(hint) for name, hint in fields_of(cls).items()}

    def given(self) -> dict[str, Any]:
        """Return the fields that were given, as the file has them. Raises UsageError where two set one."""
        found: dict[str, Any] = {}
        by: dict[str, str] = {}
        for name, option in self.options().items():
            value = getattr(self, name)
            if value is not None and option.value:
                value = option.value(value)
            if value in (None, ()):
                continue
            sets = option.sets or name
            if sets in by:
                raise UsageError(f"{by[sets]} and {name} exclude each other", "use one of them")
            by[sets] = name
            part, _, inner = sets.rpartition(".")
            owner = found.setdefault(part, {}) if part else found
            owner[inner] = list(value) if isinstance(value, tuple) else value
        return found


def changes_of(
    fields: RecordFields, clear: Collection[str] = (), added: Lists = NO_ITEMS, removed: Lists = NO_ITEMS
) -> Callable[[BaseModel], dict[str, Any]]:
    """Return the function that makes the changes of a record: it sets the given fields, empties those of
    `clear`, and adds and removes items of lists. Raises UsageError for an item that is not there.
    """
    options, given = fields.options(), fields.given()
    for name in clear:
        sets = options[name].sets if name in options else ""
        part, _, inner = (sets or name).rpartition(".")
        (given.setdefault(part, {}) if part else given)[inner] = None
    parts = {one.sets.rpartition(".")[0] for one in options.values()}

    def changes(record: BaseModel) -> dict[str, Any]:
        found = {name: _merged(record, name, v) if name in parts else v for name, v in given.items()}
        for name in dict.fromkeys((*added, *removed)):
            name_of, present = options[name].name_of, getattr(record, name)
            found[name] = _changed(name, name_of, present, added.get(name, ()), removed.get(name, ()))
        return found

    return changes


def _merged(record: BaseModel, part_name: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
    part: BaseModel | None = getattr(record, part_name)
    both = {**(part.model_dump(exclude_unset=True) if part else {}), **values}
    return {name: value for name, value in both.items() if value is not None} or None


def _changed(
    name: str,
    name_of: Callable[[Any], str],
    items: Sequence[Any],
    added: Sequence[Any],
    removed: Sequence[str],
) -> list[Any] | None:
    """Return a list after a change. An item that is added again keeps its place."""
    present = {name_of(item): item for item in items}
    for value in removed:
        if value not in present:
            hint = f"it has {', '.join(present)}" if present else "it has none"
            raise UsageError(f"{name}: there is no {value!r} to remove", hint)
    kept = {one: item for one, item in present.items() if one not in removed}
    return list((kept | {name_of(item): item for item in added}).values()) or None


@dataclass(frozen=True, kw_only=True)
class IssueFields(RecordFields):
    """Fields of an issue."""

    title: Annotated[str | None, TITLE] = None
    description: Description = None
    status: Annotated[IssueStatus | None, STATUS] = None
    priority: Priority = None
    severity: Annotated[
        str | None,
        Field(
            "Set the severity: critical, high, medium, low, or a word of your own.",
            metavar="WORD",
            completes="levels",
            panel=STATE,
        ),
    ] = None
    assignee: Assignee = None
    target: Target = None
    labels: Labels = ()
    repos: Repos = ()
    dependencies: BlockedBy = ()
    blocking: Blocking = ()


@dataclass(frozen=True, kw_only=True)
class NewIssue(IssueFields):
    """A new issue."""

    title: Annotated[str, TITLE] = field()
    id: Annotated[str | None, _new_id("ISSUE-001")] = None


@dataclass(frozen=True, kw_only=True)
class TodoFields(RecordFields):
    """Fields of a todo."""

    task: Annotated[str | None, TASK] = None
    description: Description = None
    acceptance_criteria: Annotated[
        tuple[str, ...],
        Field("Set conditions under which it counts as done.", flag="--criterion", metavar="TEXT"),
    ] = ()
    status: Annotated[TodoStatus | None, STATUS] = None
    priority: Priority = None
    assignee: Assignee = None
    labels: Labels = ()
    repo: Annotated[str | None, REPO] = None
    plan: Annotated[
        str | None, Field("Assign it to a plan.", metavar="PLAN", completes="plan_ids", panel=RELATIONS)
    ] = None
    blocked_by: BlockedBy = ()
    blocking: Blocking = ()
    run: Annotated[
        str | None, Field("Run this command in sh.", metavar="COMMAND", sets="action", panel=EXECUTION)
    ] = None
    prompt: Annotated[
        str | None,
        Field(
            "Give an agent this prompt.",
            metavar="TEXT",
            sets="action",
            value=lambda prompt: {"type": "agent", "prompt": prompt},
            panel=EXECUTION,
        ),
    ] = None
    manual: Annotated[
        bool | None,
        Field(
            "Leave it to a person, who reports when it is done.",
            for_agents="The tool for it: coord_complete_todo.",
            sets="action",
            value=lambda manual: {"type": "manual"} if manual else None,
            panel=EXECUTION,
        ),
    ] = None
    estimated_hours: Annotated[
        float | None,
        Field(
            "Set the estimate in hours.",
            flag="--estimate",
            metavar="HOURS",
            reads="parse_hours",
            panel=EXECUTION,
        ),
    ] = None
    actual_hours: Annotated[
        float | None,
        Field(texts.HOURS, flag="--hours", metavar="HOURS", reads="parse_hours", panel=EXECUTION),
    ] = None
    gate: AtGate = None
    timeout: Annotated[str | None, Field(texts.TIMEOUT, metavar="TIME", panel=EXECUTION)] = None
    resources: Annotated[
        tuple[str | ResourceNeed, ...],
        Field(
            "Hold units of these resources of the file while it runs.",
            flag="--resource",
            metavar="NAME[:N],…",
            completes="resource_names",
            for_agents="Names, or {name, amount}.",
            reads="need",
            name_of=name_of,
            panel=EXECUTION,
        ),
    ] = ()
    secrets: Annotated[
        tuple[str, ...],
        Field(
            "Give its commands these credentials, as files.",
            flag="--secret",
            metavar="NAME,…",
            completes="credential_names",
            tool=False,
            panel=EXECUTION,
        ),
    ] = ()


@dataclass(frozen=True, kw_only=True)
class NewTodo(TodoFields):
    """A new todo."""

    task: Annotated[str, TASK] = field()
    repo: Annotated[str, REPO] = field()
    id: Annotated[str | None, _new_id("TODO-001")] = None


@dataclass(frozen=True, kw_only=True)
class PlanFields(RecordFields):
    """Fields of a plan."""

    title: Annotated[str | None, TITLE] = None
    description: Description = None
    status: Annotated[PlanStatus | None, STATUS] = None
    target: Target = None
    repos: Repos = ()
    strategy: Annotated[
        Strategy | None, Field("Set the strategy of its runs.", metavar="WORD", panel=EXECUTION)
    ] = None
    on_failure: Annotated[
        OnFailure | None, Field("Set what its runs do when a todo fails.", metavar="WORD", panel=EXECUTION)
    ] = None
    max_parallel: Annotated[
        int | None, Field(texts.JOBS, flag="--jobs", metavar="N", reads="whole", panel=EXECUTION)
    ] = None
    timeout: Annotated[
        str | None, Field("End a run of it after TIME: 90s, 10m, 2h.", metavar="TIME", panel=EXECUTION)
    ] = None
    recurring: Annotated[
        bool | None,
        Field("Run all its todos in each sweep.", metavar="yes|no", reads="yes_or_no", panel=EXECUTION),
    ] = None
    two_persons: Annotated[
        bool | None,
        Field(
            "Refuse approvals by the person who ordered the run.",
            metavar="yes|no",
            reads="yes_or_no",
            panel=EXECUTION,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class NewPlan(PlanFields):
    """A new plan."""

    title: Annotated[str, TITLE] = field()
    id: Annotated[str | None, _new_id("PLAN-001")] = None


@dataclass(frozen=True, kw_only=True)
class MilestoneFields(RecordFields):
    """Fields of a milestone."""

    name: Annotated[str | None, NAME] = None
    due: Annotated[str | None, Field("Set the due date.", metavar="DATE", panel=MILESTONES)] = None
    completion_criteria: Annotated[
        tuple[str, ...],
        Field(
            "Set conditions under which it counts as done.",
            flag="--criterion",
            metavar="TEXT",
            panel=MILESTONES,
        ),
    ] = ()
    deliverables: Annotated[
        tuple[str, ...], Field("Add a deliverable.", flag="--deliverable", metavar="TEXT", panel=MILESTONES)
    ] = ()
    dependencies: Annotated[
        tuple[str, ...], _list("Set the blockers.", "--blocked-by", "milestone_ids", MILESTONES)
    ] = ()
    gate: Annotated[bool | Gate | None, replace(GATE, panel=MILESTONES)] = None


@dataclass(frozen=True, kw_only=True)
class DependencyFields(RecordFields):
    """Fields of a dependency between repositories."""

    consumer: Annotated[str | None, CONSUMER] = None
    provider: Annotated[str | None, PROVIDER] = None
    type: Annotated[DependencyType | None, Field("Set the type.", metavar="WORD")] = None
    version_constraint: Annotated[
        str | None, Field("Set the allowed versions: '>=2,<3'.", flag="--constraint", metavar="RANGE")
    ] = None
    notes: Annotated[str | None, Field("Set notes.", metavar="TEXT", stdin=True)] = None
    status: Annotated[DependencyStatus | None, Field("Set the status.", metavar="WORD", panel=CHECK)] = None
    command: Annotated[str | None, _check("Check by a command for sh.", "COMMAND", "command")] = None
    pattern: Annotated[str | None, _check("Require output that matches.", "REGEX", "expected_pattern")] = None
    health_check: Annotated[str | None, _check("Check by an HTTP request.", "URL", "health_check")] = None
    expected_status: Annotated[
        int | None,
        replace(_check("Require this status (default: 200).", "CODE", "expected_status"), reads="whole"),
    ] = None
    timeout: Annotated[str | None, _check("Stop the check after TIME: 90s, 10m.", "TIME", "timeout")] = None


@dataclass(frozen=True, kw_only=True)
class NewDependency(DependencyFields):
    """A new dependency."""

    consumer: Annotated[str, CONSUMER] = field()
    provider: Annotated[str, PROVIDER] = field()
    id: Annotated[str | None, _new_id("DEP-001")] = None
