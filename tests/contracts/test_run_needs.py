"""Needs that the todos of runs share with each other and with other lock users: repository slots and
resources.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest

from coordination.backend.step_connection import StepCaller
from coordination.models import OnFailure, Strategy
from coordination.runs.maintenance.expiry import forget
from coordination.runs.store import RunStore
from tests.contracts.carrier import BAD, OK, Harness, OneOfSeveral
from tests.plans import ecosystem, graph, order

GPU = {"resources": ["gpu"]}
BOTH = {"resources": ["gpu", "db"]}
SOMEBODY = ["host", "anvil", "pid", 12, "label", "nightly"]
OFFER_MS = 15_000


@pytest.fixture
def runs(store: RunStore) -> Callable[[], OneOfSeveral]:
    known: dict[str, OneOfSeveral] = {}
    return lambda: OneOfSeveral(store, known)


def sweep(run: Harness, todos, needs, *, capacities=None, slots=1, **how) -> Harness:
    known = {"slots": slots, "capacities": capacities or {"gpu": 1, "db": 1}, **needs}
    run.submit(graph(todos, **known), ecosystem(todos, **known), order(**how))
    return run


def somebody(store: RunStore, want: str, *, request: str = "somebody", ttl_ms: int = 3_600_000) -> str:
    """A user of the library, in one try."""
    args = [request, want, ttl_ms, 0, 0, "", request, *SOMEBODY]
    return StepCaller(store.redis)("lock/acquire", [store.keys.locks.head], args).split()[0]


def gives_back(store: RunStore, request: str = "somebody") -> None:
    assert StepCaller(store.redis)("lock/release", [store.keys.locks.head], [request, request]) == 1


def left_behind(store: RunStore) -> list[str]:
    parts = ("shares", "queue", "request", "party")
    return [key for part in parts for key in store.redis.keys(f"test:lock-{part}:*")]


def test_a_resource_is_used_by_as_many_as_it_has_capacity_for_and_then_by_whoever_came_first(runs):
    first, second, third, fourth = (
        sweep(runs(), {"X": f"r{n}"}, {"X": GPU}, capacities={"gpu": 2}) for n in range(4)
    )
    one, two = first.take("X"), second.take("X")
    assert third.next() is None
    assert fourth.next() is None
    users = ", ".join(f"X of run {run}" for run in sorted((first.run_id, second.run_id)))
    assert third.waits_for("X") == f"resource gpu (2 of 2 in use by {users})"

    assert first.store.settle(one, OK).wakes == ((third.run_id, "X"),)
    third.tick()
    three = third.take("X")
    assert fourth.view().todos[0].state == "parked"
    assert three.fence > two.fence > one.fence


def test_the_words_say_who_is_in_the_way_also_where_that_is_a_user_of_the_library(runs, store: RunStore):
    run = runs()
    store.declare({"gpu": 3})
    assert somebody(store, "2/0 resource:gpu") == "held"
    sweep(run, {"A": "r"}, {"A": {"resources": [{"name": "gpu", "amount": 2}]}}, capacities={"gpu": 3})
    assert run.next() is None

    assert run.waits_for("A") == "resource gpu (2 of 3 in use by process 12 on anvil (nightly); it needs 2)"


def test_who_waits_for_a_resource_keeps_its_repository_from_nobody_and_holds_no_share_of_max_parallel(
    runs, store
):
    run = runs()
    store.declare({"gpu": 1})
    somebody(store, "1/0 resource:gpu")
    sweep(run, {"A": ("r", []), "B": "r", "C": ("s", ["A"])}, {"A": GPU}, max_parallel=1)

    assert run.drain() == ["B"]
    assert run.states() == {"A": "parked", "B": "succeeded", "C": "waiting"}
    gives_back(store)
    run.tick()
    assert run.drain() == ["A", "C"]
    assert run.view().status == "succeeded"
    assert left_behind(store) == []


def test_what_a_library_user_gave_back_is_offered_within_a_tick_and_comes_before_what_has_not_begun(
    runs, store
):
    run = runs()
    store.declare({"gpu": 1})
    somebody(store, "1/0 resource:gpu")
    sweep(run, {"A": "r", "B": "r", "Z": ("r2", ["A"])}, {"A": GPU})
    assert run.next() is None
    assert run.states() == {"A": "parked", "B": "dispatched", "Z": "waiting"}

    gives_back(store)
    run.tick()

    assert run.states() == {"A": "dispatched", "B": "ready", "Z": "waiting"}
    assert run.claim(run.mail.popleft()).word == "early"  # B's message, which was under way
    assert sorted(run.drain()) == ["A", "B", "Z"]


def test_who_is_handed_a_resource_while_its_repository_is_at_work_lets_others_have_it_until_it_can_begin(
    runs, store
):
    run, other = runs(), runs()
    store.declare({"gpu": 1})
    somebody(store, "1/0 resource:gpu")
    sweep(run, {"A": "r", "B": "r"}, {"A": GPU}, slots=2)
    assert run.next() is None
    at_work = run.take("B")

    gives_back(store)
    run.tick()
    sweep(other, {"X": "r9"}, {"X": GPU})
    user = other.take("X")
    run.settle(at_work)
    assert run.next() is None
    assert run.waits_for("A") == f"resource gpu (1 of 1 in use by X of run {other.run_id})"

    run.follow(store.settle(user, OK))
    assert run.drain() == ["A"]
    assert left_behind(store) == []


def test_a_resource_that_is_missing_keeps_no_repository_from_other_runs_either(runs, store):
    first, second, third = runs(), runs(), runs()
    store.declare({"gpu": 1})
    somebody(store, "1/0 resource:gpu")
    sweep(first, {"X": "r"}, {})
    at_work = first.take("X")
    sweep(second, {"A": "r", "B": "r"}, {"A": GPU})
    sweep(third, {"Y": "r"}, {})
    assert second.next() is None  # waits for both
    assert third.next() is None
    words = second.waits_for("A") or ""
    assert words.startswith(
        f"repository r, where run {first.run_id} works and resource gpu (1 of 1 in use by process"
    )

    first.settle(at_work)

    # The repository is free, and whoever is first in its queue still needs a gpu.
    assert third.drain() == ["Y"]
    assert second.drain() == ["B"]
    gives_back(store)
    second.tick()
    assert second.drain() == ["A"]
    assert left_behind(store) == []


def test_everything_that_a_todo_needs_is_taken_at_once_or_nothing(runs, store):
    run, other = runs(), runs()
    store.declare({"gpu": 1, "db": 1})
    somebody(store, "1/0 resource:db")
    sweep(run, {"A": "r"}, {"A": BOTH})
    assert run.next() is None

    sweep(other, {"X": "r"}, {"X": GPU})
    assert other.drain() == ["X"]  # neither the gpu nor the repository is kept for who cannot use them yet


def test_the_more_urgent_todo_comes_first(runs, store):
    low, urgent = runs(), runs()
    store.declare({"gpu": 1})
    somebody(store, "1/0 resource:gpu")
    for run, todo, priority in ((low, "L", "low"), (urgent, "U", "critical")):
        sweep(run, {todo: f"r-{todo}"}, {todo: {**GPU, "priority": priority}})
        assert run.next() is None

    gives_back(store)
    low.tick()

    assert low.drain() == []
    assert urgent.drain() == ["U"]
    assert low.drain() == ["L"]


def test_a_second_try_has_the_rank_of_the_first(runs, store):
    first, second = runs(), runs()
    store.declare({"gpu": 1})
    somebody(store, "1/0 resource:gpu")
    for run, todo in ((first, "A"), (second, "B")):
        sweep(run, {todo: f"r-{todo}"}, {todo: GPU})
        assert run.next() is None

    gives_back(store)
    expire(store, f"{first.run_id} A")
    first.follow(store.fire(first.run_id, "A"))
    assert first.take("A")  # B waited meanwhile, but A has waited longer


def test_runs_take_turns_at_a_repository(runs):
    both = [sweep(runs(), dict.fromkeys(names, "r"), {}) for names in ("ABC", "XYZ")]
    turns = []
    while any(run.mail for run in both):
        held = [(run, grant) for run in both if run.mail and (grant := run.next())]
        for run, grant in held:
            turns.append(grant.todo_id in "XYZ")
            run.settle(grant)

    assert len(turns) == 6
    assert all(one != other for one, other in pairwise(turns)), turns


def test_an_offer_nobody_came_for_goes_to_the_next(runs, store):
    first, second = runs(), runs()
    store.declare({"gpu": 1})
    somebody(store, "1/0 resource:gpu")
    for run, todo in ((first, "A"), (second, "B")):
        sweep(run, {todo: f"r-{todo}"}, {todo: GPU})
        assert run.next() is None
    gives_back(store)
    first.tick()
    assert [d.todo_id for d in first.mail] == ["A"]
    share = store.redis.zrange(store.keys.locks.shares("resource:gpu"), 0, -1, withscores=True)
    assert [(name, score < store.now_ms() + OFFER_MS + 1) for name, score in share] == [
        (f"1 {first.run_id} A", True)
    ]

    expire(store, f"{first.run_id} A")
    second.follow(store.fire(second.run_id, "B"))
    assert second.take("B")
    assert first.next() is None
    assert first.waits_for("A") == f"resource gpu (1 of 1 in use by B of run {second.run_id})"


def expire(store: RunStore, request: str) -> None:
    """The offer's time is over."""
    locks = store.keys.locks
    for want in store.redis.hget(locks.request(request), "wants").splitlines():
        mode, name = want.split(" ")
        store.redis.zadd(locks.shares(name), {f"{mode.split('/')[0]} {request}": 1})
    store.redis.pexpire(locks.request(request), 1)
    store.redis.delete(locks.request(request))


def test_a_library_user_who_died_is_found_out_by_the_timer_of_who_waits(runs, store):
    run = runs()
    store.declare({"gpu": 1})
    somebody(store, "1/0 resource:gpu", ttl_ms=3_000)
    sweep(run, {"A": "r"}, {"A": GPU})
    assert run.next() is None
    due = store.redis.zscore(store.keys.timers, f"{run.run_id} A")
    assert due <= store.now_ms() + 3_000

    store.redis.zadd(store.keys.locks.shares("resource:gpu"), {"1 somebody": 1})
    run.follow(store.fire(run.run_id, "A"))
    assert run.drain() == ["A"]


def test_a_look_whether_it_is_free_sends_no_message(runs, store):
    run = runs()
    store.declare({"gpu": 1})
    somebody(store, "1/0 resource:gpu")
    sweep(run, {"A": "r"}, {"A": GPU})
    assert run.next() is None

    assert run.follow(store.fire(run.run_id, "A")).word == "waits"
    assert not run.mail
    assert store.redis.zscore(store.keys.timers, f"{run.run_id} A") > store.now_ms()


def test_a_capacity_that_grew_lets_who_waits_go_on_and_one_that_shrank_below_the_need_is_a_failure_with_words(
    runs, store
):
    two = {"resources": [{"name": "gpu", "amount": 2}]}
    run = sweep(runs(), {"A": "r", "B": "s"}, {"A": two, "B": two}, capacities={"gpu": 2})
    first = run.next()
    assert first is not None
    assert run.next() is None

    store.declare({"gpu": 4})
    run.tick()
    second = run.next()
    assert second is not None
    run.follow(store.hand_back(second))
    store.declare({"gpu": 1})
    assert run.next() is None

    failed = next(t for t in run.view().todos if t.id == second.todo_id)
    assert failed.state == "failed"
    assert (
        failed.error == "needs 2 of gpu, which has a capacity of 1: lower the amount, or raise the capacity"
    )
    run.settle(first)
    assert left_behind(store) == []


def test_who_waits_for_more_than_there_is_by_now_fails_with_words_and_lets_the_others_have_it(runs, store):
    two = {"resources": [{"name": "gpu", "amount": 2}]}
    much, little = runs(), runs()
    store.declare({"gpu": 2})
    somebody(store, "2/0 resource:gpu")
    sweep(much, {"A": "r", "B": ("s", ["A"]), "C": "r"}, {"A": two}, capacities={"gpu": 2})
    assert much.next() is None
    sweep(little, {"X": "t"}, {"X": GPU}, capacities={"gpu": 1})
    assert little.next() is None

    gives_back(store)
    much.follow(store.fire(much.run_id, "A"))
    little.tick()

    assert much.drain() == ["C"]
    assert much.states() == {"A": "failed", "B": "skipped", "C": "succeeded"}
    words = "needs 2 of gpu, which has a capacity of 1: lower the amount, or raise the capacity"
    assert much.view().todos[0].error == words
    assert little.drain() == ["X"]
    assert left_behind(store) == []


def test_who_waits_for_a_resource_that_is_there_no_more_fails_with_words(runs, store):
    run = runs()
    store.declare({"gpu": 1})
    somebody(store, "1/0 resource:gpu")
    sweep(run, {"A": "r"}, {"A": GPU})
    assert run.next() is None
    store.declare({"gpu": 0})
    run.follow(store.fire(run.run_id, "A"))

    assert run.view().status == "failed"
    assert run.view().todos[0].error == "needs gpu, and there is no such resource any more: declare it again"


@pytest.mark.parametrize("end", ["cancel", "halt"])
def test_who_waits_when_its_run_ends_leaves_its_place_to_the_next(runs, store, end: str):
    run, other = runs(), runs()
    store.declare({"gpu": 1})
    somebody(store, "1/0 resource:gpu")
    sweep(run, {"A": "r", "B": "s", "C": "t"}, {"A": GPU, "C": GPU}, on_failure=OnFailure.HALT)
    bad = next(grant for _ in range(3) if (grant := run.next()))
    sweep(other, {"X": "u"}, {"X": GPU})
    assert other.next() is None

    run.follow(run.store.cancel(run.run_id, "me") if end == "cancel" else run.store.settle(bad, BAD))
    if end == "cancel":
        run.settle(bad)
    assert run.view().status in ("cancelled", "failed")
    gives_back(store)
    other.tick()

    assert other.drain() == ["X"]
    assert left_behind(store) == []


def test_a_run_that_is_cancelled_gives_back_what_it_was_just_offered(runs, store):
    run, other = runs(), runs()
    store.declare({"gpu": 1})
    somebody(store, "1/0 resource:gpu")
    sweep(run, {"A": "r"}, {"A": GPU})
    sweep(other, {"X": "s"}, {"X": GPU})
    assert run.next() is None
    assert other.next() is None
    gives_back(store)  # offered to A, which nobody fired yet

    assert run.store.cancel(run.run_id, "me").wakes == ((other.run_id, "X"),)
    other.tick()
    assert other.drain() == ["X"]
    assert left_behind(store) == []


def test_a_paused_run_keeps_nothing_from_others_and_goes_on_when_it_is_resumed(runs, store):
    run, other = runs(), runs()
    store.declare({"gpu": 1})
    somebody(store, "1/0 resource:gpu")
    sweep(run, {"A": "r"}, {"A": GPU})
    assert run.next() is None
    sweep(other, {"X": "s"}, {"X": GPU})
    assert other.next() is None
    run.store.pause(run.run_id, "me")

    gives_back(store)
    other.tick()  # A was first, and has no use for it now
    assert other.drain() == ["X"]
    assert not run.mail
    run.follow(store.resume(run.run_id, "me"))
    assert run.drain() == ["A"]
    assert left_behind(store) == []


def test_a_run_that_is_paused_gives_back_at_once_what_it_was_offered(runs, store):
    run, other = runs(), runs()
    store.declare({"gpu": 1})
    somebody(store, "1/0 resource:gpu")
    sweep(run, {"A": "r", "B": "s"}, {"A": GPU})
    sweep(other, {"X": "t"}, {"X": GPU})
    assert run.next() is None
    at_work = run.take("B")
    assert other.next() is None
    gives_back(store)
    run.tick()
    assert run.states() == {"A": "dispatched", "B": "running"}  # no worker has come for it yet

    other.follow(store.pause(run.run_id, "me"))
    user = other.take("X")
    run.follow(store.resume(run.run_id, "me"))
    assert run.next() is None
    other.settle(user)

    run.settle(at_work)
    assert run.drain() == ["A"]
    assert left_behind(store) == []


@pytest.mark.parametrize("how", ["retry", "park", "hand back", "lost"])
def test_an_attempt_that_ends_gives_back_all_that_it_held(runs, store, how: str):
    run, other = sweep(runs(), {"A": "r"}, {"A": BOTH}), runs()
    grant = run.take("A")
    sweep(other, {"X": "s"}, {"X": BOTH})
    assert other.next() is None

    if how == "lost":
        store.redis.zadd(store.keys.leases, {f"{run.run_id} A": 1})
        reply = store.lose(run.run_id, "A", 3)
    else:
        step = {
            "retry": lambda: store.retry(grant, timedelta(hours=1), BAD),
            "hand back": lambda: store.hand_back(grant),
        }
        reply = step.get(how, lambda: store.park(grant, "a folder", timedelta(hours=1)))()

    assert (other.run_id, "X") in reply.wakes
    other.follow(store.fire(other.run_id, "X"))
    assert other.drain() == ["X"]


def test_what_waits_for_a_host_that_is_gone_keeps_no_resource(runs, store):
    run, other = sweep(runs(), {"A": "r", "B": ("r", ["A"])}, {"B": GPU}), runs()
    run.settle(run.take("A"))
    assert run.follow(store.park_unserved(run.run_id, [])).word == "stranded"
    sweep(other, {"X": "s"}, {"X": GPU})
    assert other.drain() == ["X"]

    run.follow(store.park_unserved(run.run_id, [("r", "h1")]))
    assert run.drain() == ["B"]


@pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])
def test_a_plan_whose_todos_share_one_resource_is_carried_out_one_by_one(runs, store, strategy: Strategy):
    run = sweep(
        runs(),
        {"A": "r", "B": "s", "C": ("t", ["A", "B"]), "D": "u"},
        dict.fromkeys("ABCD", GPU),
        strategy=strategy,
    )

    assert sorted(run.drain()) == ["A", "B", "C", "D"]
    assert run.view().status == "succeeded"
    assert left_behind(store) == []


def test_a_run_that_is_forgotten_leaves_no_request(runs, store):
    run, other = sweep(runs(), {"A": "r"}, {"A": GPU}), runs()
    run.take("A")
    store.redis.delete(store.keys.run(run.run_id).meta)  # lost in a way that was not ours
    store.redis.zrem(store.keys.live, run.run_id)
    sweep(other, {"X": "s"}, {"X": GPU})
    assert other.next() is None

    forget(store, run.run_id)
    other.tick()
    assert other.drain() == ["X"]
    assert left_behind(store) == []
