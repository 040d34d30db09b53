"""The brief of somebody who plans a change: repositories, checks, dependencies, open plans and issues.

Titles are texts of others, such as of a forge: they stand in a fence, as data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from coordination.models import Ecosystem, Issue, IssueStatus, Plan, Repo, presentable_url
from coordination.text import fenced, listed, shortened
from coordination.tracker.kinds import OPEN_PLAN

MOST_LINES, LONGEST_LINE = 200, 300
"""Lines of a section, and characters of a line."""
CLOSED = (IssueStatus.RESOLVED, IssueStatus.CLOSED)


def brief_of(ecosystem: Ecosystem, change: str, repos: Sequence[Repo]) -> str:
    """Return the brief to plan a change of these repositories. `change`: a person's words."""
    names = {repo.name for repo in repos}
    issues = [
        one
        for one in ecosystem.coordination.issues
        if one.status not in CLOSED and (names & {*one.repos} or not one.repos)
    ]
    plans = (one for one in ecosystem.coordination.plans if one.status in OPEN_PLAN)
    return "\n".join(
        (
            f"Plan this change across my repositories:\n\n{change}\n",
            f"Repositories:\n{_lines(map(_repo, repos))}\n",
            f"Dependencies (consumer needs provider):\n{_lines(_dependencies(ecosystem, names))}\n",
            f"Open plans:\n{_as_data(_plan(ecosystem, plan) for plan in plans)}\n",
            f"Open issues:\n{_as_data(map(_issue, issues))}\n",
        )
    )


def _lines(lines: Iterable[str]) -> str:
    found = [f"- {shortened(' '.join(line.split()), LONGEST_LINE)}" for line in lines]
    more = len(found) - MOST_LINES
    return "\n".join([*found[:MOST_LINES], *([f"- and {more} more"] if more > 0 else [])]) or "- none"


def _as_data(lines: Iterable[str]) -> str:
    found = list(lines)
    return fenced(_lines(found)) if found else "- none"


def _repo(repo: Repo) -> str:
    facts = [repo.role or "", ", ".join(repo.tags), repo.path or presentable_url(repo.url or "")]
    checks = f"checks {listed([check.name for check in repo.qa])}" if repo.qa else ""
    return ": ".join(filter(None, [repo.name, " | ".join(filter(None, (*facts, checks)))]))


def _dependencies(ecosystem: Ecosystem, names: Collection[str]) -> Iterable[str]:
    for found in ecosystem.coordination.dependencies:
        if {found.consumer, found.provider} & set(names):
            version = f" {found.version_constraint}" if found.version_constraint else ""
            needs = f"{found.consumer} needs {found.provider}{version}"
            yield f"{found.id}: {needs} ({found.type}, {found.status})"


def _plan(ecosystem: Ecosystem, plan: Plan) -> str:
    return f"{plan.id} ({plan.status}): {plan.title}; {len(ecosystem.todos_of(plan))} todos"


def _issue(issue: Issue) -> str:
    return f"{issue.id} ({', '.join(issue.repos) or 'all'}): {issue.title}"
