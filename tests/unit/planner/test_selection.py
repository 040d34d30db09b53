"""Selecting the todos of a sweep: one kind of selector is a union, the kinds intersect."""

from __future__ import annotations

from typing import Any

import pytest
from planner_ecosystems import PLAN, todo

from coordination.errors import NotFound
from coordination.models import Coordination, Ecosystem, Plan, Repo
from coordination.planner.selection import Selectors, select
from coordination.text import counted

ECOSYSTEM = Ecosystem(
    repos=(
        Repo(name="core", role="library", tags=("base", "python")),
        Repo(name="parser", role="library", tags=("python",)),
        Repo(name="web", role="service", tags=("node",)),
    ),
    coordination=Coordination(
        plans=(Plan(id=PLAN, title="a plan"),),
        todos=(
            todo("A", repo="core"),
            todo("B", repo="parser"),
            todo("C", repo="web"),
            todo("D", repo="web", status="completed"),
        ),
    ),
)
THE_PLAN = ECOSYSTEM.coordination.plans[0]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        pytest.param({}, "ABC", id="all that is open"),
        pytest.param({"tags": ["python"]}, "AB", id="by tag"),
        pytest.param({"tags": ["base", "node"]}, "AC", id="two tags are a union"),
        pytest.param({"roles": ["service"]}, "C", id="by role"),
        pytest.param({"tags": ["python"], "repos": ["core", "web"]}, "A", id="tag and repo intersect"),
        pytest.param({"roles": ["library"], "tags": ["node"]}, "", id="nothing is both"),
        pytest.param({"failed": ["B", "C", "D"]}, "BC", id="failed, and still open"),
        pytest.param({"failed": ["B", "C"], "tags": ["python"]}, "B", id="failed and tag intersect"),
        pytest.param({"todos": ["A", "C"], "roles": ["service"]}, "C", id="todo and role intersect"),
    ],
)
def test_one_kind_is_a_union_and_the_kinds_intersect(asked: dict[str, Any], found: str) -> None:
    selection = select(ECOSYSTEM, THE_PLAN, Selectors(**asked))

    assert list(selection.todos) == list(found)
    assert set(selection.left_out) == set("ABC") - set(found)
    assert bool(selection.nothing) is not bool(found)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        pytest.param({"tags": ["pyton"]}, "no repo with tag 'pyton' (did you mean 'python'?)", id="tag"),
        pytest.param(
            {"roles": ["servise"]}, "no repo with role 'servise' (did you mean 'service'?)", id="role"
        ),
        pytest.param({"repos": ["cor"]}, "no repo 'cor' (did you mean 'core'?)", id="repo"),
    ],
)
def test_an_unknown_selector_gets_the_nearest_one(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(NotFound) as caught:
        select(ECOSYSTEM, THE_PLAN, Selectors(**asked))

    assert words in caught.value.message


def test_a_plan_whose_latest_run_failed_nowhere_says_so() -> None:
    assert (
        select(ECOSYSTEM, THE_PLAN, Selectors(failed=[])).nothing
        == "nothing failed in the latest run of PLAN-001"
    )


def test_one_is_singular() -> None:
    assert [counted(n, "todo") for n in (0, 1, 2)] == ["0 todos", "1 todo", "2 todos"]
    assert counted(3, "repository") == "3 repositories"
