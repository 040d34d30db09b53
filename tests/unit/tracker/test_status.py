"""Where things stand, and what holds up what."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from managers import manager_of

from coordination.errors import NotFound
from coordination.tracker.manager import CoordinationManager

TEXT = """
repos:
  - {name: api, path: api, branch: trunk}
  - {name: web, path: nowhere}
  - {name: docs}
coordination:
  issues:
    - {id: I-1, title: the schema moves, repos: [api], blocking: [T-1], priority: high, target: 2026-03-01}
    - {id: I-2, title: over, repos: [api], status: closed, blocking: [T-5], target: 2026-01-01}
    - {id: I-3, title: holds up nothing, repos: [web]}
  plans:
    - id: P-1
      title: the plan
      status: active
      repos: [api]
      target: 2026-04-01
      milestones:
        - {id: M1, name: half of it, due: 2026-02-01}
        - {id: M2, name: done, due: 2026-02-01, status: completed}
    - {id: P-2, title: over, status: completed, repos: [web], target: 2026-01-01}
  todos:
    - {id: T-1, task: t, repo: api, plan: P-1}
    - {id: T-2, task: t, repo: web, blocked_by: [T-1]}
    - {id: T-3, task: t, repo: web, blocked_by: [P-1], priority: high}
    - {id: T-4, task: t, repo: web, status: in_progress}
    - {id: T-5, task: t, repo: web, blocked_by: [I-2]}
    - {id: T-6, task: t, repo: web, status: completed}
    - {id: T-7, task: t, repo: docs, status: blocked}
    - {id: T-8, task: t, repo: docs, blocked_by: [T-99]}
  dependencies:
    - {id: D-1, consumer: web, provider: api, status: unsatisfied}
    - {id: D-2, consumer: docs, provider: web, status: satisfied}
"""


@pytest.fixture
def manager(tmp_path: Path) -> CoordinationManager:
    (tmp_path / "api").mkdir()
    return manager_of(tmp_path, TEXT)


def test_issues_that_hold_up_a_repository_come_with_what_they_hold_up_and_how(manager: CoordinationManager):
    (blocking,) = manager.get_blocking_issues("web")

    assert blocking.issue.id == "I-1"
    assert {held.work.id: held.chain for held in blocking.holds_up} == {
        "T-2": ("I-1", "T-1", "T-2"),
        "T-3": ("I-1", "T-1", "P-1", "T-3"),
    }
    assert manager.get_blocking_issues("docs") == ()


def test_a_repository_with_everything_that_concerns_it(manager: CoordinationManager):
    web = manager.get_repo_status("web")

    assert web.counts == {
        "issues": {"pending": 1},
        "todos": {"pending": 3, "in_progress": 1, "completed": 1},
        "plans": {"completed": 1},
    }
    assert [issue.id for issue in web.issues] == ["I-3"]
    assert [todo.id for todo in web.ready] == ["T-5"]
    assert [todo.id for todo in web.in_progress] == ["T-4"]
    assert [(held.todo.id, [tie.id for tie in held.by]) for held in web.blocked] == [
        ("T-3", ["P-1"]),
        ("T-2", ["T-1"]),
    ]
    assert [d.id for d in web.needs] == ["D-1"]
    assert [d.id for d in web.needed_by] == ["D-2"]
    assert (web.blocking_issues, web.plans, web.present) == (("I-1",), (), False)


def test_where_a_repository_is(manager: CoordinationManager):
    api = manager.get_repo_status("api")

    assert (api.present, api.path) == (True, str(manager.document.path.parent / "api"))
    assert [plan.id for plan in api.plans] == ["P-1"]
    assert manager.get_repo_status("docs").path is None
    with pytest.raises(NotFound, match="apj"):
        manager.get_repo_status("apj")


def test_the_whole_of_it(manager: CoordinationManager):
    status = manager.get_ecosystem_status()

    assert status.counts["issues"] == {"pending": 2, "closed": 1}
    assert [todo.id for todo in status.ready] == ["T-5"]
    assert [(held.todo.id, [tie.id for tie in held.by]) for held in status.blocked] == [
        ("T-3", ["P-1"]),
        ("T-1", ["I-1"]),
        ("T-2", ["T-1"]),
        ("T-7", []),
        ("T-8", ["T-99"]),
    ]
    assert [(late.id, late.due, late.days, late.plan) for late in status.overdue] == [
        ("M1", date(2026, 2, 1), 31, "P-1"),
        ("I-1", date(2026, 3, 1), 3, None),
    ]
    assert [(heavy.work.id, heavy.holds_up) for heavy in status.most_blocking] == [
        ("I-1", 3),
        ("T-1", 2),
        ("P-1", 1),
    ]


def test_one_line_for_each_repository(manager: CoordinationManager):
    lines = {line.name: line for line in manager.get_ecosystem_status().repos}

    web = lines["web"]
    assert (web.open_issues, web.ready, web.in_progress, web.blocked, web.done, web.unsatisfied) == (
        1,
        1,
        1,
        2,
        1,
        1,
    )
    assert (lines["api"].present, lines["docs"].blocked) == (True, 2)


def test_what_blocks_and_what_it_blocks(manager: CoordinationManager):
    assert [(tie.id, tie.kind, tie.status, tie.holds) for tie in manager.chains_of("T-1").waits_for] == [
        ("I-1", "issue", "pending", True)
    ]
    assert [(tie.id, tie.holds) for tie in manager.chains_of("T-5").waits_for] == [("I-2", False)]
    assert [(tie.id, tie.kind) for tie in manager.chains_of("T-8").waits_for] == [("T-99", "unknown")]
    assert [tie.id for tie in manager.chains_of("T-1").holds_up] == ["T-2"]
    assert [tie.id for tie in manager.chains_of("P-1").holds_up] == ["T-3"]
    assert manager.chains_of("P-1").waits_for == ()
    with pytest.raises(NotFound, match="T-0"):
        manager.chains_of("T-0")


def test_a_repository_that_is_only_used_has_a_status_too(tmp_path: Path):
    manager = manager_of(tmp_path, "coordination: {todos: [{id: T-1, task: t, repo: api}]}\n")

    assert [todo.id for todo in manager.get_repo_status("api").ready] == ["T-1"]
    assert [line.name for line in manager.get_ecosystem_status().repos] == ["api"]


def test_cycles_do_no_harm(tmp_path: Path):
    manager = manager_of(
        tmp_path,
        """
        coordination:
          issues: [{id: I-1, title: t, repos: [r], dependencies: [T-2], blocking: [T-1]}]
          todos:
            - {id: T-1, task: t, repo: r, blocked_by: [T-2]}
            - {id: T-2, task: t, repo: r, blocked_by: [T-1]}
        """,
    )

    assert [heavy.work.id for heavy in manager.get_ecosystem_status().most_blocking] == ["T-2", "I-1", "T-1"]
    assert [held.work.id for held in manager.get_blocking_issues("r")[0].holds_up] == ["T-1", "T-2"]
