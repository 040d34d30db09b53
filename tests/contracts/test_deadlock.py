"""Deadlocks on a real server: found within the second look, and one of the cycle gives way, whoever looks."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from random import Random

import pytest
from redis import Redis

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps.lock import GiveBack, Graph, GraphReply, Held, Release, Victim
from coordination.errors import DeadlockError, LockTimeout
from coordination.events.stream import EventStream
from coordination.locks import LockManager
from coordination.locks.deadlock import Detector, graph_of, verdict
from tests.lock_requests import ask
from tests.waiting import until

HOUR_MS = 3_600_000
TTL, LONG = timedelta(seconds=10), timedelta(seconds=60)
KEYS = Keys("test").locks


class Table:
    """Requests of parties, step by step, with nobody asleep behind them."""

    def __init__(self, client: Redis) -> None:
        self.redis = client
        self.step = StepCaller(client)
        self.detector = Detector(self.step, KEYS)
        self.held: dict[str, list[str]] = {}
        self.waiting: dict[str, str] = {}
        self._count = 0

    def asks(self, party: str, *wants: str, priority: int = 0) -> str:
        """Returns the request's id. Wants as the steps read them: `x lock:a`."""
        self._count += 1
        request = f"{party}-{self._count}"
        answer = ask(
            self.redis, request, "\n".join(wants), priority=priority, party=party,
            pid=party.removeprefix("p"), host="here",
        )  # fmt: skip
        if isinstance(answer, Held):
            self.held.setdefault(party, []).append(request)
        else:
            self.waiting[party] = request
        return request

    def graph(self, request: str, limit: int) -> GraphReply | None:
        return self.step(Graph(request=request, limit=limit), [KEYS.head])

    def ends(self, party: str) -> None:
        """It gives everything back; what is handed to others by that is noted."""
        for request in self.held.pop(party, []):
            self.step(Release(request=request, party=party), [KEYS.head])
        for other, request in list(self.waiting.items()):
            if self.redis.hget(KEYS.request(request), "state") == "held":
                self.held.setdefault(other, []).append(self.waiting.pop(other))

    def looks(self, request: str) -> DeadlockError | None:
        try:
            return self.detector.look(request)
        except DeadlockError as error:
            return error

    def told(self, request: str) -> list[str]:
        return self.redis.lrange(KEYS.wake(request), 0, -1)


@pytest.fixture
def table(client: Redis) -> Table:
    return Table(client)


def circle(table: Table, length: int) -> list[str]:
    """Each holds one name and waits for the next one's; returns those who wait, oldest first."""
    for i in range(length):
        table.asks(f"p{i}", f"x lock:{i}")
    return [table.asks(f"p{i}", f"x lock:{(i + 1) % length}") for i in range(length)]


@pytest.mark.parametrize("length", range(1, 11))
def test_a_circle_has_one_victim_however_many_look(table: Table, length: int):
    waiting = circle(table, length)

    raised = [error for request in waiting for _ in range(2) if (error := table.looks(request))]

    told = [request for request in waiting if table.told(request)]
    assert told == [waiting[-1]], "the youngest"
    assert len(raised) <= 1
    words = verdict(table.told(told[0])[0])
    assert words
    assert {name for _, name in words.cycle} == {f"lock:{i}" for i in range(length)}
    assert not table.redis.exists(KEYS.request(told[0])), "its request is withdrawn"
    events = EventStream(table.redis, "test").read().events
    assert [(event.kind, event.data["victim"]) for event in events] == [("deadlock.found", told[0])]


def test_deadlocks_are_told_as_they_stand_and_nobody_gives_way(table: Table):
    first, second = circle(table, 2)
    table.asks("p9", "x lock:0")  # waits behind the circle, and is not of it

    found = LockManager(table.redis, "test").deadlocks()

    assert [[name for _, name in circle.waits] for circle in found] in (
        [["lock:1", "lock:0"]],
        [["lock:0", "lock:1"]],
    )
    assert [table.redis.hget(KEYS.request(one), "state") for one in (first, second)] == ["waiting", "waiting"]


def test_the_victim_reads_the_cycle_and_keeps_what_it_holds_until_it_gives_it_back(table: Table):
    first, _ = circle(table, 2)
    table.looks(first)

    words = str(verdict(table.told(table.waiting["p1"])[0]))
    assert "process 0 on here holds lock:0 and waits for lock:1" in words
    assert "process 1 on here holds lock:1 and waits for lock:0" in words
    assert table.redis.hget(KEYS.request(first), "state") == "waiting"

    table.ends("p1")

    assert table.redis.hget(KEYS.request(first), "state") == "held"


@pytest.mark.parametrize("change", ["released", "gone", "expired", "granted"])
def test_a_verdict_falls_where_a_link_has_gone_meanwhile(table: Table, change: str):
    first, second = circle(table, 2)
    read = table.graph(first, 100)

    if change == "released":
        table.ends("p0")
    elif change == "gone":
        table.step(GiveBack(requests=[first]), [KEYS.head])
    elif change == "expired":
        table.redis.delete(KEYS.holder("lock:0"))
    else:
        table.redis.delete(KEYS.request(table.held["p0"][0]), KEYS.holder("lock:0"))
        table.asks("p0", "x lock:other")

    assert judged(table, read, first) == 0
    assert all("deadlock" not in word for request in (first, second) for word in table.told(request))


def judged(table: Table, read: GraphReply | None, request: str) -> bool:
    assert read is not None
    found = graph_of(read).deadlock(request)
    assert found
    step = Victim(request=found.victim, verdict="deadlock []", links=found.proof)
    return table.step(step, [KEYS.head])


@pytest.mark.parametrize("first", ["p1", "p2"])
def test_a_verdict_falls_where_one_of_several_holders_has_given_back_enough(table: Table, first: str):
    table.redis.hset(KEYS.capacities, "resource:gpu", 2)
    table.asks("p0", "x lock:a")
    table.asks("p1", "1/0 resource:gpu")
    table.asks("p2", "1/0 resource:gpu")
    table.asks("p9", "x lock:z")
    wanting = table.asks("p0", "1/0 resource:gpu", "x lock:z")
    table.asks("p1", "x lock:a")
    table.asks("p2", "x lock:a")
    read = table.graph(wanting, 100)

    table.ends(first)

    assert judged(table, read, wanting) == 0


def test_a_verdict_falls_where_who_came_before_comes_after_by_now(table: Table):
    table.asks("p2", "x lock:b")
    table.asks("p3", "x lock:a")
    before = table.asks("p1", "x lock:a", "x lock:b")
    second = table.asks("p2", "x lock:a")
    table.ends("p3")
    read = table.graph(second, 100)

    table.asks("p4", "x lock:a")
    table.redis.zadd(KEYS.queue("lock:a"), {before: 1e17})

    assert judged(table, read, second) == 0


def test_a_graph_that_is_too_large_to_read_raises_no_alarm(table: Table):
    waiting = circle(table, 10)
    part, whole = (table.graph(waiting[0], most) for most in (5, 100))

    assert part
    assert whole
    assert len(part["requests"]) < len(whole["requests"])
    assert graph_of(part).deadlock(waiting[0]) is None
    with pytest.raises(DeadlockError):
        Detector(table.step, KEYS).look(waiting[-1])


def test_a_waiter_that_holds_nothing_does_not_search_for_a_deadlock(table: Table):
    table.asks("p0", "x lock:a")
    request = table.asks("p1", "x lock:a")

    assert table.graph(request, 100) is None


NAMES = {"lock:a": "x", "lock:b": "x", "lock:c": "s", "resource:gpu": "n", "slot:repo": "n"}
CAPACITY = 3


def any_wants(random: Random) -> list[str]:
    wants = []
    for name in random.sample(sorted(NAMES), random.randint(1, 2)):
        mode = random.choice("xs") if NAMES[name] == "s" else NAMES[name]
        declared = CAPACITY if name.startswith("slot") else 0
        wants.append(f"{random.randint(1, CAPACITY)}/{declared} {name}" if mode == "n" else f"{mode} {name}")
    return wants


@pytest.mark.parametrize("seed", range(150))
def test_those_remain_waiting_whom_the_graph_says_to_be_stuck(table: Table, seed: int):
    """The steps and the graph agree: those remain who wait when all others give everything back."""
    random = Random(seed)
    table.redis.hset(KEYS.capacities, "resource:gpu", CAPACITY)
    for _ in range(random.randint(4, 16)):
        party = f"p{random.randrange(8)}"
        if party not in table.waiting:
            table.asks(party, *any_wants(random), priority=random.choice((0, 0, 0, 1)))
    waiting = dict(table.waiting)
    holding = {party for party in waiting if table.held.get(party)}
    reads = {p: table.graph(waiting[p], 1000) for p in holding}

    while able := table.held.keys() - table.waiting.keys():
        for party in sorted(able):
            table.ends(party)

    for party, read in reads.items():
        graph = graph_of(read)
        reached = {request.party for request in graph.requests.values() if request.waiting}
        assert graph.stuck() == table.waiting.keys() & reached
        assert not graph.deadlock(waiting[party]) or party in table.waiting, "a false alarm"
    alarms = [p for p, read in reads.items() if graph_of(read).deadlock(waiting[p])]
    assert bool(alarms) == bool(table.waiting.keys() & holding), "missed, or false"


def test_a_waiting_thread_is_told_to_give_way_by_another_that_looks(table: Table, locks: LockManager):
    ready, go = threading.Event(), threading.Event()

    def work() -> None:
        with locks.acquire("y", ttl=TTL):
            ready.set()
            go.wait()
            locks.acquire("x", ttl=TTL, wait=LONG)

    table.asks("p1", "x lock:x")
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        ready.wait()
        request = table.asks("p1", "x lock:y")
        go.set()
        until(lambda: table.redis.zcard(KEYS.queue("lock:x")))
        for _ in range(2):
            assert table.looks(request) is None

        with pytest.raises(DeadlockError):
            working.result(60)


@pytest.mark.parametrize("owners", [("", ""), ("deploy", "migrate")])
def test_a_thread_that_waits_for_itself_is_told_so(locks: LockManager, owners: tuple[str, str]):
    first, second = ({"owner": owner} if owner else {} for owner in owners)
    with locks.acquire("n", ttl=TTL, **first), pytest.raises(DeadlockError, match="it waits for itself: "):
        locks.acquire("n", ttl=TTL, wait=LONG, **second)


def test_a_thread_that_waits_for_one_that_goes_on_is_no_victim(locks: LockManager):
    with locks.acquire("other", ttl=TTL), ThreadPoolExecutor(1) as pool:
        held = pool.submit(locks.acquire, "n", ttl=TTL).result()

        with pytest.raises(LockTimeout):
            locks.acquire("n", ttl=TTL, wait=timedelta(seconds=2.5))

        held.release()


def test_a_waiter_that_only_blocks_a_queue_gives_way(table: Table):
    """p1 holds nothing: it wants a and b at once, and comes before p2 at a, which would be free."""
    table.asks("p2", "x lock:b")
    table.asks("p3", "x lock:a")
    table.asks("p1", "x lock:a", "x lock:b")
    second = table.asks("p2", "x lock:a")
    assert table.looks(second) is None
    table.ends("p3")

    table.looks(second)

    assert verdict(table.told(table.waiting["p1"])[0])
    assert table.redis.hget(KEYS.request(second), "state") == "held", "in the same step"


def test_a_long_queue_for_one_lock_is_not_read(table: Table):
    table.asks("p1", "x lock:a")
    table.asks("p2", "x lock:b")
    for i in range(100, 130):
        table.asks(f"p{i}", "x lock:a")
        table.asks(f"p{i + 100}", "x lock:b")
    first = table.asks("p1", "x lock:b")

    second = table.asks("p2", "x lock:a")

    read = table.graph(first, 1000)
    assert {request["party"] for request in read["requests"]} == {"p1", "p2"}
    assert isinstance(table.looks(second), DeadlockError)


def test_two_threads_and_a_process_that_wait_for_each_other_go_on_by_themselves(
    locks: LockManager, redis_url: str
):
    fork = multiprocessing.get_context("fork")
    ready, ends = fork.Barrier(3), fork.Queue()

    def work(locks: LockManager, i: int) -> None:
        with locks.acquire(f"n{i}", ttl=TTL, wait=LONG):
            ready.wait()
            try:
                with locks.acquire(f"n{(i + 1) % 3}", ttl=TTL, wait=LONG):
                    ends.put("done")
            except DeadlockError as error:
                ends.put(f"gave way, one of {len(error.cycle)}")

    def in_a_process() -> None:
        with connect(redis_url, Profile.WORKER) as client:
            own = LockManager(client, "test")
            work(own, 0)
            own.close()

    process = fork.Process(target=in_a_process)
    process.start()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda i: work(locks, i), (1, 2)))

    assert sorted(ends.get(timeout=60) for _ in range(3)) == ["done", "done", "gave way, one of 3"]
    process.join(60)
    assert process.exitcode == 0
