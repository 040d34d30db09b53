"""Parameters that several operations have, each with its text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Annotated, Any

from coordination.api import texts
from coordination.declared import RUN_OPTION, Option
from coordination.models import Level, OnFailure, UnlandedWork

PlanId = Annotated[str, Option("A plan's id.", completes="plan_ids")]
PlanOfChangeSet = Annotated[str, Option("The id of a plan with a change set.", completes="change_sets")]
RunId = Annotated[str, RUN_OPTION]
IssueId = Annotated[str, Option("An issue's id.", completes="issue_ids")]
DependencyId = Annotated[str, Option("A dependency's id.", metavar="DEP", completes="dependency_ids")]
REPO_NAME = Option("A repository's name.", completes="repo_names")
RepoName = Annotated[str, REPO_NAME]
TodoId = Annotated[str, Option("A todo's id.", completes="todo_ids")]
DryRun = Annotated[bool, Option("Show what would be done; change nothing.")]

OnFailureAsInPlan = Annotated[OnFailure | None, Option("Default: as in the plan.")]
OnFailureAsInRun = Annotated[OnFailure | None, Option("Default: as in the run.")]
AtOnce = Annotated[
    int | None,
    Option(
        texts.JOBS,
        flag="--jobs",
        metavar="N",
        least=1,
    ),
]
NoCache = Annotated[bool, Option("Run todos with a cache, too; keep their results.")]
Limit = Annotated[
    timedelta | None,
    Option("End it after this time: 90s, 10m, 2h (default: as in the file).", metavar="TIME", least=1),
]
AcceptResults = Annotated[
    tuple[str, ...],
    Option(
        "Count results of completed todos as merged: their base branches have them in another form. The id "
        "of the plan instead: go on with the work that another plan of this id has made. It needs the right "
        "`override`, and is recorded.",
        metavar="TODO",
        completes="todo_ids",
    ),
]
AsItWas = Annotated[bool, Option("Keep the run's own order where the file has changed.")]
AskingTodo = Annotated[
    str,
    Option(
        "A todo or milestone of a run that waits for an approval or another action of a person.",
        completes="asking_ids",
    ),
]
InRun = Annotated[str | None, Option(texts.IN_RUN, completes="run_ids")]
Comment = Annotated[
    str,
    Option(texts.COMMENT, metavar="TEXT", for_agents="It is the person's reason."),
]
Answer = Annotated[str, Option("The answer, in words.", metavar="TEXT", longest=4000)]
CheckpointName = Annotated[str, Option("The checkpoint's name.", longest=100)]

OfPriority = Annotated[tuple[Level, ...], Option("Select any of these priorities.", filters=True)]
OfRepo = Annotated[
    tuple[str, ...], Option("Select records of this repository.", filters=True, completes="repo_names")
]
OfAssignee = Annotated[
    tuple[str, ...], Option("Select records of this assignee.", filters=True, completes="assignees")
]
OfLabel = Annotated[
    tuple[str, ...], Option("Select records with this label.", filters=True, completes="labels")
]
SomeRepos = Annotated[
    Collection[str], Option("Select these repositories.", flag="--repo", completes="repo_names")
]
WithTags = Annotated[
    Collection[str], Option("Select the repositories with one of these tags.", flag="--tag", completes="tags")
]
WithRoles = Annotated[
    Collection[str],
    Option("Select the repositories with one of these roles.", flag="--role", completes="roles"),
]
AllRepos = Annotated[bool, Option("Select all repositories of the file.", flag="--all")]
SweepIt = Annotated[bool, Option("Run the plan at once.", for_agents="The answer has its run_id.")]
PreviewPlan = Annotated[bool, Option("Show what would be created; write nothing.")]
Clear = Annotated[tuple[str, ...], Option("Names of fields to empty.")]
Lists = Mapping[str, Sequence[Any]]
"""Field with a list → items of it."""
NO_ITEMS: Lists = MappingProxyType({})
Cascade = Annotated[bool, Option("Delete also its parts, and every reference to it.")]
OfUnlanded = Annotated[
    UnlandedWork | None,
    Option(
        "Discard or keep work of it that has not landed (default: ask; refuse where nobody can be asked)."
    ),
]
