"""The simulation of a run, compared with a simple slow one, and at large sizes."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_ecosystems import PLAN, Drawn, acyclic

from coordination.planner.gates import MILESTONE_REPO
from coordination.planner.graph import build
from coordination.planner.schedule import AGEING, Supply, bound, busiest_resource, score, simulate
from tests.examples import examples

MANY = settings(max_examples=examples(150))
Durations = Mapping[str, float]


def simple(durations: Durations, before: Mapping[str, tuple[str, ...]], repo_of: Mapping[str, str],
left: Durations,
           order: Mapping[str, int], slots: int, supply: Supply) -> dict[str, float]:  # fmt: skip
    """The same rule, with no thought of time: at each event every ready todo is tried, the smallest score
    first.
    """
    start: dict[str, float] = {}
    ready: dict[str, float] = {}
    now = 0.0
    while len(start) < len(durations):
        end = {name: start[name] + durations[name] for name in start}
        for name in durations:
            if name not in ready and all(end.get(other, now + 1) <= now for other in before[name]):
                ready[name] = now
        waiting = [name for name in ready if name not in start]
        for name in sorted(waiting, key=lambda n: (round(score(ready[n], left[n]), 9), order[n])):
            under_way = [n for n in start if start[n] <= now < start[n] + durations[n]]
            used = [supply.needs.get(n, {}) for n in under_way]
            enough = all(
                sum(needs.get(what, 0) for needs in used) + amount <= supply.capacities[what]
                for what, amount in supply.needs.get(name, {}).items()
            )
            if len(under_way) < slots and repo_of[name] not in {repo_of[n] for n in under_way} and enough:
                start[name] = now
        now = min((start[n] + durations[n] for n in start if start[n] + durations[n] > now), default=now)
    return start


@MANY
@given(acyclic(), st.integers(1, 4), st.integers(1, 3), st.data())
def test_who_cannot_start_lets_the_next_one_by_whatever_it_lacks(
    drawn: Drawn, slots: int, gpus: int, data: st.DataObject
) -> None:
    graph = build(drawn.ecosystem, PLAN)
    durations = {name: float(round(hours) + 1) for name, hours in graph.hours.items()}
    drawing = st.none() | st.integers(1, gpus)
    needs = {name: {"gpu": amount} for name in graph.todos if (amount := data.draw(drawing))}
    left = {name: float(round(rank)) for name, rank in graph.rank.items()}
    supply = Supply(capacities={"gpu": gpus}, needs=needs)

    found = simulate(
        durations,
        graph.predecessors,
        graph.repo_of,
        slots=slots,
        urgency=graph.order,
        remaining=left,
        supply=supply,
    )

    expected = simple(durations, graph.predecessors, graph.repo_of, left, graph.order, slots, supply)
    assert dict(found.start) == expected
    least = max(
        bound(durations, graph.predecessors, graph.repo_of, slots), busiest_resource(durations, supply)[1]
    )
    assert found.makespan >= least - 1e-9


def test_a_todo_that_lacks_a_resource_does_not_keep_its_repository_from_others():
    supply = Supply(capacities={"db": 1}, needs={"other": {"db": 1}, "first": {"db": 1}})
    durations = {"other": 4.0, "first": 3.0, "second": 1.0}

    found = simulate(durations, {}, {"other": "x", "first": "y", "second": "y"}, slots=2, supply=supply)

    assert found.start == {"other": 0, "second": 0, "first": 4}


def test_what_a_person_does_takes_neither_a_slot_nor_the_repository():
    durations = {"by hand": 5.0, "a": 1.0, "after": 1.0}
    repo_of = {"by hand": MILESTONE_REPO, "a": "x", "after": "x"}

    found = simulate(durations, {"after": ("by hand",)}, repo_of, slots=1)

    assert found.start == {"by hand": 0, "a": 0, "after": 5}
    assert bound(durations, {"after": ("by hand",)}, repo_of, slots=1) == 6


def test_no_ready_todo_is_passed_over_for_ever():
    """One repository, to which a todo with a long path comes whenever one ends; `patient` is the last of its
    own.
    """
    gates, urgent = [f"gate{i}" for i in range(100)], [f"u{i}" for i in range(101)]
    durations = dict.fromkeys(["patient", *urgent, *gates], 1.0)
    repo_of = dict.fromkeys(["patient", *urgent], "x") | {gate: gate for gate in gates}
    arriving = {u: (gate,) for gate, u in zip(gates, urgent[1:], strict=True)} | dict(
        zip(gates[1:], zip(gates), strict=False)
    )
    left = dict.fromkeys(durations, 5.0) | {"patient": 1.0}

    aged = simulate(durations, arriving, repo_of, slots=200, remaining=left)

    assert aged.ready["patient"] == 0
    assert 0 < aged.start["patient"] <= AGEING * (5 - 1) + 1


def by_path_alone(durations: Durations, before: Mapping[str, tuple[str, ...]], repo_of: Mapping[str, str],
slots: int) -> float:  # fmt: skip
    """Without ageing: so long a path that no waiting counts beside it."""
    plain = simulate(durations, before, repo_of, slots=slots)
    far = 1e6 * plain.makespan
    left = {name: hours * far for name, hours in _longest(durations, before).items()}
    return simulate(durations, before, repo_of, slots=slots, remaining=left).makespan


def _longest(durations: Durations, before: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    left = dict(durations)
    for name in reversed(list(durations)):  # in topological order
        for other in before.get(name, ()):
            left[other] = max(left[other], durations[other] + left[name])
    return left


@pytest.mark.parametrize("slots", [4, 8, 16])
def test_ageing_costs_nothing_that_would_be_noticed(slots: int):
    """20 repositories with 10 todos each, lognormal durations, a tenth of the edges across: the ratio over 30
    draws.
    """
    ratios = []
    for seed in range(30):
        draw = random.Random(seed)
        names = [f"r{repo}.{i}" for i in range(10) for repo in range(20)]
        durations = {name: draw.lognormvariate(0, 1) for name in names}
        before = {f"r{r}.{i}": (f"r{r}.{i - 1}",) for i in range(1, 10) for r in range(20)}
        for name in draw.sample(names[20:], 20):
            i = int(name.partition(".")[2])
            before[name] = tuple(dict.fromkeys((*before[name], f"r{draw.randrange(20)}.{draw.randrange(i)}")))
        repo_of = {name: name.partition(".")[0] for name in names}
        aged = simulate(durations, before, repo_of, slots=slots).makespan
        ratios.append(aged / by_path_alone(durations, before, repo_of, slots))

    assert sorted(ratios)[15] <= 1.005
    assert max(ratios) <= 1.05


@pytest.mark.parametrize("repos", [1, 100, 10_000])
def test_ten_thousand_todos_with_a_scarce_resource_take_few_steps(
    repos: int, monkeypatch: pytest.MonkeyPatch
):
    from coordination.planner import schedule

    pushes = []
    push = schedule.heappush
    monkeypatch.setattr(schedule, "heappush", lambda heap, entry: (pushes.append(1), push(heap, entry)))
    names = [f"t{i}" for i in range(10_000)]
    repo_of = {name: f"r{i % repos}" for i, name in enumerate(names)}
    supply = Supply(capacities={"db": 2}, needs={name: {"db": 1} for name in names})

    found = simulate(dict.fromkeys(names, 1.0), {}, repo_of, slots=50, supply=supply)

    assert found.makespan == (10_000 if repos == 1 else 5_000)
    assert len(pushes) <= 10 * len(names)
