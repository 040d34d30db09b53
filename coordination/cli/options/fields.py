"""The options of the fields of a record, declared once for `create-*` and `update-*`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from coordination.api import texts
from coordination.cli import completion
from coordination.cli.completion import Complete
from coordination.cli.options.values import (
    agent,
    as_written,
    gate,
    name_of,
    need,
    one_of,
    parse_hours,
    text_or_stdin,
    whole,
    yes_or_no,
)
from coordination.models import (
    DependencyStatus,
    DependencyType,
    IssueStatus,
    Level,
    OnFailure,
    PlanStatus,
    Strategy,
    TodoStatus,
)

CONTENT, STATE, RELATIONS, EXECUTION, CHECK = "Content", "State", "Relations", "Execution", "Check"
MILESTONES = "Milestones"


class Many(StrEnum):
    """The form of a list."""

    WORDS = "words"
    """The option is repeated, or has commas between the items."""
    SENTENCES = "sentences"
    """The option is repeated: sentences have commas of their own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Field:
    """An option and the field that it sets; `validation.command` is `command` in `validation`."""

    option: str
    field: str
    help: str
    metavar: str = "TEXT"
    read: Callable[[str], Any] = as_written
    """Reads one value of a list."""
    many: Many | None = None
    name_of: Callable[[Any], str] = str
    """Returns the name of an item: names are unique in a list, and an item is removed by its name."""
    flag: Any = None
    """Value of the field where the option has none, like `--manual`."""
    required: bool = False
    panel: str = CONTENT
    complete: Complete | None = None

    @property
    def key(self) -> str:
        """Return the name of the parameter that click passes."""
        return self.option.removeprefix("--").replace("-", "_")

    @property
    def part(self) -> str:
        return self.field.rpartition(".")[0]

    @property
    def inner(self) -> str:
        return self.field.rpartition(".")[2]

    @property
    def metavar_of_names(self) -> str:
        """Return the metavar without the part behind a name: `NAME[:N],…` as `NAME,…`."""
        return self.metavar.replace("[:N]", "")

    def spelt(self, verb: str) -> str:
        """Return `--label` as `--add-label`."""
        return f"--{verb}-{self.option.removeprefix('--')}"


def _id(first: str) -> Field:
    return Field(
        option="--id",
        field="id",
        metavar="ID",
        help=f"Set the id (default: the next free one, like {first}).",
    )


def _word(option: str, kind: type[StrEnum], panel: str = STATE, field: str = "") -> Field:
    return Field(
        option=option,
        field=field or option.removeprefix("--"),
        metavar="WORD",
        help=one_of(kind),
        panel=panel,
        complete=completion.enum_values(kind),
    )


def _list(option: str, field: str, metavar: str, help_: str, panel: str, complete: Complete) -> Field:
    return Field(
        option=option,
        field=field,
        metavar=f"{metavar},…",
        help=help_,
        panel=panel,
        many=Many.WORDS,
        complete=completion.listed(complete),
    )


def _repo(option: str, help_: str, panel: str = CONTENT) -> Field:
    return Field(
        option=option,
        field=option.removeprefix("--"),
        metavar="REPO",
        help=help_,
        required=True,
        panel=panel,
        complete=completion.repo_names,
    )


def _work(
    option: str, field: str, metavar: str, help_: str, read: Callable[[str], Any] = as_written
) -> Field:
    return Field(option=option, field=field, metavar=metavar, help=help_, read=read, panel=EXECUTION)


def _check(
    option: str, field: str, metavar: str, help_: str, read: Callable[[str], Any] = as_written
) -> Field:
    return Field(
        option=option, field=f"validation.{field}", metavar=metavar, help=help_, read=read, panel=CHECK
    )


TITLE = Field(option="--title", field="title", help="Set the title: one line.", required=True)
DESCRIPTION = Field(
    option="--description",
    field="description",
    help="Set the description; - reads standard input.",
    read=text_or_stdin,
)
PRIORITY = _word("--priority", Level)
ASSIGNEE = Field(
    option="--assignee",
    field="assignee",
    metavar="NAME",
    help="Assign a person or agent.",
    panel=STATE,
    complete=completion.assignees,
)
TARGET = Field(option="--target", field="target", metavar="DATE", help=texts.TARGET, panel=STATE)
LABEL = _list("--label", "labels", "LABEL", texts.LABELS, STATE, completion.labels)
REPOS = _list("--repos", "repos", "REPO", texts.REPOS, RELATIONS, completion.repo_names)
BLOCKED_BY = _list("--blocked-by", "blocked_by", "ID", texts.BLOCKED_BY, RELATIONS, completion.work_ids)
BLOCKING = _list("--blocking", "blocking", "ID", texts.BLOCKING, RELATIONS, completion.work_ids)
CRITERION = Field(
    option="--criterion",
    field="acceptance_criteria",
    many=Many.SENTENCES,
    help=texts.CRITERIA,
)
RESOURCE = replace(
    _list(
        "--resource",
        "resources",
        "NAME[:N]",
        f"{texts.RESOURCES} N: units (default: 1).",
        EXECUTION,
        completion.resource_names,
    ),
    read=need,
    name_of=name_of,
)
SECRET = _list(
    "--secret",
    "secrets",
    "NAME",
    "Give its commands these credentials, as files.",
    EXECUTION,
    completion.credential_names,
)
GATE = _work(
    "--gate",
    "gate",
    "yes|TIME[:approve]",
    "Wait for coord approve; after TIME reject it, or approve it.",
    gate,
)
TIMEOUT = _work("--timeout", "timeout", "TIME", texts.TIMEOUT)

ISSUE = (
    TITLE,
    DESCRIPTION,
    _id("ISSUE-001"),
    _word("--status", IssueStatus),
    PRIORITY,
    replace(
        _word("--severity", Level),
        help=texts.SEVERITY,
    ),
    ASSIGNEE,
    TARGET,
    LABEL,
    REPOS,
    replace(BLOCKED_BY, field="dependencies"),
    BLOCKING,
)

TODO = (
    Field(option="--task", field="task", help=texts.TASK, required=True),
    DESCRIPTION,
    CRITERION,
    _id("TODO-001"),
    _word("--status", TodoStatus),
    PRIORITY,
    ASSIGNEE,
    LABEL,
    _repo("--repo", "Set the repository.", RELATIONS),
    Field(
        option="--plan",
        field="plan",
        metavar="PLAN",
        help="Assign it to a plan.",
        panel=RELATIONS,
        complete=completion.plan_ids,
    ),
    BLOCKED_BY,
    BLOCKING,
    _work("--run", "action", "COMMAND", texts.SHELL),
    _work("--prompt", "action", "TEXT", texts.PROMPT, agent),
    replace(_work("--manual", "action", "", texts.MANUAL), flag={"type": "manual"}),
    _work("--estimate", "estimated_hours", "HOURS", "Set the estimate: 2h, 90m or 1.5.", parse_hours),
    _work("--hours", "actual_hours", "HOURS", texts.HOURS, parse_hours),
    GATE,
    TIMEOUT,
    RESOURCE,
    SECRET,
)

PLAN = (
    TITLE,
    DESCRIPTION,
    _id("PLAN-001"),
    _word("--status", PlanStatus),
    TARGET,
    REPOS,
    _word("--strategy", Strategy, EXECUTION),
    _word("--on-failure", OnFailure, EXECUTION, "on_failure"),
    _work("--jobs", "max_parallel", "N", texts.JOBS, whole),
    _work("--timeout", "timeout", "TIME", "End a run of it after TIME: 90s, 10m, 2h."),
    _work("--recurring", "recurring", "yes|no", "Run all its todos in each sweep.", yes_or_no),
    _work(
        "--two-persons",
        "two_persons",
        "yes|no",
        "Refuse approvals by the person who ordered the run.",
        yes_or_no,
    ),
)

MILESTONE = (
    Field(option="--name", field="name", help="Set the name.", panel=MILESTONES),
    Field(option="--due", field="due", metavar="DATE", help="Set the due date.", panel=MILESTONES),
    replace(CRITERION, field="completion_criteria", panel=MILESTONES),
    replace(
        CRITERION,
        option="--deliverable",
        field="deliverables",
        help="Add a deliverable.",
        panel=MILESTONES,
    ),
    _list("--blocked-by", "dependencies", "ID", "Set the blockers.", MILESTONES, completion.milestone_ids),
    replace(GATE, panel=MILESTONES),
)

DEPENDENCY = (
    _repo("--consumer", "Set the repository that needs it."),
    _repo("--provider", "Set the repository that provides it."),
    _word("--type", DependencyType, CONTENT),
    Field(
        option="--constraint",
        field="version_constraint",
        metavar="RANGE",
        help="Set the allowed versions: '>=2,<3'.",
    ),
    Field(option="--notes", field="notes", read=text_or_stdin, help="Set notes; - reads standard input."),
    _id("DEP-001"),
    _word("--status", DependencyStatus, CHECK),
    _check("--command", "command", "COMMAND", "Check by a command for sh."),
    _check("--pattern", "expected_pattern", "REGEX", "Require output that matches."),
    _check("--health-check", "health_check", "URL", "Check by an HTTP request."),
    _check("--expected-status", "expected_status", "CODE", "Require this status (default: 200).", whole),
    _check("--timeout", "timeout", "TIME", "Stop the check after TIME: 90s, 10m."),
)
