"""Tab: what is offered for a word that is being written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Offered

FILE = """\
repos:
  - {name: api, path: api, role: service, tags: [core]}
  - {name: web, path: web}
resources: [{name: gpu, capacity: 2}, {name: staging-db, type: database}]
coordination:
  issues:
    - {id: ISSUE-001, title: "Old: too old", repos: [api], labels: ["area:core", "two words"]}
  plans:
    - id: PLAN-001
      title: Raise the floor
      milestones: [{id: M1, name: All raised}]
  todos:
    - {id: TODO-001, plan: PLAN-001, task: Lift it, repo: api, assignee: jo}
    - {id: TODO-002, plan: PLAN-001, task: Use it, repo: web, labels: ["area:ui"]}
  dependencies:
    - {id: DEP-001, consumer: web, provider: api}
"""


def test_commands_and_their_options_are_offered(offered: Offered) -> None:
    assert {"list-todos", "list-plans", "list-runs"} <= set(offered("list-"))
    assert "--status" in offered("list-todos", "--st")


def test_names_of_the_file_are_offered_where_they_belong(offered: Offered) -> None:
    assert offered("show-todo", "") == ["TODO-001", "TODO-002"]
    assert offered("plan", "show", "plan-") == ["PLAN-001"]
    assert offered("list-todos", "--repo", "") == ["api", "web"]
    assert offered("list-todos", "--plan", "P") == ["PLAN-001"]
    assert offered("list-todos", "--assignee", "") == ["jo"]
    assert offered("repo", "list", "--tag", "") == ["core"]
    assert offered("history", "search", "PLAN") == ["PLAN-001", "PLAN-001/M1"]
    assert offered("history", "search", "--type", "to") == ["todo"]
    assert {"todo.cancelled", "todo.completed", "todo.created"} <= set(
        offered("history", "search", "--kind", "todo.c")
    )
    assert offered("history", "search", "--kind", "issue.*") == ["issue.*"]
    assert offered("history", "search", "--repo", "") == offered("history", "trends", "") == ["api", "web"]
    assert offered("create-todo", "--resource", "gpu,") == ["gpu,staging-db"]
    assert offered("todo", "update", "--add-resource", "") == ["gpu", "staging-db"]
    assert offered("sweep", "") == ["PLAN-001"]


def test_of_a_list_with_commas_the_last_part_is_completed(offered: Offered) -> None:
    assert offered("list-todos", "--repo", "api,") == ["api,web"]
    assert offered("list-todos", "--status", "pending,can") == ["pending,cancelled"]


def test_a_template_is_completed_field_by_field(offered: Offered) -> None:
    assert offered("list-todos", "--format", "'{id} {ta") == ["{id} {task}"]


def test_another_file_is_asked_where_one_is_named(offered: Offered, file: Path) -> None:
    (file.parent / "other.yaml").write_text("repos: [{name: lib}]")

    assert offered("--ecosystem", "other.yaml", "list-todos", "--repo", "") == ["lib"]
    assert offered("list-todos", "--ecosystem", "other.yaml", "--repo", "") == ["lib"]


@pytest.mark.parametrize("text", ["repos: [", "repos: {}", ""])
def test_a_file_that_cannot_be_used_offers_nothing_and_says_nothing(
    file: Path, offered: Offered, text: str
) -> None:
    file.write_text(text)

    assert offered("show-todo", "") == []
    assert offered("show-todo", "--js") == ["--json"]


def test_without_a_file_nothing_is_offered_and_nothing_is_started(file: Path, offered: Offered) -> None:
    file.unlink()

    assert offered("show-todo", "") == []
    assert list(file.parent.iterdir()) == []
