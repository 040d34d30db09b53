"""The waves of a landing: how repositories are divided, what is refused, and the graph of the run."""

from __future__ import annotations

import re

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from coordination.errors import PlanRefused
from coordination.landing.graph import landing_graph
from coordination.landing.order import decide_waves
from coordination.landing.plan_waves import wave_problems
from coordination.models import Atomic, Ecosystem, LandRules, NoopAction, Waves
from tests.unit.landing.test_landing_rules import changes, decided

REPOS = [
    {"name": "a", "role": "library", "tags": ["core"]},
    {"name": "b", "role": "service", "tags": ["core", "edge"]},
    {"name": "c", "role": "service"},
    {"name": "d", "role": "tool"},
]
EDGES = {"b": ("a",), "c": ("b",)}


def file(land: object, *, qa: str | None = None, status: str = "completed") -> Ecosystem:
    """Plan P over a → b → c, and d."""
    return Ecosystem.model_validate(
        {
            "repos": [{**repo, "qa": qa} if qa else repo for repo in REPOS],
            "coordination": {
                "plans": [{"id": "P", "title": "a plan", "land": land}],
                "todos": [
                    {
                        "id": f"T-{name}", "task": "x", "repo": name, "plan": "P", "status": status,
                        "blocked_by": [f"T-{one}" for one in EDGES.get(name, ())],
                    }
                    for name in "abcd"
                ],
            },
        }
    )  # fmt: skip


def divided(waves: object, repos: str = "abcd") -> dict[int, str]:
    rules = LandRules.model_validate({"waves": waves}).waves
    assert rules is not None
    found = decide_waves("P", rules, list(repos), EDGES, file(None))
    return {wave.number: "".join(wave.repos) for wave in found}


@pytest.mark.parametrize(
    ("waves", "found"),
    [
        ([1, "rest"], {1: "a", 2: "bcd"}),
        ([1, 2, "rest"], {1: "a", 2: "bc", 3: "d"}),
        (["30%", "rest"], {1: "ab", 2: "cd"}),
        ([9, "rest"], {1: "abcd"}),
        (["a", ["b", "c"], "rest"], {1: "a", 2: "bc", 3: "d"}),
        ({"by": "role", "order": ["library", ["service", "tool"]]}, {1: "a", 2: "bcd"}),
        ({"by": "tag", "order": ["core", "rest"]}, {1: "ab", 2: "cd"}),
        ({"by": "level"}, {1: "ad", 2: "b", 3: "c"}),
        ({"order": [1, "rest"], "max_open": 2}, {1: "a", 2: "bc", 3: "d"}),
    ],
)
def test_repositories_are_divided_as_the_plan_says(waves, found):
    assert divided(waves) == found


def test_a_wave_that_has_landed_leaves_the_numbers_of_the_others():
    assert divided(["a", "b", "rest"], "bcd") == {2: "b", 3: "cd"}


def test_a_condition_holds_for_all_waves_that_do_not_say_otherwise():
    rules = {"soak": "1h", "check": "x", "order": [1, {"take": "rest", "soak": "5m", "gate": True}]}
    first, last = decide_waves("P", Waves.model_validate(rules), list("abcd"), EDGES, file(None))
    assert (first.soak.total_seconds(), first.check, first.gate) == (3600, "x", None)
    assert (last.soak.total_seconds(), last.check, last.gate is not None) == (300, "x", True)


@pytest.mark.parametrize(
    ("waves", "named"),
    [
        (["zz", "rest"], "zz"),
        ({"by": "role", "order": ["librari", "rest"]}, "librari"),
        ({"by": "tag", "order": ["core", "edge", "rest"]}, "b"),
        ([1, 1], "c"),
        (["b", "rest"], "a"),
        (["d", "c", "rest"], "b"),
    ],
)
def test_waves_that_cannot_land_are_refused_by_name_when_validated_and_when_landed(waves, named):
    land = {"waves": waves}
    [(plan, why)] = wave_problems(file(land))
    assert plan == "P"
    assert re.search(rf"\b{named}\b", why)
    with pytest.raises(PlanRefused):
        decided(file(land), changes("abcd"))


@pytest.mark.parametrize(
    "land",
    [
        {"waves": []},
        {"waves": [[]]},
        {"waves": [0, "rest"]},
        {"waves": ["rest", 1]},
        {"waves": ["a", ["a", "b"]]},
        {"waves": {"by": "level", "order": [1]}},
        {"waves": {"by": "role"}},
        {"waves": {"order": [1], "max_failures": 1}},
        {"atomic": "wave"},
    ],
)
def test_waves_without_sense_are_no_valid_file(land):
    with pytest.raises(ValidationError):
        LandRules.model_validate(land)


def test_a_plan_with_waves_lands_wave_by_wave_unless_it_says_otherwise():
    assert LandRules.model_validate({"waves": [1, "rest"]}).unit is Atomic.WAVE
    assert LandRules.model_validate({"waves": [1, "rest"], "atomic": "plan"}).unit is Atomic.PLAN


def test_wave_n_lands_no_later_one_and_the_rest_lands_afterwards():
    land = file({"waves": ["a", "b", "rest"]})
    assert decided(land, changes("abcd"), wave=2).names == ("a", "b")
    rest = decided(land, changes("abcd", landed="ab"))
    assert [(wave.number, wave.repos) for wave in rest.waves] == [(3, ("c", "d"))]
    with pytest.raises(PlanRefused):
        decided(land, changes("abcd", landed="ab"), wave=2)
    with pytest.raises(PlanRefused):
        decided(file(None), changes("abcd"), wave=1)


@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    atomic=st.sampled_from(["wave", "repo", "plan"]),
    soak=st.sampled_from([None, "1h"]),
    check=st.sampled_from([None, "true"]),
    gate=st.sampled_from([None, True]),
    qa=st.sampled_from([None, "true"]),
)
def test_no_lock_is_held_while_a_wave_soaks_is_checked_or_waits_for_an_approval(
    sizes, atomic, soak, check, gate, qa
):
    waves = {"order": [*sizes, "rest"], "soak": soak, "check": check, "gate": gate}
    ecosystem = file({"waves": waves, "atomic": atomic}, qa=qa)
    landing = decided(ecosystem, changes("abcd"))
    _, graph = landing_graph(ecosystem, landing)
    order = nx.DiGraph((one, todo) for todo, before in graph.predecessors.items() for one in before)
    frees: list[str] = []
    for wave in landing.waves:
        locks, landed = f"P.wave-{wave.number}.locks", f"P.wave-{wave.number}.landed"
        assert graph.todos[locks].action.holds == wave.repos
        held = nx.descendants(order, locks) - nx.descendants(order, landed) - {landed}
        kinds = {todo.split(".")[2] for todo in held}
        assert kinds == ({"land"} if atomic != "repo" else {"land", "check"} | ({"qa"} if qa else set()))
        assert not [todo for todo in held if graph.todos[todo].gate]
        assert all(nx.has_path(order, todo, landed) for todo in held), "the locks outlast all that they guard"
        assert all(nx.has_path(order, one, locks) for one in frees), "one barrier at a time"
        assert bool(graph.todos[locks].gate) == bool(gate)
        frees.append(landed)
    keeps = {
        todo.id for todo in graph.todos.values() if isinstance(todo.action, NoopAction) and todo.action.keeps
    }
    ends = {f"P.wave-{wave.number}.done" for wave in landing.waves}
    assert keeps == (ends if atomic == "wave" else set())


def test_reviews_are_waited_for_before_the_locks_of_their_wave_and_behind_the_wave_before():
    ecosystem = file({"waves": [1, "rest"], "via": "pr"}, qa="true")
    repos = tuple(
        one.model_copy(update={"url": f"https://github.com/x/{one.name}"}) for one in ecosystem.repos
    )
    ecosystem = ecosystem.model_copy(update={"repos": repos})
    landing = decided(ecosystem, changes("abcd"), when_ready=True)
    _, graph = landing_graph(ecosystem, landing)
    order = nx.DiGraph((one, todo) for todo, before in graph.predecessors.items() for one in before)
    for wave in landing.waves:
        waits = {f"P.wave-{wave.number}.check.{repo}" for repo in wave.repos}
        assert all(graph.todos[todo].action.when_ready for todo in waits)
        assert waits < nx.ancestors(order, f"P.wave-{wave.number}.locks")
        assert (wave.number == 1) or all(nx.has_path(order, "P.wave-1.done", todo) for todo in waits)


def test_the_checks_of_earlier_waves_run_again_behind_each_wave():
    ecosystem = file({"waves": {"order": ["a", "rest"], "check": "true"}}, qa="true")
    _, graph = landing_graph(ecosystem, decided(ecosystem, changes("abcd")))
    behind = [todo.id.removeprefix("P.") for todo in graph.todos.values() if ".after." in todo.id]
    of_first = ["wave-1.after.check.a", "wave-1.after.qa.a.qa"]
    of_last = [f"wave-2.after.{what}" for one in "abcd" for what in (f"check.{one}", f"qa.{one}.qa")]
    assert sorted(behind) == sorted(of_first + of_last)
    commands = [graph.todos[f"P.{todo}"].cache for todo in behind if ".check." in todo]
    assert not any(commands), "a command of a wave runs each time"
