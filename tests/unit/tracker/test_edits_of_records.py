"""Records created and changed: what stands in the file then, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from managers import NOW, manager_of, statuses, text_of

from coordination.ecosystem.document import load
from coordination.errors import Conflict, CoordinationError, Incomplete, NotFound, UsageError
from coordination.models import IssueStatus, Level
from coordination.tracker.manager import CoordinationManager
from coordination.tracker.transaction import Numbering

TEXT = """
repos:
  - {name: api}
  - {name: web}
coordination:
  issues:
    - id: ISSUE-001
      title: it breaks   # in the night
      status: pending
      repos: [api]
      updated: 2026-01-01
  plans:
    - id: PLAN-001
      title: the plan
      status: active
      milestones:
        - {id: M1, name: one, status: pending}
  todos:
    # the first of all
    - id: TODO-001
      task: first
      repo: api
      status: pending
      priority: high
      created: 2026-01-01T10:00:00Z
      plan: PLAN-001
    - id: TODO-002
      task: second
      repo: web
      status: pending
      blocked_by: [TODO-001]
  dependencies:
    - {id: DEP-001, consumer: web, provider: api, status: unknown}
"""


@pytest.fixture
def manager(tmp_path: Path) -> CoordinationManager:
    return manager_of(tmp_path, TEXT)


def test_closing_an_issue_changes_its_status_and_date_and_nothing_else(manager: CoordinationManager):
    before = text_of(manager)

    edited = manager.close_issue("ISSUE-001")

    assert text_of(manager) == before.replace("status: pending", "status: closed", 1).replace(
        "updated: 2026-01-01", "updated: 2026-03-04"
    )
    assert (edited.record.status, edited.changed) == (IssueStatus.CLOSED, ("status",))
    assert manager.document == load(manager.document.path)


def test_a_time_is_written_where_the_record_has_times(manager: CoordinationManager):
    manager.complete_todo("TODO-001", actual_hours=1.25)

    assert "updated: 2026-03-04T05:06:07Z" in text_of(manager)
    assert manager.get_todo("TODO-001").actual_hours == 1.25


def test_what_stands_so_already_is_no_change_and_touches_nothing(manager: CoordinationManager):
    file = manager.document.path.stat()

    edited = manager.update_todo("TODO-001", {"status": "pending", "priority": "high", "labels": []})

    assert (edited.changed, edited.record.updated) == ((), None)
    assert manager.document.path.stat().st_ino == file.st_ino


def test_only_what_differs_is_written(manager: CoordinationManager):
    edited = manager.update_todo("TODO-001", {"priority": "high", "assignee": "ann", "description": None})

    assert edited.changed == ("assignee",)
    assert "description" not in text_of(manager)


def test_a_field_is_taken_out_with_none(manager: CoordinationManager):
    manager.update_todo("TODO-001", {"plan": None})

    assert manager.get_todo("TODO-001").plan is None
    assert "plan: PLAN-001" not in text_of(manager)


def test_what_an_update_adds_to_a_list_is_added_to_what_stands_there_by_then(manager: CoordinationManager):
    other = CoordinationManager(manager.document)
    other.update_todo("TODO-001", {"labels": ["theirs"]})

    manager.update_todo("TODO-001", lambda todo: {"labels": [*todo.labels, "mine"]})

    assert manager.get_todo("TODO-001").labels == ("theirs", "mine")


def test_a_created_todo_says_what_a_careful_person_would_write(manager: CoordinationManager):
    edited = manager.create_todo(task="third", repo="web", blocked_by=["TODO-002"], assignee=None)

    written = load(manager.document.path).ecosystem.coordination.todos[-1]
    assert written == edited.record
    assert written.model_fields_set == {"id", "task", "repo", "status", "priority", "created", "blocked_by"}
    assert (written.id, written.created, written.priority) == ("TODO-003", NOW, Level.MEDIUM)
    assert manager.get_todo("TODO-003") == written


@pytest.mark.parametrize(
    ("create", "name"),
    [
        (lambda m: m.create_issue(title="t"), "ISSUE-002"),
        (lambda m: m.create_plan(title="t", repos=["api"]), "PLAN-002"),
        (lambda m: m.create_todo(task="t", repo="api"), "TODO-003"),
        (lambda m: m.create_dependency(consumer="api", provider="web", version_constraint=">=1"), "DEP-002"),
        (lambda m: m.create_todo(task="t", repo="api", id="fix-it"), "fix-it"),
    ],
)
def test_each_kind_is_created_with_the_next_id_or_the_given_one(
    manager: CoordinationManager, create: Callable[[CoordinationManager], Any], name: str
):
    assert create(manager).record.id == name
    assert name in text_of(manager)


def test_records_of_a_kind_that_the_file_has_not_yet(tmp_path: Path):
    manager = manager_of(tmp_path, "repos: [{name: api}]\n")

    manager.create_issue(title="the first")
    manager.create_todo(task="and one to do", repo="api", blocked_by=["ISSUE-001"])

    assert statuses(manager) == {"ISSUE-001": "pending", "TODO-001": "pending"}


def test_several_are_created_in_one_edit_and_may_name_each_other(manager: CoordinationManager):
    made = manager.create_all(
        "todo",
        [
            {"task": "a", "repo": "api"},
            {"id": "TODO-005", "task": "b", "repo": "api", "blocked_by": ["TODO-003"]},
            {"task": "c", "repo": "api", "blocked_by": ["TODO-005"]},
        ],
    )

    assert [edited.record.id for edited in made] == ["TODO-003", "TODO-005", "TODO-004"]


def test_of_several_all_are_created_or_none(manager: CoordinationManager):
    before = text_of(manager)

    with pytest.raises(NotFound):
        manager.create_all("todo", [{"task": "a", "repo": "api"}, {"task": "b", "repo": "nowhere"}])

    assert text_of(manager) == before


def test_whoever_was_slower_works_on_what_the_other_has_left(manager: CoordinationManager):
    other = CoordinationManager(manager.document)

    names = [m.create_todo(task="t", repo="api").record.id for m in (manager, other, manager)]
    manager.complete_todo("TODO-001")

    assert names == ["TODO-003", "TODO-004", "TODO-005"]
    with pytest.raises(Conflict, match="TODO-001 is completed already"):
        other.complete_todo("TODO-001")


def test_milestones_are_completed_and_added_with_the_plan_in_one_edit(manager: CoordinationManager):
    edited = manager.update_plan(
        "PLAN-001", {"title": "a new name"}, complete_milestones=["M1"], add_milestones=[{"name": "two"}]
    )

    assert edited.changed == ("milestones", "title")
    plan = manager.get_plan("PLAN-001")
    assert [(m.id, m.name, m.status) for m in plan.milestones] == [
        ("M1", "one", "completed"),
        ("M2", "two", "pending"),
    ]
    assert (plan.title, plan.updated) == ("a new name", NOW.date())


def test_a_completed_milestone_is_not_completed_again(manager: CoordinationManager):
    manager.complete_milestone("PLAN-001", "M1")

    with pytest.raises(Conflict, match="M1 is completed already"):
        manager.complete_milestone("PLAN-001", "M1")


def test_a_plan_is_not_completed_while_something_of_it_is_open(manager: CoordinationManager):
    with pytest.raises(Incomplete) as refused:
        manager.update_plan("PLAN-001", {"status": "completed"})

    assert refused.value.findings == ("TODO-001 is pending: first", "M1 is pending: one")
    manager.complete_todo("TODO-001")
    manager.update_plan("PLAN-001", {"status": "completed"}, complete_milestones=["M1"])
    assert statuses(manager)["PLAN-001"] == "completed"


def test_the_last_todo_of_a_plan_hints_at_its_completion(manager: CoordinationManager):
    (note,) = manager.complete_todo("TODO-001").notes

    assert "coord plan validate PLAN-001" in note


def test_a_todo_may_be_completed_before_its_blockers_and_that_is_said(manager: CoordinationManager):
    assert manager.complete_todo("TODO-002").notes == (
        "TODO-002 is completed, though it waited for TODO-001",
    )


def test_who_waits_for_a_cancelled_todo_is_named(manager: CoordinationManager):
    edited = manager.update_todo("TODO-001", {"status": "cancelled"})

    assert edited.ready == ()
    assert edited.notes[0].startswith("TODO-002 waits for TODO-001, which is cancelled")


def test_a_file_without_repositories_takes_any_and_says_so(tmp_path: Path):
    manager = manager_of(tmp_path, "coordination: {todos: [{id: T-1, task: t, repo: api}]}\n")

    assert "could not be checked" in manager.create_todo(task="t", repo="apu").notes[0]


REFUSED: dict[str, tuple[Callable[[CoordinationManager], Any], type[CoordinationError], str, str]] = {
    "an unknown status": (lambda m: m.update_todo("TODO-001", {"status": "complet"}), UsageError,
     "TODO-001: status must be one of pending, in_progress, blocked, completed, cancelled, got 'complet'",
     "did you mean completed?"),
    "a status that may not follow": (lambda m: m.update_plan("PLAN-001", {"status": "draft"}), Conflict,
     "PLAN-001 is active and cannot become draft",
     "from active it can become on_hold or completed or cancelled"),
    "no estimate": (lambda m: m.update_todo("TODO-001", {"estimated_hours": 0}), UsageError,
     "TODO-001: estimated_hours must be more than 0, got 0",
     "correct that and try again; all fields: coord schema"),
    "no date": (lambda m: m.create_issue(title="t", target="tomorrow"), UsageError,
     "the new issue: target needs a date like 2026-01-31, with or without a time, got 'tomorrow'",
     "correct that and try again; all fields: coord schema"),
    "a missing field": (lambda m: m.create_todo(repo="api"), UsageError,
     "the new todo: task is missing; it is required", "correct that and try again; all fields: coord schema"),
    "a field that must stay": (lambda m: m.update_todo("TODO-001", {"task": None}), UsageError,
     "TODO-001: task is missing; it is required", "correct that and try again; all fields: coord schema"),
    "a milestone that waits for nothing known": (
     lambda m: m.add_milestone("PLAN-001", name="n", dependencies=["M7"]), NotFound,
     "there is no todo, issue, plan or own milestone 'M7'", "list the known ones: coord todo list"),
    "a field of another kind": (lambda m: m.create_todo(title="t", repo="api", task="t"), UsageError,
     "the new todo: unknown field 'title'", "did you mean task?"),
    "another id": (lambda m: m.update_todo("TODO-001", {"id": "TODO-009"}), UsageError,
     "TODO-001: the id of a record cannot be changed, because others name it",
     "create another one and delete this one"),
    "an id that exists": (lambda m: m.create_todo(id="TODO-001", task="t", repo="api"), Conflict,
     "there is a record with the id TODO-001 already", "leave the id out to get the next free one"),
    "an id that another kind has": (lambda m: m.create_todo(id="PLAN-001", task="t", repo="api"), Conflict,
     "there is a record with the id PLAN-001 already", "leave the id out to get the next free one"),
    "an unknown repo": (lambda m: m.create_todo(task="t", repo="apu"), NotFound,
     "there is no repo 'apu' (did you mean 'api'?)", "list the known ones: coord repo list"),
    "an unknown plan": (lambda m: m.update_todo("TODO-001", {"plan": "PLAN-01"}), NotFound,
     "there is no plan 'PLAN-01' (did you mean 'PLAN-001'?)", "list the known ones: coord plan list"),
    "an unknown blocker": (lambda m: m.update_todo("TODO-001", {"blocked_by": ["ISUE-001"]}), NotFound,
     "there is no todo, issue or plan 'ISUE-001' (did you mean 'ISSUE-001'?)",
     "list the known ones: coord todo list"),
    "itself as a blocker": (lambda m: m.update_todo("TODO-001", {"blocked_by": ["TODO-001"]}), UsageError,
     "TODO-001 cannot wait for itself", "name another one"),
    "a cycle": (lambda m: m.update_todo("TODO-001", {"blocked_by": ["TODO-002"]}), UsageError,
     "a cycle: TODO-001 → TODO-002 → TODO-001", "remove one of these dependencies first"),
    "a cycle through the plan": (lambda m: m.update_todo("TODO-001", {"blocked_by": ["PLAN-001"]}),
     UsageError, "a cycle: TODO-001 → PLAN-001 → TODO-001", "remove one of these dependencies first"),
    "an unknown todo": (lambda m: m.complete_todo("TODO-1"), NotFound, "there is no todo 'TODO-1'",
     "did you mean TODO-001?"),
    "an issue among the todos": (lambda m: m.complete_todo("ISSUE-001"), NotFound,
     "ISSUE-001 is an issue, not a todo", "see it: coord issue show ISSUE-001"),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "kind", "message", "hint"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_off_is_refused_in_words_that_help_and_nothing_is_written(
    manager: CoordinationManager,
    operation: Callable[[CoordinationManager], Any],
    kind: type[CoordinationError],
    message: str,
    hint: str,
):
    with pytest.raises(kind) as refused:
        operation(manager)

    assert (refused.value.message, refused.value.hint) == (message, hint)
    assert manager.document == load(manager.document.path)
    assert text_of(manager) == text_of(manager_of(manager.document.path.parent, TEXT))


def test_everything_that_is_off_is_said_at_once(manager: CoordinationManager):
    with pytest.raises(UsageError) as refused:
        manager.create_todo(repo="api", estimated_hours=-1, priority="hihg")

    assert refused.value.message.count("\n  - ") == 3


def test_references_that_were_loose_before_hold_up_no_other_change(tmp_path: Path):
    manager = manager_of(
        tmp_path,
        "repos: [{name: api}]\ncoordination:\n  todos:\n    - {id: T-1, task: t, repo: gone, blocked_by: "
        "[T-9], plan: P}\n",
    )

    manager.update_todo("T-1", {"assignee": "ann"})

    assert manager.get_todo("T-1").assignee == "ann"


def test_a_cycle_that_was_there_before_can_be_taken_apart_step_by_step(tmp_path: Path):
    manager = manager_of(
        tmp_path,
        """
        coordination:
          todos:
            - {id: T-1, task: t, repo: api, blocked_by: [T-2, T-3]}
            - {id: T-2, task: t, repo: api, blocked_by: [T-1]}
            - {id: T-3, task: t, repo: api, blocked_by: [T-1]}
        """,
    )

    manager.update_todo("T-1", {"blocked_by": ["T-3"]})
    manager.update_todo("T-1", {"blocked_by": []})

    assert manager.get_todo("T-1").blocked_by == ()


@pytest.mark.parametrize(
    ("own", "taken", "expected"),
    [
        ([], [], "TODO-001"),
        (["TODO-001", "TODO-002"], [], "TODO-003"),
        (["TODO-001", "TODO-009"], [], "TODO-010"),
        (["TODO-005", "TODO-002"], [], "TODO-006"),
        (["T-1", "T-9"], [], "T-10"),
        (["T-0099"], [], "T-0100"),
        (["TODO-999"], [], "TODO-1000"),
        (["API-7", "API-8", "WEB-31"], [], "API-9"),
        (["API-7", "WEB-31"], [], "WEB-32"),
        (["fix-the-build"], [], "TODO-001"),
        (["v2.x-1", "v2.x-2"], [], "v2.x-3"),
        (["7", "12"], [], "13"),
        (["TODO-001"], ["TODO-004"], "TODO-005"),
        ([], ["TODO-001"], "TODO-002"),
        (["TODO-001"], ["ISSUE-900"], "TODO-002"),
        (["T-20260131"], [], "T-20260132"),
    ],
)
def test_the_next_id_follows_the_highest(own: list[str], taken: list[str], expected: str):
    assert Numbering(own, taken, "TODO-001").next() == expected


def test_several_in_a_row_step_over_what_was_given_by_hand():
    numbering = Numbering(["T-1"], [], "TODO-001")

    assert [numbering.next(), numbering.next({"T-3"}), numbering.next()] == ["T-2", "T-4", "T-5"]
