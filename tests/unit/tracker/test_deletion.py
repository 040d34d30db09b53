"""Deleting: nothing in the file names what is no longer there."""

from __future__ import annotations

from pathlib import Path

import pytest
from managers import manager_of, statuses, text_of

from coordination.errors import Conflict, NotFound
from coordination.tracker.manager import CoordinationManager

TEXT = """
coordination:
  issues:
    - {id: I-1, title: t, blocking: [T-1], dependencies: [T-3]}
  plans:
    - id: P-1
      title: t
    - id: P-2
      title: t
      milestones:
        - {id: M1, name: n, status: blocked, dependencies: [T-1]}
  todos:
    - {id: T-1, task: t, repo: r, plan: P-1}
    - {id: T-2, task: t, repo: r, plan: P-1, blocked_by: [T-1]}
    - {id: T-3, task: t, repo: r, status: blocked, blocked_by: [T-1]}
    - {id: T-4, task: t, repo: r, blocked_by: [T-1, T-3]}
    - {id: T-5, task: t, repo: r}
  dependencies:
    - {id: D-1, consumer: a, provider: b}
"""


@pytest.fixture
def manager(tmp_path: Path) -> CoordinationManager:
    return manager_of(tmp_path, TEXT)


def test_what_nobody_names_goes(manager: CoordinationManager):
    before = text_of(manager)

    removed = manager.delete_todo("T-5")
    manager.delete_dependency("D-1")

    assert (removed.record.id, removed.also, removed.released) == ("T-5", (), ())
    assert "T-5" not in text_of(manager)
    assert text_of(manager).startswith(before.partition("    - {id: T-5")[0])


def test_what_others_name_is_refused_with_all_of_them(manager: CoordinationManager):
    before = text_of(manager)

    with pytest.raises(Conflict) as refused:
        manager.delete_todo("T-1")

    names = "I-1.blocking, P-2.M1.dependencies, T-2.blocked_by, T-3.blocked_by, T-4.blocked_by name it"
    assert refused.value.message == f"T-1 cannot be deleted: {names}"
    assert "--cascade" in refused.value.hint
    assert text_of(manager) == before


def test_what_goes_is_known_before(manager: CoordinationManager):
    assert not manager.what_goes("T-5")
    goes = manager.what_goes("P-1")
    assert goes.deleted == ("T-1", "T-2")
    assert goes.released == ("I-1.blocking", "P-2.M1.dependencies", "T-3.blocked_by", "T-4.blocked_by")
    with pytest.raises(NotFound):
        manager.what_goes("P-9")


def test_with_cascade_a_plan_goes_with_its_todos_and_the_others_lose_the_reference(
    manager: CoordinationManager,
):
    goes = manager.what_goes("P-1")

    removed = manager.delete_plan("P-1", cascade=True)

    assert (removed.also, removed.released) == (goes.deleted, goes.released)
    assert statuses(manager).keys() == {"I-1", "P-2", "T-3", "T-4", "T-5"}
    assert [manager.get_todo(name).blocked_by for name in ("T-3", "T-4")] == [(), ("T-3",)]
    assert (manager.get_issue("I-1").blocking, manager.get_plan("P-2").milestones[0].dependencies) == ((), ())
    assert not manager.document.warnings or all("repo" in w.message for w in manager.document.warnings)


def test_whoever_waited_for_it_only_is_ready(manager: CoordinationManager):
    removed = manager.delete_todo("T-1", cascade=True)

    assert removed.ready == ("T-2", "T-3", "P-2.M1")
    assert statuses(manager)["T-3"] == "pending"


def test_a_plan_goes_with_its_milestones_which_nobody_waits_for_any_more(tmp_path: Path):
    manager = manager_of(
        tmp_path,
        """
        coordination:
          plans:
            - {id: P-1, title: t, milestones: [{id: M1, name: n}, {id: M2, name: n}]}
            - {id: P-2, title: t, milestones: [{id: M2, name: n}]}
          todos:
            - {id: T-1, task: t, repo: r, blocked_by: [M1, M2], status: blocked}
        """,
    )
    assert manager.what_goes("P-1").released == ("T-1.blocked_by",)

    manager.delete_plan("P-1", cascade=True)

    assert (manager.get_todo("T-1").blocked_by, manager.get_todo("T-1").status) == (("M2",), "blocked")


def test_a_milestone_that_somebody_waits_for_stays(tmp_path: Path):
    manager = manager_of(
        tmp_path,
        """
        coordination:
          plans:
            - id: P-1
              title: t
              milestones: [{id: M1, name: n}, {id: M2, name: n}, {id: M3, name: n, dependencies: [M2]}]
            - {id: P-2, title: t, milestones: [{id: M2, name: n, dependencies: [M2]}, {id: M3, name: n}]}
          todos:
            - {id: T-1, task: t, repo: r, blocked_by: [M1, M2, M3]}
        """,
    )

    for milestone, naming in (("M1", "T-1.blocked_by"), ("M2", "P-1.M3.dependencies")):
        with pytest.raises(Conflict, match=f"{milestone} cannot be deleted: {naming} names it"):
            manager.update_plan("P-1", delete_milestones=[milestone])
    manager.update_plan("P-1", delete_milestones=["M3", "M2"])  # P-2 has both of that name

    assert [m.id for m in manager.get_plan("P-1").milestones] == ["M1"]


def test_a_record_of_another_kind_is_not_deleted_by_mistake(manager: CoordinationManager):
    with pytest.raises(NotFound, match="T-1 is a todo, not an issue"):
        manager.delete_issue("T-1")
