"""Contexts of the cache: visibility, freshness, limits and processes that write at the same time."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
import redis

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.backend.steps.cache import Delete, Hide, Put
from coordination.cache.contexts import Cache, Context, SingleFlight
from coordination.cache.entries import NoRoom, Store
from coordination.cache.local import CONTEXTS, FRESH_FOR, Local
from coordination.cache.names import Limits, Scope, of_run
from coordination.errors import UsageError
from coordination.runs.store import RunStore
from tests.cache_model import OVERHEAD, VALUE_OVERHEAD
from tests.waiting import until

KEYS = Keys("test").cache
Make = Callable[..., Cache]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1e-9  # no two looks are at the same time
        return self.now

    def pass_(self, time: timedelta) -> None:
        self.now += time.total_seconds()


@pytest.fixture
def make(redis_url: str) -> Iterator[Make]:
    made: list[Cache] = []

    def build(clock: Callable[[], float] | None = None, **limits: object) -> Cache:
        client = connect(redis_url, Profile.COMMAND)
        made.append(Cache(client, "test", Limits(**limits), Local(clock=clock or Clock())))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for cache in made:
        cache.close()
        cache.redis.close()


@pytest.fixture
def cache(make: Make) -> Cache:
    return make()


@pytest.fixture
def todo(cache: Cache) -> Context:
    return cache.at("P", "R", "T1")


def fact(client: redis.Redis, name: str) -> int:
    return int(client.hget(KEYS.facts, name) or 0)


def test_a_child_sees_the_values_of_its_parents_and_changes_none_of_them(cache: Cache, todo: Context):
    ecosystem, plan, other = cache.at(), cache.at("P"), cache.at("P", "R0", "T1")
    ecosystem.set("url", "http://x")
    plan.set("level", {"a": [1, None, "ü"]})

    assert (todo.get("url"), todo.get("level")) == ("http://x", {"a": [1, None, "ü"]})

    todo.set("url", "http://y")
    assert [one.get("url") for one in (todo, plan, ecosystem, other)] == ["http://y", *["http://x"] * 3]
    retried = cache.at("P", ["R2", "R"], "T1")
    assert retried.get("url") == "http://y", "a retry sees the values of the run before"
    retried.set("url", "http://z")
    assert todo.get("url") == "http://y"


def test_a_todo_writes_to_its_run_or_for_itself(cache: Cache, todo: Context):
    sibling, run = cache.at("P", "R", "T2"), cache.at("P", "R")
    todo.set("shared", 1)
    todo.set("own", 2, scope=Scope.TODO)

    seen = [(one.get("shared"), one.get("own")) for one in (todo, sibling, run)]
    assert seen == [(1, 2), (1, None), (1, None)]
    assert todo.get("own", scope=Scope.RUN) is None
    assert {kept.key: kept.scope for kept in todo.list()} == {"own": "todo", "shared": "run"}


def test_what_is_deleted_in_a_child_is_hidden_there_and_stays_where_it_is(cache: Cache, todo: Context):
    cache.at().set("build.a", 1)
    cache.at().set("build.b", 2)
    cache.at().set("test", 3)
    todo.set("build.c", 4)

    assert todo.delete("build.*") == 3
    assert [kept.key for kept in todo.list()] == ["test"]
    assert todo.get("build.a", "gone") == "gone"
    assert [kept.key for kept in cache.at().list("build.*")] == ["build.a", "build.b"]
    assert todo.delete("build.a", "build.c") == 0

    todo.set("build.a", 5)
    assert (todo.get("build.a"), cache.at().get("build.a")) == (5, 1)


def test_patterns_are_found_without_going_through_the_keyspace(cache: Cache, client: redis.Redis):
    for number in range(1200):
        cache.at().set(f"part-{number}", number)
    client.config_resetstat()

    assert cache.at("P").delete("part-1*") == 311
    assert len(list(cache.at().list("part-?"))) == 10

    assert not {"cmdstat_keys", "cmdstat_scan"} & set(client.info("commandstats"))


KEY, PATTERN, VALUE, TTL = (
    ["", "a\nb", "a\0b", " a", "k" * 256, "a*", "a[0]", "a?", None, 7, "\ud800"],
    ["", "[a", "a]", "[]", "a\nb", "*" * 300],
    [float("nan"), {1, 2}, b"raw", object(), "x" * 2000],
    [timedelta(0), timedelta(seconds=-1), timedelta(days=400), 60],
)
REFUSED: list[tuple[Callable[[Context], object], str | None]] = [
    *((lambda todo, key=key: todo.set(key, 1), None) for key in KEY),
    *((lambda todo, key=key: todo.get(key), None) for key in KEY),
    *((lambda todo, pattern=pattern: list(todo.list(pattern)), None) for pattern in PATTERN),
    *((lambda todo, value=value: todo.set("a", value), None) for value in VALUE),
    *((lambda todo, ttl=ttl: todo.set("a", 1, ttl), "ttl") for ttl in TTL),
]


@pytest.mark.parametrize(("call", "words"), REFUSED, ids=range(len(REFUSED)))
def test_invalid_input_is_refused_before_anything_is_written(
    make: Make, client: redis.Redis, call: Callable[[Context], object], words: str | None
):
    with pytest.raises(UsageError, match=words):
        call(make(value_bytes=1000).at("P", "R", "T1"))
    assert not client.keys(f"{KEYS.head}cache-*")


def test_a_scope_that_is_not_meant_here_is_refused(cache: Cache):
    with pytest.raises(UsageError, match="there is no context of scope run here"):
        cache.at("P").set("a", 1, scope=Scope.RUN)
    with pytest.raises(UsageError, match="is not a context"):
        cache.at("a plan")


def test_a_write_of_another_process_is_seen_when_what_was_read_is_no_longer_fresh(make: Make):
    clock = Clock()
    mine, theirs = make(clock).at("P", "R"), make().at("P", "R")
    outer = make().at("P")
    outer.set("c", 1)
    for key in "ad":
        mine.set(key, 1)
    assert [mine.get(key) for key in "acd"] == [1, 1, 1]
    for key in "abc":
        theirs.set(key, 2)

    assert [mine.get("a"), mine.get("c")] == [1, 1]
    clock.pass_(FRESH_FOR + timedelta(seconds=0.01))
    assert [mine.get(key) for key in "abc"] == [2, 2, 2], "an inner value comes before an outer one"
    assert mine.get("d") == 1
    theirs.delete("a")
    clock.pass_(FRESH_FOR / 2)
    mine.get("another")
    assert mine.get("a") is None, "a change that one key sees is seen by all of its context"


def test_a_late_answer_does_not_undo_a_write_of_this_process(cache: Cache, todo: Context):
    todo.set("a", 1)
    asked_at = cache.local.clock()
    answer = cache.entries.get("a", todo.chain)
    todo.set("a", 2)
    cache.local.remember("a", todo.chain, answer, asked_at)

    assert todo.get("a") == 2


def test_a_value_ends_with_its_ttl_in_process_and_in_redis(make: Make, client: redis.Redis):
    context = make(time.monotonic).at()
    context.set("a", 1, timedelta(seconds=2))
    assert context.get("a") == 1
    until(lambda: context.get("a") is None)

    cache = make()
    cache.at().set("b", 1)
    for number in range(30):
        cache.at("P", f"R{number}").set("a", number, timedelta(milliseconds=20))
    until(cache.entries.expire)
    until(lambda: not cache.entries.expire() and client.zcard(KEYS.expiry) == 1)
    assert cache.at().get("b") == 1
    assert client.zrange(KEYS.contexts, 0, -1) == ["ecosystem"]


def test_what_a_caller_does_to_a_value_is_not_seen_by_the_next(todo: Context):
    todo.set("a", [1])
    todo.get("a").append(2)
    todo.get("a").append(3)

    assert todo.get("a") == [1]


def test_this_process_keeps_no_more_than_it_may(client: redis.Redis):
    local = Local(max_bytes=5000, clock=Clock())
    cache = Cache(client, "test", local=local)
    for number in range(50):
        cache.at().set(f"k{number}", "x" * 300)
        assert cache.at().get(f"k{number}")
        assert local.bytes <= 5000
    assert cache.at().get("k49") == "x" * 300
    assert local.take_hits() == 1

    cache.at().set("a", 1)
    for number in range(CONTEXTS + 10):
        local.invalidate(f"run/R{number}", ["a"])
        if number > CONTEXTS - 5:
            assert cache.at("P", f"R{number}").get("a") == 1
    cache.close()


def test_any_number_of_threads_read_and_write_one_cache(make: Make):
    cache = make(time.monotonic)
    todos = [cache.at("P", "R", f"T{number}") for number in range(6)]

    def work(todo: Context) -> None:
        for number in range(150):
            todo.set("mine", number, scope=Scope.TODO)
            todo.set(f"k{number % 5}", "x" * number)
            assert todo.get("mine") == number  # nobody else writes it
            assert set(todo.get(f"k{number % 7}", "")) <= {"x"}

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, todos))
    assert cache.stats().entries == 6 + 5


def test_hits_of_each_layer_and_misses_are_counted(make: Make, client: redis.Redis):
    cache = make(Clock())
    context = cache.at()
    context.set("a", 1)
    for _ in range(4):
        context.get("a")
    context.get("b")

    stats = cache.stats()
    assert (stats.hits, stats.local_hits, stats.misses, stats.hit_rate) == (4, 3, 1, 0.8)
    assert (stats.entries, stats.values, stats.contexts, stats.writes) == (1, 1, 1, 1)
    assert stats.bytes == fact(client, "bytes") > 0


def test_a_read_costs_a_round_trip_or_none_and_a_write_one(make: Make, client: redis.Redis):
    todo = make(time.monotonic).at("P", "R", "T")
    frozen = make(Clock()).at("P", "R", "T")
    todo.set("a", 1)
    todo.get("a")
    client.config_resetstat()

    for operation, trips in (
        (lambda: todo.set("b", 2), 1),
        (lambda: todo.get("none"), 1),
        (lambda: [frozen.get("a") for _ in range(50)], 1),
        (lambda: frozen.get_or_compute("a", lambda: 3), 0),
    ):
        before = calls(client)
        operation()
        assert calls(client) - before == trips


def calls(client: redis.Redis) -> int:
    return int(client.info("commandstats").get("cmdstat_fcall", {"calls": 0})["calls"])


def test_equal_values_are_kept_once_whoever_put_them(cache: Cache, client: redis.Redis):
    cache.at().set("a", "x" * 10_000)
    cache.at("P").set("b", "x" * 10_000)
    store = Store(client, "test", "blobs")
    store.put("c", b'"' + b"x" * 10_000 + b'"')

    assert list(client.hvals(KEYS.refs)) == ["3"]
    assert fact(client, "bytes") < 12_000
    assert store.get("c") == b'"' + b"x" * 10_000 + b'"'
    assert store.delete("c")
    assert [cache.at().delete("a"), cache.at("P").get("b")] == [1, "x" * 10_000]
    assert cache.at("P").delete("b") == 1
    kept = (KEYS.values, KEYS.refs, KEYS.order, KEYS.expiry, KEYS.contexts, KEYS.generations, KEYS.uses)
    assert not client.exists(*kept)
    assert fact(client, "bytes") == 0
    store.close()


def test_a_value_that_can_never_fit_evicts_nothing(make: Make, client: redis.Redis):
    cache = make(max_bytes=20_000)
    for number in range(20):
        cache.at().set(f"k{number}", number)
    cache.at("P").delete(*(f"k{number}" for number in range(10)))  # these entries are never evicted
    before = fact(client, "bytes"), fact(client, "evictions")

    for size in (20_000, 16_500):
        with pytest.raises(NoRoom, match="cache_max_bytes"):
            cache.at().set("k0", "x" * size)

    assert (fact(client, "bytes"), fact(client, "evictions")) == before
    assert cache.at().get("k0") == 0
    cache.at().set("k0", "x" * 13_000)
    assert fact(client, "evictions") > 0


def test_a_step_evicts_so_much_and_no_more(make: Make, client: redis.Redis):
    cache = make(max_bytes=1_000_000, value_bytes=1_000_000)
    for number in range(1500):
        cache.entries.put("ecosystem", f"k{number}", b"%d" % number)
    before = fact(client, "evictions")
    step = Put(
        context="ecosystem", key="large", digest="digest", value=b"x" * 900_000, ttl_ms=1000, policy="lru",
        max_bytes=1_000_000, mode="",
    )  # fmt: skip

    cache.entries.put("ecosystem", "large", b"former")
    client.config_resetstat()
    assert cache.entries.connection(step, [KEYS.head]).word == "more"
    assert fact(client, "evictions") == before + 100
    lookups = client.info("commandstats")["cmdstat_hexists"]["calls"]
    assert lookups <= 2, "the growth is not computed anew after each eviction"
    assert cache.entries.get("large", ("ecosystem",)).value == b"former"

    cache.at().set("large", "x" * 900_000)
    assert cache.at().get("large") == "x" * 900_000
    assert fact(client, "bytes") <= 1_000_000


def test_keys_are_hidden_also_where_many_entries_must_be_evicted_first(make: Make, client: redis.Redis):
    large = make(max_bytes=2_000_000)
    for number in range(1500):
        large.entries.put("ecosystem", f"k{number}", b"%d" % number)
    small = make(max_bytes=300_000)

    assert small.at("P").delete("k1499", "none", "k1498") == 2

    assert fact(client, "bytes") <= 300_000
    assert [large.at("P").get(key) for key in ("k1499", "k1498", "k1497")] == [None, None, 1497]
    assert large.at().get("k1499") == 1499


def test_a_key_keeps_its_value_until_there_is_room_to_hide_it(make: Make, client: redis.Redis):
    large = make(max_bytes=2_000_000)
    for number in range(1500):
        large.entries.put("ecosystem", f"k{number}", b"%d" % number)
    large.entries.put("plan/P", "k1499", b"inner")
    limits = {"ttl_ms": 1000, "policy": "lru", "max_bytes": 200_000}
    hide = Hide(context="plan/P", key="k1499", mode="", **limits)
    delete = Delete(**limits, contexts=("plan/P", "ecosystem"), keys=("k1499",))

    assert large.entries.connection(hide, [KEYS.head]) == "more"
    assert large.entries.connection(delete, [KEYS.head]).handled == 0
    assert large.entries.get("k1499", ("plan/P",)).value == b"inner"
    small = make(max_bytes=200_000)
    assert small.at("P").delete("k1499") == 1
    assert large.at("P").get("k1499") is None


def test_a_deleted_key_counts_although_its_values_were_evicted_meanwhile(make: Make):
    large = make(max_bytes=2_000_000)
    for context in ("ecosystem", "plan/P"):
        large.entries.put(context, "key", b"value")
    for number in range(500):
        large.entries.put("ecosystem", f"k{number}", b"%d" % number)

    assert make(max_bytes=5000).at("P").delete("key") == 1


def test_a_run_takes_its_contexts_with_it(cache: Cache, client: redis.Redis):
    for number in range(1300):
        cache.entries.put("run/R", f"k{number}", b"1")
    cache.at("P", "R", "T1").set("own", 1, scope=Scope.TODO)
    cache.at("P", "R2").set("a", 1)

    RunStore(client, "test").drop_contexts(of_run("R", ["T1", "T2"]))

    assert client.zrange(KEYS.contexts, 0, -1) == ["run/R2"]


def test_one_of_many_callers_computes_a_value_and_a_failure_is_not_kept(make: Make):
    calls, caches = Counter[str](), [make() for _ in range(4)]
    together = Barrier(4)
    with pytest.raises(ZeroDivisionError):
        caches[0].at("P").get_or_compute("a", lambda: 1 // 0)

    def want(cache: Cache) -> object:
        together.wait()
        return cache.at("P").get_or_compute(
            "a", lambda: calls.update(["a"]) or {"n": 1}, timedelta(minutes=1)
        )

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(want, caches)) == [{"n": 1}] * 4
    assert calls["a"] == 1
    assert caches[0].at("P").get("a") == {"n": 1}


def test_the_next_one_computes_where_the_one_that_did_was_killed(redis_url: str, client: redis.Redis):
    def forever() -> bytes:
        os.write(computing, b".")
        time.sleep(600)
        return b""

    begun, computing = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            own = connect(redis_url, Profile.COMMAND)
            SingleFlight(own, "test", timedelta(seconds=1)).one("a", lambda: None, forever)
        finally:
            os._exit(1)
    assert os.read(begun, 1) == b"."
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    flight = SingleFlight(client, "test")

    assert flight.one("a", lambda: None, lambda: b"mine") == b"mine"
    flight.close()


def test_counts_are_exact_whenever_a_writer_is_killed(redis_url: str, client: redis.Redis, cache: Cache):
    for _ in range(3):
        before = fact(client, "puts")
        if (pid := os.fork()) == 0:
            try:
                write_for_ever(redis_url)
            finally:
                os._exit(1)
        try:
            until(lambda before=before: fact(client, "puts") > before + 100)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        held = list(cache.walk.entries("run/R"))
        digests = Counter(one.digest for one in held)
        assert client.hgetall(KEYS.refs) == {name: str(n) for name, n in digests.items()}
        sizes = {one.digest: one.size for one in held}
        assert {name: len(value) for name, value in client.hgetall(KEYS.values).items()} == sizes
        names = sum(len(f"run/R\n{one.key}") + OVERHEAD for one in held)
        assert fact(client, "bytes") == names + sum(sizes.values()) + VALUE_OVERHEAD * len(sizes)


def write_for_ever(redis_url: str) -> None:
    """Until the process is killed."""
    context = Cache(connect(redis_url, Profile.COMMAND), "test").at("P", "R")
    for number in itertools.count():
        context.set(f"k{number % 50}", "x" * (number % 7 * 100))
        if number % 3 == 0:
            context.delete(f"k{number % 40}")
