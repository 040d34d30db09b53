"""The options of the fields of a record, declared once for `create-*` and `update-*`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

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
    panel: str = "What it says"
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


STANDING, TIES, WORK, CHECK = "Where it stands", "What it belongs to", "How it is carried out", "How it is checked"
MILESTONES = "Milestones"


def _id(first: str) -> Field:
    return Field(option="--id", field="id", metavar="ID", help=f"If not the next free one, like {first}.")


def _word(option: str, kind: type[StrEnum], panel: str = STANDING, field: str = "") -> Field:
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


def _repo(option: str, help_: str, panel: str = "What it says") -> Field:
    return Field(
        option=option,
        field=option.removeprefix("--"),
        metavar="REPO",
        help=help_,
        required=True,
        panel=panel,
        complete=completion.repo_names,
    )


def _work(option: str, field: str, metavar: str, help_: str, read: Callable[[str], Any] = as_written) -> Field:
    return Field(option=option, field=field, metavar=metavar, help=help_, read=read, panel=WORK)


def _check(option: str, field: str, metavar: str, help_: str, read: Callable[[str], Any] = as_written) -> Field:
    return Field(option=option, field=f"validation.{field}", metavar=metavar, help=help_, read=read, panel=CHECK)


TITLE = Field(option="--title", field="title", help="A line that says what it is about.", required=True)
DESCRIPTION = Field(
    option="--description", field="description", help="All of it; - reads standard input.", read=text_or_stdin
)
PRIORITY = _word("--priority", Level)
ASSIGNEE = Field(
    option="--assignee",
    field="assignee",
    metavar="NAME",
    help="Who is to do it.",
    panel=STANDING,
    complete=completion.assignees,
)
TARGET = Field(option="--target", field="target", metavar="DATE", help="When it is due: 2026-01-31.", panel=STANDING)
LABEL = _list("--label", "labels", "LABEL", "Words to find it by.", STANDING, completion.labels)
REPOS = _list("--repos", "repos", "REPO", "The repositories that it touches.", TIES, completion.repo_names)
BLOCKED_BY = _list("--blocked-by", "blocked_by", "ID", "What it waits for.", TIES, completion.work_ids)
BLOCKING = _list("--blocking", "blocking", "ID", "What waits for it.", TIES, completion.work_ids)
CRITERION = Field(
    option="--criterion", field="acceptance_criteria", many=Many.SENTENCES, help="When it is done; may be repeated."
)
RESOURCE = replace(
    _list(
        "--resource", "resources", "NAME[:N]", "What it holds while it runs; N of it.", WORK, completion.resource_names
    ),
    read=need,
    name_of=name_of,
)
GATE = _work(
    "--gate", "gate", "yes|TIME[:approve]", "It waits for coord approve; after TIME it is rejected, or approved.", gate
)
TIMEOUT = _work("--timeout", "timeout", "TIME", "When it is stopped: 90s, 10m, 1h.")

ISSUE = (
    TITLE,
    DESCRIPTION,
    _id("ISSUE-001"),
    _word("--status", IssueStatus),
    PRIORITY,
    replace(_word("--severity", Level), help="A word of your own, or one of critical, high, medium and low."),
    ASSIGNEE,
    TARGET,
    LABEL,
    REPOS,
    replace(BLOCKED_BY, field="dependencies"),
    BLOCKING,
)

TODO = (
    Field(option="--task", field="task", help="A line that says what is to be done.", required=True),
    DESCRIPTION,
    CRITERION,
    _id("TODO-001"),
    _word("--status", TodoStatus),
    PRIORITY,
    ASSIGNEE,
    LABEL,
    _repo("--repo", "The repository.", TIES),
    Field(option="--plan", field="plan", metavar="PLAN", help="The plan.", panel=TIES, complete=completion.plan_ids),
    BLOCKED_BY,
    BLOCKING,
    _work("--run", "action", "COMMAND", "By a command for sh."),
    _work("--prompt", "action", "TEXT", "By an agent that is told this.", agent),
    replace(_work("--manual", "action", "", "By a person: coord complete-todo."), flag={"type": "manual"}),
    _work("--estimate", "estimated_hours", "HOURS", "How long it takes: 2h, 90m or 1.5.", parse_hours),
    _work("--hours", "actual_hours", "HOURS", "How long it took.", parse_hours),
    GATE,
    TIMEOUT,
    RESOURCE,
)

PLAN = (
    TITLE,
    DESCRIPTION,
    _id("PLAN-001"),
    _word("--status", PlanStatus),
    TARGET,
    REPOS,
    _word("--strategy", Strategy, WORK),
    _word("--on-failure", OnFailure, WORK, "on_failure"),
    _work("--jobs", "max_parallel", "N", "At most N todos at once.", whole),
    _work("--timeout", "timeout", "TIME", "When a run of it is ended: 90s, 10m, 2h."),
    _work("--recurring", "recurring", "yes|no", "Each sweep runs all its todos.", yes_or_no),
)

MILESTONE = (
    Field(option="--name", field="name", help="What it is called from now on.", panel=MILESTONES),
    Field(option="--due", field="due", metavar="DATE", help="When it is due.", panel=MILESTONES),
    replace(CRITERION, field="completion_criteria", panel=MILESTONES),
    replace(CRITERION, option="--deliverable", field="deliverables", help="What is there then.", panel=MILESTONES),
    _list("--blocked-by", "dependencies", "ID", "What it waits for.", MILESTONES, completion.milestone_ids),
    replace(GATE, panel=MILESTONES),
)

DEPENDENCY = (
    _repo("--consumer", "Who needs it."),
    _repo("--provider", "Who provides it."),
    _word("--type", DependencyType, "What it says"),
    Field(option="--constraint", field="version_constraint", metavar="RANGE", help="The versions that do: '>=2,<3'."),
    Field(option="--notes", field="notes", read=text_or_stdin, help="What else is to say; - reads standard input."),
    _id("DEP-001"),
    _word("--status", DependencyStatus, CHECK),
    _check("--command", "command", "COMMAND", "A command for sh that succeeds."),
    _check("--pattern", "expected_pattern", "REGEX", "What it must print."),
    _check("--health-check", "health_check", "URL", "An address that answers."),
    _check("--expected-status", "expected_status", "CODE", "What it must answer; 200 if not said.", whole),
    _check("--timeout", "timeout", "TIME", "How long it may take: 90s, 10m."),
)
