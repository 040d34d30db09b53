"""Questions about the file, and what is answered when the question is off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from managers import manager_of

from coordination.ecosystem.document import parse
from coordination.ecosystem.journal import Journal
from coordination.errors import NotFound
from coordination.models import Issue, Plan
from coordination.tracker.manager import CoordinationManager

TEXT = b"""
repos:
  - {name: api, role: service, tags: [python, core]}
  - {name: web, role: site, tags: [js]}
coordination:
  plans:
    - {id: PLAN-1, title: named, status: active, repos: [web]}
    - {id: PLAN-2, title: by repo, repos: [api]}
  todos:
    - {id: T-1, task: t, repo: api, plan: PLAN-1, priority: high, labels: [x], assignee: ann}
    - {id: T-2, task: t, repo: api, status: completed}
    - {id: T-3, task: t, repo: api, status: blocked, assignee: ann}
    - {id: T-4, task: t, repo: web, labels: [x, y]}
"""
MANAGER = CoordinationManager(parse(TEXT, Path("ecosystem.yaml")).document)


def test_repositories_by_tag_and_role():
    assert [r.name for r in MANAGER.list_repos()] == ["api", "web"]
    assert [r.name for r in MANAGER.list_repos(tag="js")] == ["web"]
    assert [r.name for r in MANAGER.list_repos(tag="core", role="site")] == []


def test_a_plan_has_the_todos_that_name_it_or_the_open_ones_of_its_repositories():
    assert [t.id for t in MANAGER.plan_todos("PLAN-1")] == ["T-1"]
    assert [t.id for t in MANAGER.plan_todos("PLAN-2")] == ["T-3"]


@pytest.mark.parametrize(
    ("ask", "hint"),
    [
        (lambda: MANAGER.get_plan("plan-1"), "did you mean PLAN-1?"),
        (lambda: MANAGER.plan_todos("PLAN-01"), "did you mean PLAN-1?"),
        (lambda: MANAGER.get_todo("T-9"), "coord list-todos"),
        (lambda: MANAGER.get_repo("apu"), "did you mean api?"),
        (lambda: MANAGER.list_todos(repo="wen"), "did you mean web?"),
        (lambda: MANAGER.list_todos(plan="zzzzzz"), "list the known ones: coord list-plans"),
        (lambda: MANAGER.list_plans(repo="zzzzzz"), "list the known ones: coord list-repos"),
    ],
)
def test_what_nobody_knows_is_not_found_with_what_was_meant(ask: Callable[[], object], hint: str):
    with pytest.raises(NotFound) as caught:
        ask()

    assert hint in caught.value.hint


def test_a_name_in_a_file_without_such_records_is_refused_with_the_command_that_creates_one(tmp_path: Path):
    path = tmp_path / "ecosystem.yaml"
    path.write_text("repos: [{name: api}]\n")
    manager = CoordinationManager.open(path)

    records = [{"task": "a", "repo": "api"}, {"task": "b", "repo": "api", "plan": "P"}]
    for ask in (lambda: manager.get_plan("P"), lambda: manager.create_all("todo", records)):
        with pytest.raises(NotFound) as caught:
            ask()
        assert caught.value.hint == "the file has none yet; create one: coord create-plan"


def test_a_record_is_created_from_itself_or_its_fields(tmp_path: Path):
    path = tmp_path / "ecosystem.yaml"
    path.write_text("repos: [{name: api}, {name: web}]\n")
    manager = CoordinationManager.open(path)

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
    manager = manager_of(tmp_path, TEXT.decode())

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
