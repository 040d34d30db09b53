"""Resources and slots that todos share with each other, with other runs and with users of the library."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest

from coordination.backend.step_connection import StepCaller
from coordination.backend.steps.lock import Answer, Held, Release
from coordination.models import OnFailure
from coordination.runs.maintenance.expiry import forget
from coordination.runs.store import RunStore
from tests.engine import BAD, OK, Engine, OneOfSeveral
from tests.lock_requests import HOUR_MS, ask

GPU = {"resources": ["gpu"]}
BOTH = {"resources": ["gpu", "db"]}
SOMEBODY = {"host": "anvil", "pid": "12", "label": "nightly"}
OFFER_MS = 15_000


@pytest.fixture
def runs(store: RunStore) -> Callable[[], OneOfSeveral]:
    known: dict[str, OneOfSeveral] = {}
    return lambda: OneOfSeveral(store, known)


def sweep(run: Engine, todos, needs, *, capacities=None, slots=1, **how) -> Engine:
    return run.begin(todos, slots=slots, capacities=capacities or {"gpu": 1, "db": 1}, more=needs, **how)


def taken(store: RunStore) -> None:
    """The only gpu is in use by somebody else."""
    store.declare({"gpu": 1})
    assert isinstance(somebody(store, "1/0 resource:gpu"), Held)


def somebody(store: RunStore, want: str, *, request: str = "somebody", ttl_ms: int = HOUR_MS) -> Answer:
    """A user of the library, in one try."""
    namespace = store.keys.namespace
    return ask(store.redis, request, want, namespace=namespace, ttl_ms=ttl_ms, place_ms=0, **SOMEBODY)


def gives_back(store: RunStore, request: str = "somebody") -> None:
    assert StepCaller(store.redis)(Release(request=request, party=request), [store.keys.locks.head])


def left_behind(store: RunStore) -> list[str]:
    parts = ("shares", "queue", "request", "party")
    return [key for part in parts for key in store.redis.keys(f"test:lock-{part}:*")]


def test_a_resource_is_used_up_to_its_capacity_and_then_by_whoever_came_first(runs):
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
    assert fourth.todo("X").state == "parked"
    assert three.fence > two.fence > one.fence


def test_the_wait_reason_names_a_user_of_the_library_and_the_amount(runs, store: RunStore):
    run = runs()
    store.declare({"gpu": 3})
    assert isinstance(somebody(store, "2/0 resource:gpu"), Held)
    sweep(run, {"A": "r"}, {"A": {"resources": [{"name": "gpu", "amount": 2}]}}, capacities={"gpu": 3})
    assert run.next() is None

    assert run.waits_for("A") == "resource gpu (2 of 3 in use by process 12 on anvil (nightly); it needs 2)"


def test_a_todo_that_waits_for_a_resource_holds_nothing_and_comes_first_when_it_is_offered(runs, store):
    run = runs()
    taken(store)
    sweep(run, {"A": "r", "B": "r", "C": "r", "Z": ("r2", ["A"])}, {"A": GPU})
    assert run.next() is None
    run.settle(run.take("B"))
    assert run.fire("A").word == "waits"
    assert [d.todo_id for d in run.mail] == ["C"], "a look whether it is free sends no message"
    assert store.redis.zscore(store.keys.timers, f"{run.run_id} A") > store.now_ms()
    assert run.states() == {"A": "parked", "B": "succeeded", "C": "dispatched", "Z": "waiting"}

    gives_back(store)
    run.tick()

    assert run.states("AC") == {"A": "dispatched", "C": "ready"}
    assert run.claim(run.mail.popleft()).word == "early"  # C's message, which was under way
    assert sorted(run.drain()) == ["A", "C", "Z"]
    assert left_behind(store) == []


def test_a_resource_is_lent_while_its_todo_waits_for_its_repository(runs, store):
    run, other = runs(), runs()
    taken(store)
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
    taken(store)
    sweep(first, {"X": "r"}, {})
    at_work = first.take("X")
    sweep(second, {"A": "r", "B": "r"}, {"A": GPU}, max_parallel=1)
    sweep(third, {"Y": "r"}, {})
    assert second.next() is None  # waits for both
    assert third.next() is None
    words = second.waits_for("A") or ""
    assert words.startswith(
        f"repository r, in use by run {first.run_id} and resource gpu (1 of 1 in use by process"
    )

    first.settle(at_work)

    # The repository is free, and whoever is first in its queue still needs a gpu.
    assert third.drain() == ["Y"]
    assert second.drain() == ["B"]
    gives_back(store)
    second.tick()
    assert second.drain() == ["A"]
    assert left_behind(store) == []


def test_the_more_urgent_todo_comes_first(runs, store):
    low, urgent = runs(), runs()
    taken(store)
    for run, todo, priority in ((low, "L", "low"), (urgent, "U", "critical")):
        sweep(run, {todo: f"r-{todo}"}, {todo: {**GPU, "priority": priority}})
        assert run.next() is None

    gives_back(store)
    low.tick()

    assert low.drain() == []
    assert urgent.drain() == ["U"]
    assert low.drain() == ["L"]


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


@pytest.mark.parametrize("comes", ["A", "B"])
def test_an_offer_that_expired_goes_to_whoever_asks_next(runs, store, comes: str):
    first, second = runs(), runs()
    taken(store)
    for run, todo in ((first, "A"), (second, "B")):
        sweep(run, {todo: f"r-{todo}"}, {todo: GPU})
        assert run.next() is None
    gives_back(store)
    first.tick()
    assert [d.todo_id for d in first.mail] == ["A"]
    ((name, until_ms),) = store.redis.zrange(store.keys.locks.shares("resource:gpu"), 0, -1, withscores=True)
    assert (name, until_ms <= store.now_ms() + OFFER_MS) == (f"1 {first.run_id} A", True)

    expire(store, f"{first.run_id} A")
    if comes == "A":
        first.fire("A")
        assert first.take("A"), "its rank is that of its first try"
    else:
        second.fire("B")
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
    run.fire("A")
    assert run.drain() == ["A"]


def test_a_todo_follows_a_capacity_that_grows_and_fails_when_it_shrinks(runs, store):
    two = {"resources": [{"name": "gpu", "amount": 2}]}
    run = sweep(runs(), {"A": "r", "B": "s"}, {"A": two, "B": two}, capacities={"gpu": 2})
    first = run.next()
    assert first is not None
    assert run.next() is None

    store.declare({"gpu": 4})
    run.tick()
    second = run.next()
    assert second is not None
    run.hand_back(second)
    store.declare({"gpu": 1})
    assert run.next() is None

    assert run.todo(second.todo_id).state == "failed"
    assert (run.todo(second.todo_id).error or "").startswith("needs 2 of gpu, which has a capacity of 1: ")
    run.settle(first)
    assert left_behind(store) == []


@pytest.mark.parametrize(
    ("capacity", "words"),
    [
        (1, "needs 2 of gpu, which has a capacity of 1: lower the amount, or raise the capacity"),
        (0, "needs gpu, and there is no such resource any more: declare it again"),
    ],
)
def test_a_todo_that_waits_for_more_than_there_is_by_now_fails(runs, store, capacity: int, words: str):
    two = {"resources": [{"name": "gpu", "amount": 2}]}
    much, little = runs(), runs()
    store.declare({"gpu": 2})
    somebody(store, "2/0 resource:gpu")
    sweep(much, {"A": "r", "B": ("s", ["A"]), "C": "r"}, {"A": two}, capacities={"gpu": 2})
    assert much.next() is None
    sweep(little, {"X": "t"}, {"X": GPU}, capacities={"gpu": 1})
    assert little.next() is None
    store.declare({"gpu": capacity})

    gives_back(store)
    much.fire("A")
    little.tick()

    assert much.drain() == ["C"]
    assert much.states() == {"A": "failed", "B": "skipped", "C": "succeeded"}
    assert much.todo("A").error == words
    if capacity:
        assert little.drain() == ["X"]
        assert left_behind(store) == []


@pytest.mark.parametrize("offered", [True, False])
@pytest.mark.parametrize("end", ["cancel", "halt", "pause"])
def test_a_run_that_ends_or_pauses_leaves_its_place_to_the_next(runs, store, end: str, offered: bool):
    run, other = runs(), runs()
    taken(store)
    sweep(run, {"A": "r", "B": "s"}, {"A": GPU}, on_failure=OnFailure.HALT)
    assert run.next() is None
    at_work = run.take("B")
    sweep(other, {"X": "t"}, {"X": GPU})
    assert other.next() is None
    if offered:
        gives_back(store)  # to A, whose message nobody has sent yet

    if end == "halt":
        run.settle(at_work, BAD)
    else:
        run.follow(getattr(store, end)(run.run_id, "me"))
    if not offered:
        gives_back(store)
    other.tick()

    assert other.drain() == ["X"]
    if end == "pause":
        run.resume("me")
        assert run.drain() == ["A"]
    if end != "halt":
        run.settle(at_work)
    assert left_behind(store) == []


@pytest.mark.parametrize("how", ["retry", "park", "hand back", "lost"])
def test_an_attempt_that_ends_gives_back_all_that_it_held(runs, store, how: str):
    run, other = sweep(runs(), {"A": "r"}, {"A": BOTH}), runs()
    grant = run.take("A")
    sweep(other, {"X": "s"}, {"X": BOTH})
    assert other.next() is None

    store.redis.zadd(store.keys.leases, {f"{run.run_id} A": 1})
    reply = {
        "retry": lambda: store.retry(grant, timedelta(hours=1), BAD),
        "park": lambda: store.park(grant, "a folder", timedelta(hours=1)),
        "hand back": lambda: store.hand_back(grant),
        "lost": lambda: store.lose(run.run_id, "A", 3),
    }[how]()

    assert (other.run_id, "X") in reply.wakes
    other.fire("X")
    assert other.drain() == ["X"]


def test_what_waits_for_a_host_that_is_gone_keeps_no_resource(runs, store):
    run, other = sweep(runs(), {"A": "r", "B": ("r", ["A"])}, {"B": GPU}), runs()
    run.settle(run.take("A"))
    assert run.park_unserved([]).word == "stranded"
    sweep(other, {"X": "s"}, {"X": GPU})
    assert other.drain() == ["X"]

    run.park_unserved([("r", "h1")])
    assert run.drain() == ["B"]


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
