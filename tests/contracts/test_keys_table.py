"""Whatever locks and messages leave in Redis has its row in the table of keys.py, with its type; and no row is of nothing."""

from __future__ import annotations

import re

import pytest
import redis

from coordination.breakers.manager import BreakerManager
from coordination.breakers.policy import Policy
from coordination.cache import Eviction
from coordination.cache import Limits as CacheLimits
from coordination.cache.contexts import Cache
from coordination.locks import LockManager
from coordination.messages import Limits, MessageBus
from coordination.wire import keys
from coordination.wire.scripts import Scripts

ROW = re.compile(r"^\| `<ns>:(\S+)` +\| (\w+) ", re.MULTILINE)
REPO = "repo:billing"


def rows() -> list[tuple[re.Pattern[str], str]]:
    found = []
    for key, kind in ROW.findall(keys.__doc__):
        name = re.escape(key).replace("<what>", "(lock|resource|seat):.+")
        found.append((re.compile(re.sub(r"<[^>]+>", ".+", name)), kind))
    return found


def rows_of(*heads: str) -> set[str]:
    return {row.pattern for row, _ in rows() if row.pattern.replace("\\", "").startswith(heads)}


def in_the_table(client: redis.Redis) -> set[str]:
    """The rows of what is there."""
    found = set()
    for key in client.scan_iter():
        fitting = [(row, kind) for row, kind in rows() if row.fullmatch(key.removeprefix("test:"))]
        assert [kind for _, kind in fitting] == [client.type(key)], key
        found.add(fitting[0][0].pattern)
    return found


def test_every_key_of_locks_has_its_row(locks: LockManager, client: redis.Redis):
    locks.resources.declare({"gpu": 1})
    locks.guard("deploy").write("1", locks.acquire("deploy").fence)
    locks.resources.acquire("gpu")
    locks.break_(locks.breakable("deploy", force=True), "ann")
    docs = locks.acquire("docs")
    for waiter in ("next", "last"):
        place = [waiter, "x lock:docs", 60_000, 0, 60_000, "", "their party"]
        assert Scripts(client)("lock/acquire", ["test:"], place).startswith("waiting")
    docs.release()

    assert in_the_table(client) >= rows_of("lock-")


def test_every_key_of_messages_has_its_row(client: redis.Redis):
    bus = MessageBus(client, "test", limits=Limits(deliveries=1))
    bus.register(REPO)
    bus.subscribe(REPO, "deploys")
    for number in range(3):
        bus.send(REPO, "note", number, sequence=number)
    first = bus.take(REPO, "ann").messages[0]
    bus.nack(first, "no")
    bus.take(REPO, "ann")

    assert in_the_table(client) >= rows_of("inbox-", "recipients", "readers", "topic", "dead")


def test_every_key_of_the_cache_has_its_row(client: redis.Redis):
    cache = Cache(client, "test", CacheLimits(eviction=Eviction.LFU))
    cache.at("P", "R").set("a", 1)
    cache.close()

    assert in_the_table(client) >= rows_of("cache-")


def test_every_key_of_breakers_has_its_row(client: redis.Redis):
    breakers = BreakerManager(client, "test", policy=Policy(failures=2))
    for name in ("resource:gone", "resource:gone", "repo:api", "resource:db", "repo:api"):
        with pytest.raises(RuntimeError), breakers.call(name):
            raise RuntimeError
    breakers.reset("resource:gone")
    client.zadd(keys.Keys("test").breakers.behind("repo:api"), {"run todo": 1})  # as run/claim does

    assert in_the_table(client) >= rows_of("breaker")
