"""Todos that need what there is not, or not so much of it."""

from __future__ import annotations

import pytest
from planner_ecosystems import PLAN, ecosystem, todo

from coordination.errors import PlanRefused
from coordination.models import Ecosystem, Resource, Todo
from coordination.planner.graph import alone, build
from coordination.planner.selection import Selectors


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
