"""The waves of a landing: of one plan, and of several plans that land in one run."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import pairwise
from typing import Any

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from coordination.errors import Conflict, NotFound, PlanRefused
from coordination.landing.graph import landing_graph, revert_graph
from coordination.landing.order import decide_waves
from coordination.landing.plan_waves import decide_plan_waves, planned_waves, wave_problems
from coordination.landing.records import Landing, LandOptions
from coordination.landing.revert import decide_plan_reverts
from coordination.landing.rules import decide_landing
from coordination.models import Atomic, Ecosystem, LandAction, LandRules, NoopAction, Waves
from coordination.runs.change_sets.records import ChangeSet, Landed, RepoChange
from tests.unit.landing.test_landing_rules import EDGES, changes, decided, file


def divided(waves: object, repos: str = "abcd") -> dict[int, str]:
    rules = LandRules.model_validate({"waves": waves}).waves
    assert rules is not None
    found = decide_waves("P", rules, list(repos), EDGES, file())
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
    first, last = decide_waves("P", Waves.model_validate(rules), list("abcd"), EDGES, file())
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
    [(plan, why)] = wave_problems(file(land=land))
    assert plan == "P"
    assert re.search(rf"\b{named}\b", why)
    with pytest.raises(PlanRefused):
        decided(file(land=land), changes("abcd"))


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
    land = file(land={"waves": ["a", "b", "rest"]})
    assert decided(land, changes("abcd"), wave=2).names == ("a", "b")
    rest = decided(land, changes("abcd", landed="ab"))
    assert [(wave.number, wave.repos) for wave in rest.waves] == [(3, ("c", "d"))]
    with pytest.raises(PlanRefused):
        decided(land, changes("abcd", landed="ab"), wave=2)
    with pytest.raises(PlanRefused):
        decided(file(), changes("abcd"), wave=1)


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
    ecosystem = file(land={"waves": waves, "atomic": atomic}, qa=qa)
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
    ecosystem = file(land={"waves": [1, "rest"], "via": "pr"}, qa="true")
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
    ecosystem = file(land={"waves": {"order": ["a", "rest"], "check": "true"}}, qa="true")
    _, graph = landing_graph(ecosystem, decided(ecosystem, changes("abcd")))
    behind = [todo.id.removeprefix("P.") for todo in graph.todos.values() if ".after." in todo.id]
    of_first = ["wave-1.after.check.a", "wave-1.after.qa.a.qa"]
    of_last = [f"wave-2.after.{what}" for one in "abcd" for what in (f"check.{one}", f"qa.{one}.qa")]
    assert sorted(behind) == sorted(of_first + of_last)
    commands = [graph.todos[f"P.{todo}"].cache for todo in behind if ".check." in todo]
    assert not any(commands), "a command of a wave runs each time"


TIP = "a" * 40
CHANGED = {"P": ("api", "core"), "Q": ("web",), "R": ("api", "docs")}


def plans_file(order: Any, *, lands: dict[str, Any] | None = None,
               blocked: dict[str, list[str]] | None = None, qa: str | None = None,
               **conditions: Any) -> Ecosystem:  # fmt: skip
    """Plans P (core, api), Q (web) and R (api, docs); web depends on api, api on core."""
    todos = [
        {"id": f"{plan}-{repo}", "task": "x", "repo": repo, "plan": plan, "status": "completed",
         "blocked_by": (blocked or {}).get(plan, [])}
        for plan, repos in CHANGED.items() for repo in repos
    ]  # fmt: skip
    uses = [("api", "core"), ("web", "api")]
    return Ecosystem.model_validate(
        {
            "repos": [{"name": name, "qa": qa} for name in ("api", "core", "docs", "web")],
            "coordination": {
                "plans": [{"id": plan, "title": plan, "land": (lands or {}).get(plan)} for plan in CHANGED],
                "todos": todos,
                "dependencies": [
                    {"id": f"D-{user}", "consumer": user, "provider": used, "type": "runtime"}
                    for user, used in uses
                ],
                "waves": [{"id": "REL-1", "title": "all of it", "order": order, **conditions}],
            },
        }
    )


def joined(ecosystem: Ecosystem, *, hosts: dict[str, str] | None = None, **options: Any) -> Landing:
    def decide(plan: str, options: LandOptions) -> Landing:
        host = (hosts or {}).get(plan, "h")
        repos = {
            repo: RepoChange(repo=repo, branch=f"coord/{plan}", tip=TIP, run="R1", host=host)
            for repo in CHANGED[plan]
        }
        found = ChangeSet(id=plan, repos=repos)
        return decide_landing(ecosystem, found, plan, options, patience=timedelta(hours=1), hosts={})

    waves = ecosystem.coordination.waves[0]
    return decide_plan_waves(ecosystem, waves, LandOptions(**options), decide, patience=timedelta(hours=1))


def test_plans_land_in_one_run_each_wave_behind_one_barrier_in_the_order_of_all_repositories():
    ecosystem = plans_file([["Q", "P"], "R"], qa="true", check="make smoke", soak="1h")
    _, graph = landing_graph(ecosystem, joined(ecosystem))
    order = nx.DiGraph((before, name) for name, all_ in graph.predecessors.items() for before in all_)
    assert nx.is_directed_acyclic_graph(order)
    chain = ("P.wave-1.land.core", "P.wave-1.land.api", "Q.wave-1.land.web", "REL-1.wave-1.landed",
             "REL-1.wave-1.soak", "P.wave-1.look.api", "REL-1.wave-1.after.check.web", "REL-1.wave-1.done",
             "R.wave-2.check.api", "REL-1.wave-2.locks", "R.wave-2.land.api", "R.wave-2.land.docs",
             "REL-1.wave-2.landed", "P.wave-2.look.api", "REL-1.wave-2.after.check.api")  # fmt: skip
    missing = [name for name in chain if name not in graph.todos]
    assert missing == []
    for before, after in pairwise(chain):
        if (before, after) != ("R.wave-2.land.api", "R.wave-2.land.docs"):
            assert nx.has_path(order, before, after), (before, after)
    assert graph.todos["REL-1.wave-1.locks"].action.holds == ("web", "core", "api")  # type: ignore[union-attr]
    of = {name: todo.action.change_set for name, todo in graph.todos.items()
          if isinstance(todo.action, LandAction)}  # fmt: skip
    assert all(name.startswith(f"{plan}.wave-") for name, plan in of.items())
    looks = ("P.wave-2.look.api", "R.wave-2.look.api")
    assert all(nx.has_path(order, look, "REL-1.wave-2.after.qa.web.qa") for look in looks)


def test_a_wave_named_by_the_options_is_the_last_and_later_plans_are_not_looked_at():
    landing = joined(plans_file(["P", "Q"]), wave=1)
    assert (landing.change_sets, landing.names) == (("P",), ("core", "api"))
    assert joined(plans_file(["P", "Q", "R"])).change_sets == ("P", "Q", "R")


@pytest.mark.parametrize(
    ("ecosystem", "options", "named"),
    [
        (plans_file([["P", "R"], "Q"]), {}, "api"),
        (plans_file(["Q", "P"]), {}, "web"),
        (plans_file([["P", "Q"]], blocked={"Q": ["P"]}), {}, "Q of wave 1 waits for P"),
        (plans_file(["P"], lands={"P": {"waves": [1, "rest"]}}), {}, "waves"),
        (plans_file(["P"], lands={"P": {"atomic": "repo"}}), {}, "atomic"),
        (plans_file(["P"]), {"repos": ("api",)}, "--repo"),
        (plans_file(["P", "R"]), {"hosts": {"R": "other"}}, "other"),
    ],
    ids=["a common repository", "a later wave", "a plan waits", "waves", "by repository", "repos", "hosts"],
)
def test_plans_that_cannot_land_together_are_refused_by_name(ecosystem, options, named):
    with pytest.raises(PlanRefused, match=named) as refused:
        joined(ecosystem, **options)
    assert refused.value.hint


@pytest.mark.parametrize("order", [[], [1], ["rest"], [["P", "Q"], "P"]])
def test_an_order_that_is_no_list_of_plans_is_refused(order):
    with pytest.raises(ValidationError):
        plans_file(order)


def test_validate_names_waves_that_cannot_land_and_changes_show_the_wave_of_each_plan():
    assert dict(wave_problems(plans_file(["Q", "P"]))) == {}
    assert "waits" in dict(wave_problems(plans_file([["P", "Q"]], blocked={"Q": ["P"]})))["REL-1"]
    repos = {"web": RepoChange(repo="web", branch="coord/Q", tip=TIP, run="R1")}
    assert planned_waves(plans_file(["P", "Q"]), ChangeSet(id="Q", repos=repos)) == {"web": 2}
    own = plans_file(["P"], lands={"Q": {"waves": [1, "rest"]}})
    assert planned_waves(own, ChangeSet(id="Q", repos=repos)) == {"web": 1}


def reverted(wave_of: dict[str, int], *, hosts: dict[str, str] | None = None, writer: str = "", run: str = "",
             landed: str = "PQR") -> Landing:  # fmt: skip
    """The revert of plans that have landed one behind the other, by the run R1."""
    sets = {
        plan: ChangeSet(
            id=plan,
            writers={"core": "R9"} if plan == writer else {},
            repos={
                repo: RepoChange(
                    repo=repo, branch=f"coord/{plan}", tip=TIP, run="R1", host=(hosts or {}).get(plan, "h"),
                    landed=Landed(commit=TIP, tree_before=TIP, method="merge", via="push", run="R1",
                                  at=f"2026-01-0{number}T00:00:00Z") if plan in landed else None,
                )
                for repo in repos
            },
        )
        for number, (plan, repos) in enumerate(CHANGED.items(), 1)
    }  # fmt: skip
    patience = timedelta(hours=1)
    return decide_plan_reverts(
        plans_file(["P", "Q", "R"]), "REL-1", sets, wave_of, run=run, patience=patience
    )


def test_a_revert_of_several_plans_takes_the_last_wave_out_first_and_none_while_a_later_one_stands():
    landing = reverted({"P": 1, "Q": 1, "R": 2})
    _, graph = revert_graph(plans_file(["P"]), landing)
    order = nx.DiGraph((before, name) for name, all_ in graph.predecessors.items() for before in all_)
    assert nx.is_directed_acyclic_graph(order)
    chain = ("REL-1.locks", "R.revert.api", "REL-1.out.2", "Q.revert.web", "P.revert.api", "P.revert.core")
    assert all(nx.has_path(order, before, after) for before, after in pairwise(chain))
    assert nx.has_path(order, "R.revert.docs", "REL-1.out.2")
    holds = graph.todos["REL-1.locks"].action.holds  # type: ignore[union-attr]
    assert sorted(holds) == ["api", "core", "docs", "web"], "all locks at once"
    assert landing.change_sets[0] == "R"


def test_plans_of_a_wave_that_landed_in_one_repository_are_taken_out_in_the_opposite_order():
    _, graph = revert_graph(plans_file(["P"]), reverted({"R": 1, "P": 1}))
    assert "R.revert.api" in graph.predecessors["P.revert.api"]
    assert nx.is_directed_acyclic_graph(
        nx.DiGraph((before, name) for name, all_ in graph.predecessors.items() for before in all_)
    )


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"hosts": {"R": "other"}}, PlanRefused),
        ({"writer": "P"}, Conflict),
        ({"landed": ""}, NotFound),
        ({"run": "R8"}, NotFound),
    ],
)
def test_a_revert_of_several_plans_is_refused_as_a_whole(options, error):
    with pytest.raises(error) as refused:
        reverted({"P": 1, "Q": 1, "R": 2}, **options)
    assert refused.value.hint
    assert reverted({"P": 1, "R": 2}, landed="P").change_sets == ("P",), "the others have not landed"
