"""Records as tables, without empty columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from coordination.api import OPEN, TodoInView
from coordination.cli.context import this_call
from coordination.cli.screen.tables import due, filled, print_none, print_table, status_cell
from coordination.cli.times import how_long
from coordination.declared import Cell, Column
from coordination.files import is_folder
from coordination.models import OPEN_TODO, Issue, Plan, Repo, Todo
from coordination.states import Tone, tone_of

GIVING = frozenset({"WORKER", "ASSIGNEE", "PATH", "REPOS", "TITLE", "TASK", "NOTES", "TAGS"})
"""Columns that shrink in a narrow terminal."""
LEAVING = {"WORKER": 3, "ASSIGNEE": 2, "TARGET": 1}
"""Columns that leave a narrow terminal, the highest first."""
NO_RUN = ("", "", "")
"""Columns on the run of a todo that no live run has."""


def print_repos(repos: Sequence[Repo]) -> None:
    """Print path and open work of each repository."""
    document = this_call().coord.document
    declared = document.ecosystem.coordination
    todos = Counter(todo.repo for todo in declared.todos if todo.status in OPEN)
    issues = Counter(repo for issue in declared.issues if issue.status in OPEN for repo in set(issue.repos))
    _print(
        ("REPO", "ROLE", "BRANCH", "ISSUES", "TODOS", "PATH", "TAGS"),
        [
            (
                r.name,
                r.role,
                r.branch,
                issues[r.name] or "",
                todos[r.name] or "",
                _place(r, document.repo_path(r)),
                ", ".join(r.tags),
            )
            for r in repos
        ],
        ("no repository matches", "declare them: coord help file"),
    )


def _place(repo: Repo, path: Path | None) -> Cell:
    if path is None:
        return Cell(repo.url)
    return Cell(repo.path) if is_folder(path) else Cell(f"{repo.path} (not there)", Tone.BAD)


def print_issues(issues: Sequence[Issue]) -> None:
    today = date.today()
    _print(
        ("ISSUE", "STATUS", "PRIORITY", "TARGET", "ASSIGNEE", "REPOS", "TITLE"),
        [
            (
                i.id,
                status_cell(i.status),
                status_cell(i.priority),
                due(i.target, today, over=i.status not in OPEN),
                i.assignee,
                ", ".join(i.repos),
                i.title,
            )
            for i in issues
        ],
        ("no issue matches", "create one: coord issue create"),
    )


def print_todos(todos: Sequence[Todo]) -> None:
    """Print todos; those in live runs with their state there, the run and the worker."""
    _print(
        ("TODO", "STATUS", "PRIORITY", "NOW", "RUN", "WORKER", "REPO", "ASSIGNEE", "TASK"),
        [
            (
                t.id,
                status_cell(t.status),
                status_cell(t.priority),
                *(_in_run(t) if isinstance(t, TodoInView) and t.run_id else NO_RUN),
                t.repo,
                t.assignee,
                t.task,
            )
            for t in todos
        ],
        ("no todo matches", "create one: coord todo create"),
    )


def _in_run(todo: TodoInView) -> tuple[Cell, str | None, str | None]:
    return Cell(state_in_run(todo), tone_of(todo.run_state)), todo.run_id, todo.worker


def state_in_run(todo: TodoInView) -> str:
    """Return `running for 4 min`: the state of a todo in its live run."""
    return f"{todo.run_state}{for_how_long(todo.since)}"


def for_how_long(since: str | None) -> str:
    """Return ` for 4 min`; nothing if the time is not known."""
    return f" for {how_long(datetime.now(UTC) - datetime.fromisoformat(since))}" if since else ""


def print_plans(plans: Sequence[Plan]) -> None:
    """Print plans with their progress."""
    today, todos_of = date.today(), this_call().coord.manager.plan_todos
    _print(
        ("PLAN", "STATUS", "TARGET", "DONE", "REPOS", "TITLE"),
        [
            (
                p.id,
                status_cell(p.status),
                due(p.target, today, over=p.status not in OPEN),
                done(todos_of(p.id)),
                ", ".join(p.repos),
                p.title,
            )
            for p in plans
        ],
        ("no plan matches", "create one: coord plan create"),
    )


def done(todos: Sequence[Todo]) -> str:
    """Return `2/5`, or nothing without todos."""
    return f"{sum(todo.status not in OPEN_TODO for todo in todos)}/{len(todos)}" if todos else ""


def _print(names: Sequence[str], rows: Sequence[Sequence[object]], none: tuple[str, str]) -> None:
    if not rows:
        print_none(*none)
        return
    columns = [Column(name, flexible=name in GIVING, leaves=LEAVING.get(name, 0)) for name in names]
    print_table(*filled(columns, rows))
