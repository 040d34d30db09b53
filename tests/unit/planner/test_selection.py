"""The todos of a plan that a sweep executes: selectors, and the resources that they need."""

from __future__ import annotations

from typing import Any

import pytest
from planner_ecosystems import PLAN, ecosystem, todo

from coordination.errors import NotFound, PlanRefused
from coordination.models import Coordination, Ecosystem, Plan, Repo, Resource, Todo
from coordination.planner.graph import alone, build
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
    ("plan", "asked", "words"),
    [
        pytest.param("PLAN-01", {}, "no plan 'PLAN-01' (did you mean 'PLAN-001'?)", id="plan"),
        pytest.param(
            PLAN, {"tags": ["pyton"]}, "no repo with tag 'pyton' (did you mean 'python'?)", id="tag"
        ),
        pytest.param(
            PLAN, {"roles": ["servise"]}, "no repo with role 'servise' (did you mean 'service'?)", id="role"
        ),
        pytest.param(PLAN, {"repos": ["cor"]}, "no repo 'cor' (did you mean 'core'?)", id="repo"),
        pytest.param(PLAN, {"todos": ["TODO-01"]}, "no todo 'TODO-01' (did you mean 'TODO-001'?)", id="todo"),
        pytest.param(
            PLAN, {"todos": ["OTHER"]}, "no todo 'OTHER' (it belongs to PLAN-002)", id="foreign todo"
        ),
    ],
)
def test_an_unknown_name_gets_the_nearest_one(plan: str, asked: dict[str, Any], words: str) -> None:
    todos = (*ECOSYSTEM.coordination.todos, todo("TODO-001"), todo("OTHER", plan="PLAN-002"))

    with pytest.raises(NotFound) as caught:
        build(ECOSYSTEM.with_coordination(todos=todos), plan, Selectors(**asked))

    assert words in caught.value.message
    assert caught.value.hint


CHAIN = ecosystem(todo("A"), todo("B", "A", repo="parser"), todo("C", "B", repo="parser"))


@pytest.mark.parametrize(
    ("selectors", "levels"),
    [
        pytest.param({"repos": ["core"]}, (("A",),), id="by repo"),
        pytest.param({"todos": ["A", "B"]}, (("A",), ("B",)), id="by todo"),
        pytest.param({"repos": ["core"], "todos": ["A", "B"]}, (("A",),), id="both must hold"),
        pytest.param({"repos": ["web"]}, (), id="a declared repo without todos"),
    ],
)
def test_selectors_narrow_the_sweep(selectors: dict[str, Any], levels: Any) -> None:
    graph = build(CHAIN, PLAN, Selectors(**selectors))

    assert graph.levels == levels
    assert bool(graph.nothing_to_do) is (not levels)


def test_what_was_not_asked_for_blocks_what_was() -> None:
    graph = build(CHAIN, PLAN, Selectors(todos=["B", "C"]))

    assert graph.blocked == {"B": "A, which is not part of this sweep", "C": "B, which is blocked by A"}
    assert graph.left_out == ("A",)


def test_a_plan_whose_latest_run_failed_nowhere_says_so() -> None:
    assert (
        select(ECOSYSTEM, THE_PLAN, Selectors(failed=[])).nothing
        == "nothing failed in the latest run of PLAN-001"
    )


def test_one_is_singular() -> None:
    assert [counted(n, "todo") for n in (0, 1, 2)] == ["0 todos", "1 todo", "2 todos"]
    assert counted(3, "repository") == "3 repositories"


def shop(*todos: Todo) -> Ecosystem:
    resources = (Resource(name="staging-db"), Resource(name="gpu", capacity=1000))
    return ecosystem(*todos).model_copy(update={"resources": resources})


def test_up_to_the_capacity_a_todo_may_need_all_of_it() -> None:
    eco = shop(
        todo("A", resources=("staging-db", {"name": "gpu", "amount": 1000})), todo("B", resources=["gpu"])
    )

    assert set(build(eco, PLAN).todos) == {"A", "B"}
    assert eco.capacities() == {"staging-db": 1, "gpu": 1000}


def test_a_refusal_names_every_wrong_resource_and_amount() -> None:
    eco = shop(
        todo("A", resources=("stagingdb", "gpu")),
        todo("B", resources=("stagingdb", {"name": "gpu", "amount": 1001})),
        todo("C", "NOBODY", resources=({"name": "staging-db", "amount": 2},)),
    )

    with pytest.raises(PlanRefused) as refused:
        build(eco, PLAN)

    assert refused.value.message.splitlines()[1:] == [
        "  - C is blocked by 'NOBODY', which the file does not declare: correct the name, or declare it",
        "  - resource 'stagingdb' of A, B is not declared (did you mean 'staging-db'?): "
        "add it to resources, or correct the name",
        "  - B needs 1,001 of gpu, which has a capacity of 1,000: lower the amount, or raise the capacity",
        "  - C needs 2 of staging-db, which has a capacity of 1: lower the amount, or raise the capacity",
    ]


def test_only_the_plan_that_needs_it_is_refused() -> None:
    eco = shop(todo("A"), todo("B", plan="OTHER", resources=("nothing",)), todo("C", resources=("nothing",)))

    assert set(build(eco, PLAN, Selectors(todos=["A"])).todos) == {"A"}
    assert set(alone(eco, eco.coordination.todos[0]).todos) == {"A"}
    with pytest.raises(PlanRefused, match="resource 'nothing' of B is not declared"):
        alone(eco, eco.coordination.todos[1])
