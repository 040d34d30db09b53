"""Queries of the file: filters and order, unknown names, and the manager's other ways to create records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from managers import manager_of

from coordination.ecosystem.document import parse
from coordination.ecosystem.journal import Journal
from coordination.errors import NotFound, UsageError
from coordination.models import Issue, Plan
from coordination.tracker.manager import CoordinationManager

TEXT = b"""
repos: [{name: api, tags: [core], role: service}, {name: web, tags: [js]}]
coordination:
  issues:
    - {id: I-10, title: t, priority: high, repos: [api, web], assignee: ann, labels: [x]}
    - {id: I-9, title: t, priority: high, repos: [web]}
    - {id: I-8, title: t, priority: high, target: 2026-05-01, labels: [x, y]}
    - {id: I-7, title: t, priority: high, target: 2026-04-01T12:00:00Z, status: closed}
    - {id: I-6, title: t, priority: critical, status: in_progress}
    - {id: I-5, title: t, priority: low}
    - {id: I-4, title: t}
  plans:
    - {id: P-10, title: t, status: active}
    - {id: P-9, title: t}
    - {id: P-11, title: t, target: 2026-01-01}
  todos:
    - {id: TODO-10, task: t, repo: api, plan: P-9}
    - {id: TODO-2, task: t, repo: web, plan: P-10, assignee: bob}
    - {id: TODO-1, task: t, repo: undeclared, priority: low}
  dependencies:
    - {id: D-10, consumer: web, provider: api, type: test}
    - {id: D-2, consumer: api, provider: far, status: satisfied}
"""
MANAGER = CoordinationManager(parse(TEXT, Path("ecosystem.yaml")).document)

ANSWERS: list[tuple[Callable[[CoordinationManager], Any], str]] = [
    (lambda m: m.list_issues(), "I-6 I-7 I-8 I-9 I-10 I-4 I-5"),
    (lambda m: m.list_issues(status=["closed", "in_progress"]), "I-6 I-7"),
    (lambda m: m.list_issues(status=[]), ""),
    (lambda m: m.list_issues(repo="web"), "I-9 I-10"),
    (lambda m: m.list_issues(repo=["api", "web"], assignee="ann"), "I-10"),
    (lambda m: m.list_issues(label="x"), "I-8 I-10"),
    (lambda m: m.list_issues(label=("x", "y"), priority={"high"}), "I-8 I-10"),
    (lambda m: m.list_plans(), "P-11 P-9 P-10"),
    (lambda m: m.list_plans(repo="api"), "P-9"),
    (lambda m: m.list_plans(status=["draft"], repo=["api", "web"]), "P-9"),
    (lambda m: m.list_todos(), "TODO-2 TODO-10 TODO-1"),
    (lambda m: m.list_todos(plan=["P-10", "P-9"]), "TODO-2 TODO-10"),
    (lambda m: m.list_todos(repo="undeclared"), "TODO-1"),
    (lambda m: m.list_todos(assignee="ann"), ""),
    (lambda m: m.list_dependencies(), "D-2 D-10"),
    (lambda m: m.list_dependencies(type="test"), "D-10"),
    (lambda m: m.list_dependencies(consumer="api", provider="far"), "D-2"),
    (lambda m: m.list_dependencies(status="unknown"), "D-10"),
    (lambda m: m.list_repos(), "api web"),
    (lambda m: m.list_repos(tag="js"), "web"),
    (lambda m: m.list_repos(tag="js", role="service"), ""),
    (lambda m: m.plan_todos("P-9"), "TODO-10"),
]


@pytest.mark.parametrize(("ask", "ids"), ANSWERS)
def test_filters_intersect_and_the_most_urgent_comes_first(
    ask: Callable[[CoordinationManager], Any], ids: str
):
    assert " ".join(getattr(r, "id", None) or r.name for r in ask(MANAGER)) == ids


REFUSED: list[tuple[Callable[[CoordinationManager], Any], type[UsageError], str, str]] = [
    (lambda m: m.list_issues(status="close"), UsageError,
        "status must be one of pending, in_progress, blocked, resolved, closed, got 'close'",
        "did you mean closed?"),
    (lambda m: m.list_todos(priority=["high", "urgent"]), UsageError,
        "priority must be one of critical, high, medium, low, got 'urgent'",
        "use one of these, or omit the filter to see all"),
    (lambda m: m.list_dependencies(type="run-time"), UsageError, "type must be one of",
        "did you mean runtime?"),
    (lambda m: m.list_todos(repo="wab"), NotFound, "there is no repo 'wab'", "did you mean web?"),
    (lambda m: m.list_issues(label="zzz"), NotFound, "there is no label 'zzz'",
        "list the known ones: coord issue list"),
    (lambda m: m.list_todos(plan="P-99"), NotFound, "there is no plan 'P-99'",
        "list the known ones: coord plan list"),
    (lambda m: m.list_repos(tag="cor"), NotFound, "there is no tag of a repo 'cor'", "did you mean core?"),
    (lambda m: m.list_repos(role="site"), NotFound, "there is no role of a repo 'site'", ""),
    (lambda m: m.list_plans(repo="zzzzzz"), NotFound, "there is no repo", "list the known ones"),
    (lambda m: m.get_plan("p-9"), NotFound, "there is no plan 'p-9'", "did you mean P-9?"),
    (lambda m: m.plan_todos("P-09"), NotFound, "there is no plan 'P-09'", "did you mean P-9?"),
    (lambda m: m.get_repo("apu"), NotFound, "there is no repo 'apu'", "did you mean api?"),
]  # fmt: skip


@pytest.mark.parametrize(("ask", "kind", "message", "hint"), REFUSED)
def test_what_nothing_could_match_is_refused(
    ask: Callable[[CoordinationManager], Any], kind: type[UsageError], message: str, hint: str
):
    with pytest.raises(kind) as refused:
        ask(MANAGER)

    assert refused.value.message.startswith(message)
    assert refused.value.hint.startswith(hint)


def test_a_name_in_a_file_without_such_records_is_refused_with_the_command_that_creates_one(tmp_path: Path):
    manager = manager_of(tmp_path, "repos: [{name: api}]\n")

    records = [{"task": "a", "repo": "api"}, {"task": "b", "repo": "api", "plan": "P"}]
    for ask in (lambda: manager.get_plan("P"), lambda: manager.create_all("todo", records)):
        with pytest.raises(NotFound) as caught:
            ask()
        assert caught.value.hint == "the file has none yet; create one: coord plan create"


def test_a_record_is_created_from_itself_or_its_fields(tmp_path: Path):
    manager = manager_of(tmp_path, "repos: [{name: api}, {name: web}]\n")

    issue = manager.create_issue(
        Issue(id="ISSUE-7", title="Slow", severity="migration", repos=("api",)), assignee="ann"
    )
    todo = manager.create_todo({"task": "measure", "repo": "api"}, assignee="ann").record
    plan = manager.create_plan(Plan(id="P", title="Faster")).record
    manager.create_dependency({"consumer": "api", "provider": "web"})

    assert manager.get_issue("ISSUE-7") == issue.record
    assert (issue.record.severity, issue.record.assignee, plan.id) == ("migration", "ann", "P")
    assert [found.id for found in manager.list_todos("pending", "api", "ann")] == [todo.id]


def test_every_edit_is_remembered_also_under_the_names_with_memory(tmp_path: Path):
    manager = manager_of(tmp_path, "repos: [{name: api}]\n")

    issue = manager.create_issue_with_memory(title="slow").record.id
    manager.update_issue_with_memory(issue, {"priority": "high"})
    manager.close_issue_with_memory(issue)
    todo = manager.create_todo_with_memory(task="profile", repo="api").record.id
    manager.complete_todo_with_memory(todo)
    assert manager.check_dependencies_with_memory().outcomes == ()

    _, *edits = Journal(manager.document.path).entries()
    assert [(event["kind"], event["subject"]) for edit in edits for event in edit.events] == [
        ("issue.created", issue),
        ("issue.updated", issue),
        ("issue.closed", issue),
        ("todo.created", todo),
        ("todo.completed", todo),
    ]
