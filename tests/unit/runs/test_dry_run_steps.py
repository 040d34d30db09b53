"""A dry run of a sweep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coordination.cli.runs.sweep import print_dry_run
from coordination.models import Milestone, Strategy, Todo
from coordination.planner.graph import build
from coordination.planner.selection import Selectors
from coordination.planner.strategy import choose_strategy
from coordination.runs.submission.dry_run import DryRun, Workplace, command_text, dry_run, places_of
from coordination.runs.worker_registry import Worker
from coordination.settings import Settings
from tests.plans import PLAN, ecosystem, order

HERE = {name: (Workplace(host="h", path=f"/{name}"),) for name in ("r1", "r2")}
HOURS = {"estimated_hours": 1}


def worker(host: str, **more: Any) -> Worker:
    return Worker(id=f"coord-1@{host}", host=host, pid=1, version="1", repos=("r1",), jobs=1, **more)


def look(wanted: Selectors | None = None, strategy: Strategy = Strategy.LEVELS, **more: Any) -> DryRun:
    todos = {"A": "r1", "B": ("r2", ["A"]), "C": "r2", "D": ("r1", ["B", "C"])}
    eco = ecosystem(todos, **more)
    graph = build(eco, PLAN, wanted or Selectors())
    starts = choose_strategy(graph, strategy=strategy).taken.start
    return dry_run(graph, replace(order(strategy), starts=starts), eco, Settings(), HERE)


def test_levels_start_level_by_level_and_dataflow_as_soon_as_it_can() -> None:
    by_level = look()
    by_flow = look(
        strategy=Strategy.DATAFLOW, A={"estimated_hours": 9}, B=HOURS, C={"estimated_hours": 2}, D=HOURS
    )

    assert [step.id for step in by_level.steps] == ["A", "C", "B", "D"]
    assert [(step.level, step.after) for step in by_level.steps][-1] == (2, ("B", "C"))
    assert [step.id for step in by_flow.steps] == ["A", "C", "B", "D"]


def test_resources_have_a_column_where_a_todo_needs_one(capsys: pytest.CaptureFixture[str]) -> None:
    needs = {"resources": ["staging-db", {"name": "gpu", "amount": 2}]}

    print_dry_run(look())
    without = capsys.readouterr().out
    print_dry_run(look(capacities={"staging-db": 1, "gpu": 2}, C=needs))
    table = [line.split() for line in capsys.readouterr().out.splitlines()]

    assert "RESOURCES" not in without
    assert table[0][:5] == ["#", "TODO", "REPO", "AFTER", "RESOURCES"]
    assert table[2][:6] == ["2", "C", "r2", "staging-db,", "gpu:2", "h:/r2"]


def test_the_sandbox_of_each_todo_is_shown() -> None:
    found = look(
        A={"sandbox": "bubblewrap"}, B={"action": {"type": "agent"}}, C={"sandbox": {"network": True}}
    )

    assert {step.id: step.sandbox for step in found.steps} == {
        "A": "bubblewrap",
        "B": "bubblewrap, network, where it works",
        "C": "bubblewrap, network",
        "D": "",
    }


def test_what_would_not_run_says_why() -> None:
    found = look(Selectors(todos=["B", "C"]), D={"status": "cancelled"})

    assert [step.id for step in found.steps] == ["C"]
    assert {rest.id: rest.why for rest in found.rest} == {
        "A": "not asked for",
        "B": "blocked by A, which is not part of this sweep",
        "D": "cancelled",
    }


def test_a_repository_is_worked_on_where_a_worker_serves_it_or_says_what_it_waits_for() -> None:
    workers = [worker("one", places={"r1": "/one/r1"}), worker("two", unfit={"r1": "there is no folder /r1"})]

    found = places_of(["r1", "r2"], workers)
    nowhere = places_of(["r1"], workers[1:])

    assert found == {"r1": (Workplace(host="one", path="/one/r1"),), "r2": "a worker for r2: none serves it"}
    assert nowhere == {"r1": "a worker for r1: on host two there is no folder /r1"}


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("make test", "make test"),
        (["echo", "a b"], "echo 'a b'"),
        ({"type": "python", "call": "m:f"}, "python: m:f"),
        ({"type": "python", "call": "m:f", "args": {"x": 1}}, 'python: m:f {"x": 1}'),
        ({"type": "agent", "prompt": "Do it"}, "agent: my-agent --print"),
        (None, "agent: my-agent --print"),
        ({"type": "manual"}, "a person: coord todo complete A"),
    ],
)
def test_every_kind_of_action_is_shown_as_what_would_be_carried_out(action: Any, words: str) -> None:
    todo = Todo.model_validate({"id": "A", "task": "do A", "repo": "r1", "action": action})

    assert command_text(todo, Settings(agent_command="my-agent --print")) == words


def test_a_manual_todo_needs_no_worker_and_has_no_timeout() -> None:
    (step,) = look(Selectors(todos=["A"]), A={"action": {"type": "manual"}}).steps

    assert (step.places, step.waits_for, step.timeout_s) == ((), None, None)


def test_what_waits_for_an_approval_first_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    eco = ecosystem(
        {"A": "r1", "B": ("r2", ["M1"]), "C": "r1"},
        A={"gate": True},
        C={"gate": {"timeout": "2h", "on_timeout": "approve"}},
    )
    milestone = Milestone.model_validate(
        {"id": "M1", "name": "reviewed", "dependencies": ["A"], "gate": {"timeout": "1d"}}
    )
    plan = eco.coordination.plans[0].model_copy(update={"milestones": (milestone,)})
    eco = eco.with_coordination(plans=(plan,))

    found = dry_run(build(eco, PLAN), order(Strategy.LEVELS), eco, Settings(), HERE)
    print_dry_run(found)
    said = capsys.readouterr()

    steps = {step.id: step for step in found.steps}
    assert (steps["M1"].command, steps["M1"].repo, steps["M1"].timeout_s) == (
        "a person: coord approve M1",
        "-",
        None,
    )
    assert "3 todos and 1 milestone of PLAN-001 would run" in said.err
    assert [line for line in said.err.splitlines() if "approval" in line] == [
        "· A would wait for an approval: coord approve A",
        "· C would wait for an approval: coord approve C (approved after 2 h)",
        "· M1 would wait for an approval: coord approve M1 (rejected after 24 h)",
    ]


def test_a_milestone_that_is_blocked_says_by_what() -> None:
    eco = ecosystem({"A": "r1"})
    milestone = Milestone.model_validate(
        {"id": "M1", "name": "reviewed", "dependencies": ["M0"], "gate": True}
    )
    first = milestone.model_copy(update={"id": "M0", "dependencies": (), "gate": None})
    plan = eco.coordination.plans[0].model_copy(update={"milestones": (first, milestone)})
    eco = eco.with_coordination(plans=(plan,))

    found = dry_run(build(eco, PLAN), order(Strategy.LEVELS), eco, Settings(), HERE)

    assert [(rest.id, rest.why) for rest in found.rest] == [("M1", "blocked by M0 (pending: reviewed)")]
