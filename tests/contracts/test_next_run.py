"""The next run of a change set: what it carries over, where it begins, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from coordination.errors import Conflict
from coordination.models import Ecosystem, Plan
from coordination.planner.graph import alone, build
from coordination.runs.attempt_store import Grant
from coordination.runs.change_sets.records import ChangeSet, Landed
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.control.steering import refuse_within_change_set
from coordination.runs.maintenance.expiry import RunExpiry
from coordination.runs.records import Result, RunBrief, TodoState
from coordination.runs.retrying.retry_plan import RetryPlan
from coordination.runs.retrying.retry_run import refuse_later_work
from coordination.runs.store import RunStore
from coordination.runs.submission.refusals import bases
from coordination.runs.submission.writes import Writes, change_set_of, read_change_set, seal_of, writes_of
from tests.engine import BAD, UNBROKEN, Engine, retry_of, submit
from tests.plans import PLAN, Todos, ecosystem, order

BASE = "0" * 40
DONE = {"status": "completed"}
TODOS: Todos = {"A": "r1", "B": ("r1", ["A"]), "C": ("r2", ["A"])}


def outcome(grant: Grant) -> Result:
    """A todo hands on its name and the commit `<name>-<run>`."""
    return Result(
        outcome=TodoState.SUCCEEDED, exit_code=0, output=f'"{grant.todo_id}"', began=grant.tip or BASE,
        tip=f"{grant.todo_id}-{grant.run_id}", signed=f"signed {grant.todo_id} {grant.run_id}",
    )  # fmt: skip


class Runs(Engine):
    """Runs of one change set, one after the other."""

    def start(self, todos: Todos = TODOS, **more: Mapping[str, Any]) -> str:
        file = ecosystem(todos, **more)
        graph = build(file, PLAN)
        found = read_change_set(self.store, PLAN)
        self.run_id, reply = submit(
            self.store, graph, file, UNBROKEN, order(), writes=writes_of(found, graph.todos)
        )
        assert self.follow(reply).word == "sealed"
        return self.run_id

    def sweep(self, todos: Todos = TODOS, failing: str = "", **more: Mapping[str, Any]) -> str:
        self.start(todos, **more)
        self.drain(lambda grant: BAD if grant.todo_id in failing.split() else outcome(grant))
        return self.run_id

    def left(self, run: str, file: Ecosystem | None = None, **how: Any) -> RetryPlan:
        plan = retry_of(self.store, run, file, sets=ChangeSets(self.store).read_all(), **how)
        refuse_later_work(plan)
        return plan

    def retry(self, run: str, file: Ecosystem | None = None, **how: Any) -> str:
        left = self.left(run, file, **how)
        assert self.begin_again(left).word == "sealed"
        self.drain(outcome)
        return self.run_id

    @property
    def changes(self) -> ChangeSet:
        return read_change_set(self.store, PLAN)

    def executed_by(self) -> dict[str, str | None]:
        return {todo.id: todo.run for todo in self.view().todos}


def land(runs: Runs) -> None:
    """r1 has landed."""
    landed = Landed(commit=BASE, tree_before=BASE, method="squash", via="push", at="now", run="L")
    runs.store.redis.hset(runs.store.keys.changes(PLAN), "landed r1", landed.model_dump_json())


def tips_of(brief: RunBrief) -> dict[str, str]:
    return {repo: start.tip for repo, start in brief.lineage.repos.items() if start.tip}


@pytest.fixture
def runs(store: RunStore) -> Runs:
    return Runs(store)


def test_completed_todos_are_carried_over_with_output_commit_and_signed_result(runs: Runs):
    first = runs.sweep({"A": "r1"})
    keys = runs.store.keys.run(first)
    runs.store.redis.hset(keys.bundle("r1"), f"A-{first}", "bytes")

    second = runs.start(A=DONE)
    grant = runs.take("B")

    assert (grant.tip, grant.tip_result) == (f"A-{first}", f"signed A {first}")
    (handed,) = runs.store.handed_over(second, ["A"], signed=["A"]).todos
    assert (handed.output, handed.commit, handed.run) == ("A", f"A-{first}", first)
    now = runs.store.keys.run(second)
    assert runs.store.redis.hget(now.results, "A") == f"signed A {first}"
    assert runs.store.redis.hgetall(now.bundle("r1")) == {f"A-{first}": "bytes"}
    assert runs.store.redis.ttl(now.bundle("r1")) == -1
    brief = runs.store.brief(second)
    assert brief.predecessors == {"A": (), "B": ("A",), "C": ("A",)}
    assert (brief.change_set, brief.lineage.builds_on, brief.runs_of("A")) == (
        PLAN,
        (first,),
        (second, first),
    )
    assert (tips_of(brief), brief.lineage.within("r2").branch) == ({"r1": f"A-{first}"}, f"coord/{PLAN}")

    runs.settle(grant, outcome(grant))
    runs.drain(outcome)
    assert runs.view().status == "succeeded"
    assert runs.changes.source == {"A": first, "B": second, "C": second}
    assert runs.changes.repos["r1"].runs == (first, second)


def test_a_rollback_of_the_second_run_leaves_the_work_of_the_first(runs: Runs):
    first = runs.sweep({"A": "r1"})
    runs.sweep(A=DONE)

    runs.roll_back()
    runs.drain()

    assert runs.states() == {"A": "succeeded", "B": "compensated", "C": "compensated"}
    change = runs.changes.repos["r1"]
    assert (change.tip, change.signed, set(runs.changes.repos)) == (f"A-{first}", f"signed A {first}", {"r1"})


def test_a_reopened_todo_is_done_again_on_the_tip_and_its_old_result_counts_no_more(runs: Runs):
    first = runs.sweep({"A": "r1", "B": ("r1", ["A"])})

    second = runs.start({"A": "r1", "B": ("r1", ["A"])}, B=DONE)

    assert runs.changes.source == {"B": first}
    brief = runs.store.brief(second)
    assert (brief.runs_of("A"), brief.runs_of("B")) == ((second,), (second, first))
    assert runs.take("A").tip == f"B-{first}"


def test_a_retry_begins_where_a_later_run_has_left_the_change_set(runs: Runs):
    first = runs.sweep(failing="B")
    second = runs.sweep({**TODOS, "D": "r1"}, failing="", A=DONE, B={"status": "cancelled"}, C=DONE)
    assert runs.executed_by() == {"A": first, "C": first, "D": None}

    third = runs.retry(first)

    assert runs.executed_by() == {"A": first, "B": None, "C": first}
    assert runs.facts()["B began"] == f"D-{second}"
    assert runs.changes.repos["r1"].runs == (first, second, third)
    assert runs.store.brief(third).lineage.builds_on == (second,)
    with pytest.raises(Conflict, match=second):
        runs.left(third, start=("A",))
    with pytest.raises(Conflict, match=second):
        refuse_within_change_set(runs.store, third)
    assert runs.left(third, start=("B",)).set_back.tips["r1"] == f"D-{second}"


def test_a_retry_from_a_todo_takes_the_change_set_back_from_its_end_only(runs: Runs):
    first = runs.sweep(failing="C")
    second = runs.retry(first, start=("B",))

    assert runs.facts()["B began"] == f"A-{first}"
    assert runs.changes.source == {"A": first, "B": second, "C": second}
    third = runs.sweep({**TODOS, "D": "r1"}, A=DONE, B=DONE, C=DONE)
    with pytest.raises(Conflict, match=third):
        runs.left(second, start=("B",))


def test_a_retry_takes_over_what_another_run_has_completed(runs: Runs):
    first = runs.sweep(failing="A")
    second = runs.sweep({"A": "r1"})

    third = runs.retry(first, ecosystem(TODOS, A=DONE))

    assert runs.executed_by() == {"A": second, "B": None, "C": None}
    assert runs.facts()["B began"] == f"A-{second}"
    assert "A" not in runs.store.brief(third).by_hand


def test_a_run_is_refused_while_another_writes_a_repository_of_it_and_made_again_where_it_moved(runs: Runs):
    first = runs.start({"A": "r1"})
    stale = read_change_set(runs.store, PLAN)
    other = ecosystem({"D": "r1"})
    graph = build(other, PLAN)

    def begin(found: ChangeSet) -> tuple[str, Any]:
        return submit(runs.store, graph, other, UNBROKEN, order(), writes=writes_of(found, graph.todos))

    with pytest.raises(Conflict, match=first) as refused:
        seal_of(runs.store, PLAN, lambda: begin(stale))
    assert first in (refused.value.hint or "")
    runs.drain(outcome)

    seen = [stale]
    run, reply = seal_of(runs.store, PLAN, lambda: begin(seen.pop() if seen else runs.changes))
    assert reply.word == "sealed"
    assert runs.store.redis.hget(runs.store.keys.run(run).tips, "r1") == f"A-{first}"


def test_a_repository_that_has_landed_is_begun_anew_and_an_output_without_a_commit_is_handed_on(runs: Runs):
    todos: Todos = {"A": "r1", "N": "r2", "B": ("r1", ["A", "N"])}
    runs.start({"A": "r1", "N": "r2"})
    runs.drain(
        lambda grant: (
            outcome(grant)
            if grant.todo_id == "A"
            else Result(outcome=TodoState.SUCCEEDED, output='"N"', tip=BASE, began=BASE, signed="signed N")
        )
    )
    first = runs.run_id
    runs.start(todos, A=DONE, N=DONE)
    assert [handed.output for handed in runs.store.handed_over(runs.run_id, ["A", "N"]).todos] == ["A", "N"]
    assert tips_of(runs.brief()) == {"r1": f"A-{first}", "r2": BASE}
    runs.cancel("test")

    land(runs)
    runs.mail.clear()
    runs.start(todos, A=DONE, N=DONE)

    assert runs.executed_by() == {"B": None}
    assert runs.take("B").tip is None


def test_runs_that_a_change_set_needs_are_kept_until_it_has_landed(runs: Runs):
    first = runs.sweep({"A": "r1"})
    expiry = RunExpiry(runs.store, timedelta(seconds=-1))
    assert expiry.run_once() == []
    runs.store.redis.hset(runs.store.keys.changes("BAD"), mapping={"tip r9": "x", "commits r9": "many"})
    runs.store.redis.sadd(runs.store.keys.change_sets, "BAD")
    land(runs)
    assert expiry.run_once() == [], "what cannot be read may need it"

    runs.store.redis.srem(runs.store.keys.change_sets, "BAD")
    assert expiry.run_once() == [first]


def test_a_result_whose_run_is_no_longer_known_is_carried_with_the_tip(runs: Runs):
    first = runs.sweep({"A": "r1"})
    for key in runs.store.redis.keys(f"*{first}*"):
        runs.store.redis.delete(key)

    runs.sweep(A=DONE)

    assert runs.view().status == "succeeded"
    assert runs.executed_by()["A"] == first


def test_a_plan_that_no_todo_names_still_owns_what_it_has_executed(runs: Runs):
    runs.sweep({"A": "r1"})
    other = Plan(id="OTHER", title="another")
    file = ecosystem({"A": "r1", "X": ("r2", [PLAN])}, A={**DONE, "plan": None}, X={"plan": "OTHER"})
    (plan,) = file.coordination.plans
    plan = plan.model_copy(update={"status": "completed", "repos": ("r1",)})
    file = file.with_coordination(plans=(plan, other))
    sets = ChangeSets(runs.store).read_all()

    assert [base.todo for base in bases(file, other, ["X"])] == []
    assert [(base.todo, base.change_set) for base in bases(file, other, ["X"], sets, "OTHER")] == [
        ("A", PLAN)
    ]


def test_a_todo_without_plan_has_a_change_set_of_its_own(runs: Runs):
    file = ecosystem({"A": "r1", "B": ("r1", ["A"])}, A={**DONE, "plan": None}, B={"plan": None})
    file = file.with_coordination(plans=())
    graph = alone(file, file.coordination.todos[1])

    assert change_set_of(graph.plan.id, graph.todos) == "B"
    assert Writes(found=ChangeSet(id="B", repos={}), repos=("r1",)).branch("r1") == "coord/B"
    assert [base.todo for base in bases(file, graph.plan, graph.todos, {}, "B")] == ["A"]
    assert change_set_of("land:PLAN-001", ["land-r1"]) == ""
