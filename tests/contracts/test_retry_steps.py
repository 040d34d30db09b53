"""Retries of runs: the todos that run again, the results that are carried over, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from coordination.errors import Conflict, NotFound, PlanRefused
from coordination.models import Ecosystem, Issue, OnFailure, Retry, Strategy
from coordination.planner.graph import build
from coordination.runs.attempt_store import Grant
from coordination.runs.records import Result, TodoState
from coordination.runs.retrying.ended import read
from coordination.runs.retrying.retry_plan import RetryPlan
from coordination.runs.store import RunStore
from coordination.runs.submission.structure import refuse_changed
from coordination.runs.views.run_view import RunReader
from tests.engine import BAD, Engine, retry_of
from tests.plans import PLAN, Todos, ecosystem, order

TODOS = {"A": "r1", "B": ("r1", ["A"]), "C": ("r2", ["B"]), "D": ("r3", ["A"]), "E": ("r2", ["C", "D"])}
STRATEGIES = pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])


def ended(run: Engine, failing: str, todos: Any = TODOS, **how: Any) -> str:
    """A run in which `failing` failed; the others handed on their name and the commit `<name>-1`."""
    run.begin(todos, **how).drain(lambda grant: outcome(grant, failing))
    return run.run_id


def outcome(grant: Grant, failing: str) -> Result:
    if grant.todo_id in failing.split():
        return BAD
    return Result(
        outcome=TodoState.SUCCEEDED, exit_code=0, output=f'"{grant.todo_id}"', tip=f"{grant.todo_id}-1"
    )


def left(store: RunStore, run_id: str, file: Ecosystem | None = None, **which: Any) -> RetryPlan:
    return retry_of(store, run_id, file, **which)


def retry(run: Engine, file: Ecosystem | None = None, **how: Any) -> RetryPlan:
    """The engine goes on with the new run."""
    which = {name: how.pop(name) for name in ("without", "start", "as_it_was") if name in how}
    found = left(run.store, run.run_id, file, **which)
    run.begin_again(found, **how)
    return found


@STRATEGIES
def test_failed_todos_and_their_dependents_run_and_the_rest_is_carried_over(run: Engine, strategy: Strategy):
    first = ended(run, "B", strategy=strategy)
    before = {t.id: t for t in run.view().todos}
    assert run.states() == {"A": "succeeded", "B": "failed", "C": "skipped", "D": "succeeded", "E": "skipped"}
    bundle(run, first, "r1", {"A-1": "bytes"})

    found = retry(run)
    assert (tuple(found.again), set(found.carried)) == (("B", "C", "E"), {"A", "D"})
    assert run.view().counts == {"waiting": 2, "dispatched": 1, "succeeded": 2}
    keys = run.store.keys.run(run.run_id)
    assert run.store.redis.hgetall(keys.pending) == {"A": "0", "B": "0", "C": "1", "D": "0", "E": "1"}
    assert run.store.redis.hgetall(keys.bundle("r1")) == {"A-1": "bytes"}
    assert [k for k in run.store.redis.keys(f"test:run:{run.run_id}:*") if run.store.redis.ttl(k) >= 0] == []
    for name in "AD":
        assert run.todo(name).model_copy(update={"run": None}) == before[name]
    handed = run.store.handed_over(run.run_id, ["A"]).todos[0]
    assert (handed.output, handed.commit) == ("A", "A-1")

    delivery = run.mail[0]
    assert (delivery.host, run.claim(delivery, host="h2").word) == ("h1", "elsewhere")
    run.mail.popleft()
    grant = run.take("B")
    assert (grant.tip, grant.spec.todo.action.run) == ("A-1", "true")
    run.settle(grant, outcome(grant, ""))
    assert run.drain(lambda grant: outcome(grant, "")) == ["C", "E"]
    view = run.view()
    assert (view.status, view.counts) == ("succeeded", {"succeeded": 5})
    assert {t.id: t.run for t in view.todos} == {"A": first, "B": None, "C": None, "D": first, "E": None}
    assert {t.id: t.attempt for t in view.todos} == dict.fromkeys("ABCDE", 1)
    assert view.carried_from == first
    branches = RunReader(run.store.redis, run.store.keys).branches(view)
    assert branches == {"r1": f"coord/{run.run_id}", "r2": f"coord/{run.run_id}", "r3": f"coord/{first}"}
    assert not left(run.store, run.run_id).again, "nothing is left of a run in which all succeeded"


def test_after_a_halt_or_a_cancel_all_that_did_not_succeed_runs(run: Engine):
    ended(run, "B", on_failure=OnFailure.HALT, max_parallel=1)
    retry(run)
    run.settle(run.take("B"))
    run.cancel("test")
    done = {t.id for t in run.view().todos if t.state == "succeeded"}
    retry(run)

    assert done == {"A", "B"}
    assert sorted(run.drain()) == ["C", "D", "E"]


def test_what_is_blocked_from_outside_of_the_plan_stays_as_it_is(run: Engine):
    file = ecosystem({"A": "r1", "B": ("r2", ["ISSUE-001"])})
    issue = Issue.model_validate({"id": "ISSUE-001", "title": "open", "status": "pending"})
    file = file.model_copy(update={"coordination": file.coordination.model_copy(update={"issues": (issue,)})})
    run.submit(build(file, PLAN), file, order())
    run.drain(lambda _: BAD)
    before = run.view().todos[1]
    retry(run)

    assert run.view().todos[1] == before
    assert run.drain() == ["A"]
    assert run.view().counts == {"succeeded": 1, "skipped": 1}


def test_what_is_done_again_follows_the_file_of_now(run: Engine):
    ended(run, "B")
    mended = ecosystem(TODOS, B={"action": "make it right", "timeout": "90s", "env": {"X": "1"}})
    (plan,) = mended.coordination.plans
    mended = mended.with_coordination(plans=(plan.model_copy(update={"retry": Retry(attempts=9)}),))
    retry(run, mended)

    spec = run.take("B").spec
    assert (spec.todo.action.run, spec.todo.env, spec.retry.attempts) == ("make it right", {"X": "1"}, 9)
    assert spec.timeout.total_seconds() == 90


def test_what_was_completed_by_hand_is_done(run: Engine):
    ended(run, "B")
    found = retry(run, ecosystem(TODOS, B={"status": "completed"}))

    assert found.by_hand == {"B"}
    assert run.drain() == ["C", "E"]
    assert run.view().counts == {"succeeded": 5}


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "cancelled": ({"B": {"status": "cancelled"}}, "B is cancelled in the file",
                  f"reopen it; or start a run without it: coord sweep {PLAN}"),
    "no agent": ({"B": {"action": None}}, "no agent is configured for 1 todo without a command: B", ""),
    "no resource": ({"E": {"resources": ["db"]}}, "cannot be retried: resource 'db' of E is not declared",
    ""),
    "too much": ({"B": {"resources": [{"name": "gpu", "amount": 2}]}},
                 "B needs 2 of gpu, which has a capacity of 1", ""),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "words", "hint"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_no_longer_fits_the_run_is_refused(
    run: Engine, fields: dict[str, Any], words: str, hint: str
):
    ended(run, "B")
    with pytest.raises(PlanRefused, match=words) as refused:
        left(run.store, run.run_id, ecosystem(TODOS, capacities={"gpu": 1}, **fields))
    assert refused.value.hint == hint or not hint


def test_how_it_runs_is_taken_over_and_may_be_said_anew(run: Engine):
    ended(run, "B C", {"A": "r1", "B": "r2", "C": "r3"}, max_parallel=1)
    retry(run)
    assert len(run.mail) == 1
    run.drain(lambda grant: outcome(grant, "B C"))
    retry(run, max_parallel=2, on_failure=OnFailure.HALT)

    assert len(run.mail) == 2
    assert run.view().on_failure == "halt"


def test_a_host_that_is_gone_for_good_leaves_what_was_carried_and_the_rest_is_done_again(run: Engine):
    todos = {"A": "r1", "B": ("r1", ["A"]), "C": ("r1", ["B"]), "D": ("r1", ["C"]), "X": ("r2", ["B"])}
    old = ended(run, "D", todos)
    bundle(run, old, "r1", {"A-1": "bytes", "B-1": "bytes", "B-1 since": "A-1", "C-1 elsewhere": "too large"})
    bundle(run, old, "r2", {"X-1": "bytes"})
    found = retry(run, without=("h1",))

    assert (found.lost, tuple(found.again)) == (("C",), ("C", "D"))
    assert (found.tips, found.pins) == ({"r1": "B-1", "r2": "X-1"}, {})
    delivery = run.mail.popleft()
    assert delivery.host is None
    assert run.claim(delivery, host="h2").grant.tip == "B-1"


def test_a_commit_can_be_had_only_with_the_commit_that_it_adds_to(run: Engine):
    old = ended(run, "C", {"A": "r1", "B": ("r1", ["A"]), "C": ("r1", ["B"])})
    bundle(run, old, "r1", {"A-1 elsewhere": "too large", "B-1": "bytes", "B-1 since": "A-1"})
    found = left(run.store, old, without=("h1",))
    assert (found.lost, found.tips) == (("A", "B"), {})

    bundle(run, old, "r1", {"A-1 elsewhere": "remote coord/x https://example.org/r1.git"})
    assert left(run.store, old, without=("h1",)).lost == ()
    with pytest.raises(NotFound, match="has not worked on host h9") as refused:
        left(run.store, run.run_id, without=("h9",))
    assert refused.value.hint == "hosts that it worked on: h1"


def test_what_was_carried_over_took_no_time_of_this_run(run: Engine):
    first = ended(run, "B")
    facts = run.store.keys.run(first).facts
    run.store.redis.hset(facts, "A started_at", 0)
    retry(run)
    run.drain()

    assert (run.view().bound_s or 0) < 3600


def bundle(run: Engine, run_id: str, repo: str, fields: dict[str, str]) -> None:
    run.store.redis.hset(run.store.keys.run(run_id).bundle(repo), mapping=fields)


DONE = {"A": {"status": "completed"}, "D": {"status": "completed"}}

CHANGED: Mapping[str, tuple[Todos, str]] = {
    "an edge more": (TODOS | {"C": ("r2", ["B", "D"])}, "C now waits for D"),
    "an edge more to what is done": (TODOS | {"D": "r3", "A": ("r1", ["D"])},
        "A now waits for D; D no longer waits for A"),
    "an edge less": (TODOS | {"E": ("r2", ["C"])}, "E no longer waits for D"),
    "another repository": (TODOS | {"B": ("r4", ["A"])}, "B is in repository r4, and was in r1"),
    "a todo gone": ({name: spec for name, spec in TODOS.items() if name != "C"} | {"E": ("r2", ["D"])},
                    "C is no longer declared; E no longer waits for C"),
    "a new todo before": (TODOS | {"N": "r9", "C": ("r2", ["B", "N"])},
        "C now waits for N, which the run does not have"),
    "another file": ({"OTHER": "r9"},
        "A is no longer declared; B is no longer declared; D is no longer declared; and 2 more"),
}  # fmt: skip
SAME: Mapping[str, Ecosystem] = {
    "what is done is completed": ecosystem(TODOS, **DONE),
    "what was done by hand": ecosystem(TODOS, **DONE, C={"status": "completed"}),
    "actions": ecosystem(TODOS, B={"action": "make it right", "priority": "high", "timeout": "1s"}),
    "a new todo after": ecosystem(TODOS | {"N": ("r9", ["E"]), "M": "r1"}),
    "a new one before that is done": ecosystem(
        TODOS | {"N": "r9", "C": ("r2", ["B", "N"])}, N={"status": "completed"}
    ),
    "a new one before what was done": ecosystem(TODOS | {"N": "r9", "D": ("r3", ["A", "N"])}, **DONE),
    "in another order": ecosystem(dict(reversed(TODOS.items()))),
    "the same edge said from the other side": ecosystem(TODOS | {"C": "r2"}, B={"blocking": ["C"]}),
}


@pytest.mark.parametrize(("todos", "words"), CHANGED.values(), ids=CHANGED)
def test_a_plan_with_another_graph_is_refused_with_what_differs_or_goes_on_as_it_was(
    run: Engine, todos: Todos, words: str
):
    first = ended(run, "B")
    with pytest.raises(PlanRefused) as refused:
        left(run.store, first, ecosystem(todos))
    assert refused.value.message == f"{PLAN} is no longer the plan of run {first}: {words}"
    assert refused.value.hint == (
        f"start a new run: coord sweep {PLAN}; or keep the order of the run: coord retry {first} --as-it-was"
    )

    retry(run, ecosystem(todos, B={"action": "mended"} if "B" in todos else {}), as_it_was=True)
    grant = run.take("B")
    assert (grant.spec.repo.name, grant.tip) == ("r1", "A-1")
    assert grant.spec.todo.action.run == ("mended" if "B" in todos else "true")
    run.settle(grant)
    assert run.drain() == ["C", "E"]
    assert run.view().status == "succeeded"


@pytest.mark.parametrize("file", SAME.values(), ids=SAME)
def test_what_does_not_change_the_order_of_its_todos_is_no_difference(run: Engine, file: Ecosystem):
    ended(run, "B")
    before = run.store.redis.hget(run.store.keys.run(run.run_id).meta, "graph")
    retry(run, file)
    assert run.store.redis.hget(run.store.keys.run(run.run_id).meta, "graph") == before


def test_a_plan_that_owns_its_todos_by_their_repositories_stays_the_same_when_some_are_done(run: Engine):
    """Such a plan owns open todos only; and one that says it blocks its own plan blocks nobody."""
    todos = {"A": "r1", "B": ("r1", ["A"])}

    def file(**more: Any) -> Ecosystem:
        made = ecosystem(todos, **{name: {"plan": None, **more.get(name, {})} for name in todos})
        (plan,) = made.coordination.plans
        return made.with_coordination(plans=(plan.model_copy(update={"repos": ("r1",)}),))

    blocking = {"A": {"blocking": [PLAN]}}
    run.submit(build(file(**blocking), PLAN), file(**blocking), order())
    brief = run.brief()

    refuse_changed(brief, file(A={"blocking": [PLAN], "status": "completed"}), {"B"}, "resume")


def _brief(run: Engine, **changes: Any) -> str:
    old = json.loads(run.store.redis.hget(run.store.keys.run(run.run_id).meta, "brief"))
    return json.dumps(old | changes)


DAMAGED: Mapping[str, Callable[[Engine, Any], object]] = {
    "an edge gone": lambda run, keys: run.store.redis.hset(keys.children, "A", "B"),
    "an edge more": lambda run, keys: run.store.redis.hset(keys.children, "B", "C D"),
    "a child that is none": lambda run, keys: run.store.redis.hset(keys.children, "B", "C X"),
    "another repository": lambda run, keys: run.store.redis.hset(
        keys.descriptor, "B", "1 1 r9 worktree 0 1/1 slot:r9"
    ),
    "a todo gone": lambda run, keys: run.store.redis.hdel(keys.spec, "B"),
    "a descriptor gone": lambda run, keys: run.store.redis.hdel(keys.descriptor, "B"),
    "another brief": lambda run, keys: run.store.redis.hset(
        keys.meta, "brief", _brief(run, predecessors={"A": []})
    ),
    "half a brief": lambda run, keys: run.store.redis.hset(keys.meta, "brief", _brief(run)[:50]),
    "another hash": lambda run, keys: run.store.redis.hset(keys.meta, "graph", "0" * 64),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_run_whose_records_do_not_fit_its_hash_is_not_taken_up(
    run: Engine, damage: Callable[[Engine, Any], object]
):
    first = ended(run, "B")
    damage(run, run.store.keys.run(first))
    with pytest.raises(
        Conflict, match="are damaged: its todos and their order do not match the hash of its graph"
    ):
        read(run.store, first)


def test_a_run_of_before_there_was_a_hash_is_taken_up(run: Engine):
    ended(run, "B")
    run.store.redis.hdel(run.store.keys.run(run.run_id).meta, "graph")
    retry(run)
    assert run.drain() == ["B", "C", "E"]
