"""`coordination.waves`: the landings of several plans, joined into one that lands them wave by wave."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import networkx as nx
import pytest
from pydantic import ValidationError

from coordination.errors import Conflict, NotFound, PlanRefused
from coordination.landing.graph import landing_graph, revert_graph
from coordination.landing.plan_waves import (
    decide_plan_reverts,
    decide_plan_waves,
    planned_waves,
    wave_problems,
)
from coordination.landing.rules import Landing, LandOptions, decide_landing
from coordination.models import Ecosystem, LandAction
from coordination.runs.change_sets.records import ChangeSet, Landed, RepoChange

TIP = "a" * 40
CHANGED = {"P": ("api", "core"), "Q": ("web",), "R": ("api", "docs")}


def file(order: Any, *, lands: dict[str, Any] | None = None, blocked: dict[str, list[str]] | None = None,
         qa: str | None = None, **conditions: Any) -> Ecosystem:  # fmt: skip
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
    ecosystem = file([["Q", "P"], "R"], qa="true", check="make smoke", soak="1h")
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
    landing = joined(file(["P", "Q"]), wave=1)
    assert (landing.change_sets, landing.names) == (("P",), ("core", "api"))
    assert joined(file(["P", "Q", "R"])).change_sets == ("P", "Q", "R")


@pytest.mark.parametrize(
    ("ecosystem", "options", "named"),
    [
        (file([["P", "R"], "Q"]), {}, "api"),
        (file(["Q", "P"]), {}, "web"),
        (file([["P", "Q"]], blocked={"Q": ["P"]}), {}, "Q of wave 1 waits for P"),
        (file(["P"], lands={"P": {"waves": [1, "rest"]}}), {}, "waves"),
        (file(["P"], lands={"P": {"atomic": "repo"}}), {}, "atomic"),
        (file(["P"]), {"repos": ("api",)}, "--repo"),
        (file(["P", "R"]), {"hosts": {"R": "other"}}, "other"),
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
        file(order)


def test_validate_names_waves_that_cannot_land_and_changes_show_the_wave_of_each_plan():
    assert dict(wave_problems(file(["Q", "P"]))) == {}
    assert "waits" in dict(wave_problems(file([["P", "Q"]], blocked={"Q": ["P"]})))["REL-1"]
    repos = {"web": RepoChange(repo="web", branch="coord/Q", tip=TIP, run="R1")}
    assert planned_waves(file(["P", "Q"]), ChangeSet(id="Q", repos=repos)) == {"web": 2}
    own = file(["P"], lands={"Q": {"waves": [1, "rest"]}})
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
    return decide_plan_reverts(file(["P", "Q", "R"]), "REL-1", sets, wave_of, run=run, patience=patience)


def test_a_revert_of_several_plans_takes_the_last_wave_out_first_and_none_while_a_later_one_stands():
    landing = reverted({"P": 1, "Q": 1, "R": 2})
    _, graph = revert_graph(file(["P"]), landing)
    order = nx.DiGraph((before, name) for name, all_ in graph.predecessors.items() for before in all_)
    assert nx.is_directed_acyclic_graph(order)
    chain = ("REL-1.locks", "R.revert.api", "REL-1.out.2", "Q.revert.web", "P.revert.api", "P.revert.core")
    assert all(nx.has_path(order, before, after) for before, after in pairwise(chain))
    assert nx.has_path(order, "R.revert.docs", "REL-1.out.2")
    holds = graph.todos["REL-1.locks"].action.holds  # type: ignore[union-attr]
    assert sorted(holds) == ["api", "core", "docs", "web"], "all locks at once"
    assert landing.change_sets[0] == "R"


def test_plans_of_a_wave_that_landed_in_one_repository_are_taken_out_in_the_opposite_order():
    _, graph = revert_graph(file(["P"]), reverted({"R": 1, "P": 1}))
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
