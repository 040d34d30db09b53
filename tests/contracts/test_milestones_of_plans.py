"""Two plans may each have a milestone of the same name, and what is done in no repository waits for none."""

from __future__ import annotations

import pytest

from coordination.errors import Conflict, UsageError
from coordination.models import Milestone, Verdict
from coordination.operations.doctor import Facts
from coordination.operations.doctor import Machine as Asker
from coordination.planner.graph import build
from coordination.runs.approvals import run_with_gate
from coordination.runs.presence import Presence
from coordination.runs.store import RunStore
from coordination.runs.submission.conflicts import refuse_conflicts_of
from coordination.runs.views.run_view import RunReader
from tests.contracts.carrier import Harness
from tests.plans import PLAN, ecosystem, order


def submitted(store: RunStore, todo: str, plan_id: str) -> Harness:
    eco = ecosystem({todo: ("r1", ["M1"])})
    milestone = Milestone.model_validate({"id": "M1", "name": "reviewed", "gate": True})
    plan = eco.coordination.plans[0].model_copy(update={"id": plan_id, "milestones": (milestone,)})
    todos = tuple(one.model_copy(update={"plan": plan_id}) for one in eco.coordination.todos)
    eco = eco.with_coordination(plans=(plan,), todos=todos)
    run = Harness(store)
    run.submit(build(eco, plan_id), eco, order())
    return run


def test_each_run_asks_for_its_own(store: RunStore) -> None:
    mine, other = submitted(store, "A", PLAN), submitted(store, "B", "PLAN-002")

    refuse_conflicts_of(store, RunReader(store.redis, store.keys), {"M1", "C"})
    with pytest.raises(Conflict, match="executes A"):
        refuse_conflicts_of(store, RunReader(store.redis, store.keys), {"M1", "A"})
    with pytest.raises(UsageError, match="wait for M1"):
        run_with_gate(store, Verdict.APPROVE, "M1", None)
    mine.follow(store.approve(mine.run_id, "M1", "lena", ""))

    assert mine.states() == {"M1": "succeeded", "A": "dispatched"}
    assert other.states() == {"M1": "parked", "B": "waiting"}
    assert run_with_gate(store, Verdict.APPROVE, "M1", None) == other.run_id


def test_no_worker_is_missed_for_it(store: RunStore) -> None:
    run = submitted(store, "A", PLAN)
    facts = Facts(machine=Asker(host="h", version="1", git="2"), runs=(run.view(),))

    assert facts.repos == ("r1",)
    assert set(Presence(store.redis, store.keys).unserved({t.repo for t in run.view().todos})) == {"r1"}
