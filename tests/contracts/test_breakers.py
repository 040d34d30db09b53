"""Circuit breakers: the words of their steps, and scripts that call through them."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from redis import Redis

from coordination.backend.step_connection import StepCaller
from coordination.backend.steps import Step
from coordination.backend.steps.breaker import Access, Allow, Breakers, Record, Reset
from coordination.breakers.manager import BreakerManager
from coordination.breakers.records import BreakerState, Policy
from coordination.errors import BreakerOpen, NotFound, UsageError
from coordination.runs.store import RunStore

DB = "resource:db"
POLICY = Policy(failures=3, window=timedelta(seconds=300), open_for=timedelta(seconds=60))
WINDOW_MS = 300_000
BY_NOBODY: Any = {"host": "", "pid": 0, "started": ""}

R = TypeVar("R")


class Steps:
    """The steps, as a script's manager and the runs take them."""

    def __init__(self, store: RunStore) -> None:
        self.redis = store.redis
        self.keys = store.keys.breakers
        self._scripts = StepCaller(store.redis)
        self._ids = (f"call-{n}" for n in itertools.count())

    def call(self, step: Step[R]) -> R:
        return self._scripts(step, [self.keys.head])

    def now_ms(self) -> int:
        seconds, micros = self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def ask(self, who: str = "", *, name: str = DB, ttl_ms: int = 60_000) -> Access:
        who = who or next(self._ids)
        return self.call(Allow(breaker=name, who=who, by=f"in words {who}", ttl_ms=ttl_ms, **BY_NOBODY))

    def fail(
        self, who: str = "", *, name: str = DB, why: str = "exit code 7", policy: Policy = POLICY
    ) -> str:
        failures, window_ms, open_ms = policy.figures
        return self.call(
            Record(
                breaker=name, who=who or next(self._ids), outcome="failed", why=why,
                failures=failures, window_ms=window_ms, open_ms=open_ms,
            )
        )  # fmt: skip

    def reset(self) -> str:
        return self.call(Reset(breaker=DB, actor="ann"))

    def open(self) -> None:
        while self.fail() != "open":
            pass

    def is_over(self, name: str = DB) -> None:
        """The time for which it is open."""
        self.redis.hset(self.keys.of(name), "until", self.now_ms() - 1)

    def failed_ago(self, *ago_ms: int) -> int:
        """Failures planted, oldest first; returns the moment that they are counted from."""
        now = self.now_ms()
        self.redis.rpush(self.keys.failures(DB), *(f"{now - ago} somebody" for ago in ago_ms))
        self.redis.hset(self.keys.all, DB, "closed")
        return now

    def nothing_left(self) -> bool:
        return not [key for key in self.redis.scan_iter() if "breaker" in key and not key.endswith("resets")]


@pytest.fixture
def steps(store: RunStore) -> Steps:
    return Steps(store)


@pytest.fixture
def manager(client: Any) -> Iterator[BreakerManager]:
    made = BreakerManager(client, "test", policy=POLICY)
    yield made
    made.close()


@pytest.fixture
def broken(manager: BreakerManager) -> Callable[[], None]:
    """A call that fails."""

    def call() -> None:
        with pytest.raises(RuntimeError), manager.call(DB):
            raise RuntimeError("no connection")

    return call


def test_a_breaker_opens_at_the_last_allowed_failure_and_lets_nobody_through(steps: Steps):
    assert [steps.fail(), steps.fail(), steps.ask()] == ["closed", "closed", Access("closed")]

    before = steps.now_ms()
    assert steps.fail(why="exit code 7\nand more") == "open"

    state, ends, why, _ = steps.ask()
    assert state == "open"
    assert before + 60_000 <= int(ends) <= steps.now_ms() + 60_000
    at = datetime.fromtimestamp(int(ends) / 1000, UTC)
    assert why == (
        f"resource db: its circuit breaker is open after 3 failures in 300 s, last: exit code 7; probe at "
        f"{at:%Y-%m-%dT%H:%M:%SZ}"
    )
    assert steps.ask(name="resource:other") == Access("closed")


@pytest.mark.parametrize("off_ms", range(-3, 4))
def test_the_window_is_exact_at_its_edge(steps: Steps, off_ms: int):
    counted_from = steps.failed_ago(WINDOW_MS + off_ms, 1000)
    first = counted_from - WINDOW_MS - off_ms

    word = steps.fail()

    at = steps.redis.hget(steps.keys.of(DB), "failed_at")
    assert word == ("open" if int(at) - first < WINDOW_MS else "closed")


def test_nothing_is_left_of_a_closed_breaker_and_without_a_limit_none_opens(steps: Steps):
    steps.fail()
    for key in (steps.keys.failures(DB), steps.keys.of(DB)):
        assert 0 < steps.redis.pttl(key) <= WINDOW_MS
        steps.redis.delete(key)  # as it expires
    assert not steps.call(Breakers()).breakers
    assert steps.ask() == Access("closed")
    assert steps.nothing_left()

    assert {steps.fail(policy=Policy(failures=0)) for _ in range(20)} == {"closed"}
    assert steps.nothing_left()


def test_one_probe_asks_after_its_time_and_its_failure_opens_it_again(steps: Steps):
    steps.open()
    since = steps.redis.hget(steps.keys.of(DB), "since")
    steps.is_over()

    assert steps.ask("ann") == Access("probe")
    ends = steps.redis.hget(steps.keys.of(DB), "probe_until")
    words = "resource db: its circuit breaker is half-open, and in words ann probes it"
    assert steps.ask("bob") == Access("half-open", int(ends), words)
    assert steps.ask("ann") == Access("probe"), "asked again, since its answer was lost"

    before = steps.now_ms()
    assert [steps.fail("ann", why="exit code 8"), steps.fail("ann", why="sent twice")] == ["open", "open"]
    state, until_ms, why, _ = steps.ask()
    assert (state, int(until_ms) >= before + 60_000) == ("open", True)
    assert "last: exit code 8;" in why
    assert steps.redis.hget(steps.keys.of(DB), "since") == since


def test_a_reset_closes_it_and_is_noted_with_who_did_it(steps: Steps):
    steps.open()

    assert [steps.reset(), steps.reset()] == ["open", ""]

    assert steps.ask() == Access("closed")
    assert steps.nothing_left()
    ((_, noted),) = steps.redis.xrange(steps.keys.resets)
    assert noted == {"name": DB, "by": "ann", "state": "open", "why": "exit code 7"}


def test_what_an_error_says_is_kept_in_one_line_cut_between_characters(steps: Steps):
    for why in ("ä" * 1000, "\n", "x" * 299 + "€" * 9):
        steps.fail(why=why)
        kept = steps.redis.hget(steps.keys.of(DB), "why")
        assert len(kept.encode()) <= 310
        assert "\n" not in kept
        steps.reset()


MOMENTS = (
    *("2028-02-29T23:59:59", "2099-12-31T12:00:00", "2100-02-28T00:00:00"),
    *("2100-03-01T00:00:01", "2999-11-21T21:40:00"),
)


def test_the_moment_of_the_probe_is_a_date(steps: Steps):
    steps.open()
    for when in MOMENTS:
        moment = datetime.fromisoformat(f"{when}+00:00").timestamp() * 1000
        steps.redis.hset(steps.keys.of(DB), "until", int(moment))
        assert steps.ask()[2].endswith(f"; probe at {when}Z")


def test_a_script_calls_until_the_breaker_opens_and_learns_when_to_retry(manager: BreakerManager, broken):
    for _ in range(3):
        broken()

    with (
        pytest.raises(BreakerOpen, match="last: RuntimeError: no connection; probe at") as held_up,
        manager.call(DB),
    ):
        pytest.fail("it was called")
    (listed,) = manager.list()
    assert held_up.value.retry_at == listed.probe_at
    assert (listed.name, listed.state, listed.threshold, listed.behind) == (DB, BreakerState.OPEN, 3, 0)
    assert listed.reason == "3 failures in 300 s, last: RuntimeError: no connection"
    assert manager.stats() == {"closed": 0, "open": 1, "half-open": 0, "behind": 0}


def test_an_interrupted_probe_leaves_its_place_to_one_that_closes_it(manager: BreakerManager, broken, client):
    for _ in range(3):
        broken()
    client.hset("test:breaker:" + DB, "until", 0)
    (over,) = manager.list()
    assert (over.state, over.outlook) == (BreakerState.HALF_OPEN, "the next caller probes it")

    def interrupted() -> None:
        with manager.call(DB):
            (seen,) = manager.list()
            assert (seen.state, seen.probe.partition(" ")[0]) == (BreakerState.HALF_OPEN, "process")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    with manager.call(DB):
        pass

    assert manager.list() == ()


def test_a_probe_whose_time_is_over_is_not_named(manager: BreakerManager, broken, client):
    for _ in range(3):
        broken()
    client.hset("test:breaker:" + DB, "until", 0)
    assert manager.allow(DB, "of a process that dies", timedelta(minutes=1))
    (probed,) = manager.list()
    assert probed.probe
    client.hset("test:breaker:" + DB, "probe_until", 1)
    (over,) = manager.list()
    assert (over.state, over.outlook) == (BreakerState.HALF_OPEN, "the next caller probes it")


@pytest.mark.parametrize("swept", [False, True])
def test_the_next_call_is_the_probe_where_the_process_of_the_former_one_is_gone(
    manager: BreakerManager, broken, client, redis_url: str, swept: bool
):
    for _ in range(3):
        broken()
    client.hset("test:breaker:" + DB, "until", 0)
    begun = multiprocessing.get_context("fork").Event()

    def probe() -> None:
        with Redis.from_url(redis_url, decode_responses=True) as own, BreakerManager(own, "test").call(DB):
            begun.set()
            time.sleep(60)

    prober = multiprocessing.get_context("fork").Process(target=probe)
    prober.start()
    assert begun.wait(60)
    (probed,) = manager.list()
    assert probed.probe == f"process {prober.pid} on {socket.gethostname()}"
    with pytest.raises(BreakerOpen, match=f"process {prober.pid} on .* probes it"), manager.call(DB):
        pytest.fail("it was called")

    prober.kill()
    prober.join(60)

    (seen,) = manager.list()
    assert (seen.state, seen.outlook) == (BreakerState.HALF_OPEN, "the next caller probes it")
    if swept:
        client.zadd("test:breaker-behind:" + DB, {"run TODO-1": 1})
        assert manager.end_dead_probes() == (DB,)
        assert client.zrange("test:timers", 0, -1) == ["run TODO-1"], "it tries again now"
        assert manager.end_dead_probes() == ()
    with manager.call(DB):
        pass
    assert manager.list() == ()


GONE = json.dumps(
    {"probe": "the last one", "host": socket.gethostname(), "pid": os.getpid(), "started": "then"}
)


@pytest.mark.parametrize("stored", [{}, {"probe_process": GONE}], ids=["of itself", "after a newer version"])
def test_a_probe_that_an_earlier_version_began_keeps_its_time(
    steps: Steps, manager: BreakerManager, stored: dict[str, str]
):
    """An earlier version stores no process, and leaves that of the last probe."""
    steps.open()
    steps.is_over()
    assert steps.ask("a call") == Access("probe")
    steps.redis.hset(steps.keys.of(DB), mapping={"probe": "a call", **stored})

    (listed,) = manager.list()
    assert listed.probe == "in words a call"
    with pytest.raises(BreakerOpen, match="in words a call probes it"), manager.call(DB):
        pytest.fail("it was called")


def test_only_some_errors_count_and_a_closed_breaker_shows_how_many(manager: BreakerManager, broken):
    for _ in range(3):
        with pytest.raises(KeyError), manager.call(DB, counts=(OSError, TimeoutError)):
            raise KeyError("mine")
    assert manager.list() == ()

    broken()
    (listed,) = manager.list()
    assert (listed.state, listed.failures, listed.tripped) == (BreakerState.CLOSED, 1, False)
    assert (listed.reason, listed.outlook) == ("1 failure in 300 s, last: RuntimeError: no connection", "")


def test_a_bare_name_will_do_where_only_one_has_it(manager: BreakerManager, broken, client):
    with pytest.raises(NotFound, match="has no failures to reset"):
        manager.reset("db")
    broken()
    assert manager.reset("db", "ann").name == DB

    broken()
    with pytest.raises(RuntimeError), manager.call("repo:db"):
        raise RuntimeError
    with pytest.raises(UsageError, match="db is ambiguous: repo:db or resource:db"):
        manager.reset("db")
    with pytest.raises(NotFound, match="repo:api has no failures to reset"):
        manager.reset("repo:api")
    with pytest.raises(UsageError, match="is not a circuit breaker"):
        manager.reset("lock:db")
    assert [(reset.name, reset.by) for reset in manager.resets()] == [(DB, "ann")]


@pytest.mark.parametrize("name", ["a b", "lock:db", "resource:", "resource:a b", "repo:a\nb", "", None, 7])
def test_what_is_no_name_of_a_breaker_is_refused(manager: BreakerManager, name):
    with pytest.raises(UsageError, match="is not a circuit breaker"), manager.call(name):
        pytest.fail("it was called")


def test_among_eight_processes_there_is_one_probe_in_every_round(client: Any, redis_url: str):
    rounds, steps = 500, Steps(RunStore(client, "test"))
    for number in range(rounds):
        steps.fail(name=f"resource:r{number}", policy=Policy(failures=1))
        steps.is_over(f"resource:r{number}")
    processes = multiprocessing.get_context("fork")
    together, probed = processes.Barrier(8), processes.Queue()

    def ask() -> None:
        with Redis.from_url(redis_url, decode_responses=True) as own:
            step, who = StepCaller(own), f"process {os.getpid()}"
            mine = []
            for n in range(rounds):
                if n % 20 == 0:
                    together.wait()  # who was ahead comes first and is woken last
                call = Allow(breaker=f"resource:r{n}", who=who, by=who, ttl_ms=60_000, **BY_NOBODY)
                if step(call, ["test:"]) == Access("probe"):
                    mine.append(n)
        probed.put(mine)

    players = [processes.Process(target=ask) for _ in range(8)]
    for player in players:
        player.start()
    numbers = [probed.get(timeout=60) for _ in players]
    for player in players:
        player.join()

    assert sorted(n for some in numbers for n in some) == list(range(rounds))
    assert sum(map(bool, numbers)) > 1, "they did not meet"
