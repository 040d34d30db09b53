"""Every key in Redis has its row with its type in the table of key_table.py, and every row has a key."""

from __future__ import annotations

import re

import pytest
import redis

from coordination.backend import key_table, keys
from coordination.backend.key_table import set_apart
from coordination.backend.steps.lock import Queued
from coordination.breakers.manager import BreakerManager
from coordination.breakers.records import Policy
from coordination.cache import Eviction
from coordination.cache import Limits as CacheLimits
from coordination.cache.contexts import Cache
from coordination.locks import LockManager
from coordination.messages import Limits, MessageBus
from tests.lock_requests import ask

ROW = re.compile(r"^\| `<ns>:(\S+)` +\| (\w+) ", re.MULTILINE)
REPO = "repo:billing"


def rows() -> list[tuple[re.Pattern[str], str]]:
    found = []
    for key, kind in ROW.findall(key_table.__doc__):
        name = re.escape(key).replace("<what>", "(lock|resource|slot):.+")
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
        assert isinstance(ask(client, waiter, "x lock:docs", party="their party"), Queued)
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


def test_the_type_that_each_key_must_have_is_that_of_its_row():
    table = re.findall(
        r"^\| `(<ns>:|…:)([^`]+)` +\| (zset|hash|set|string|list|stream) ", key_table.__doc__, re.MULTILINE
    )
    names = {
        ("run:r1:" if head == "…:" else "")
        + re.sub(r"<[^>]+>", "a:b c", name.replace("run:<id>", "run:r1")): kind
        for head, name, kind in table
        if name not in ("<what>", "<repos>:reply:<id>")
    }

    assert {name: key_table.type_of(name) for name in names} == names
    assert [key_table.type_of(f"{kind}:x") for kind in ("lock", "resource", "slot")] == ["string"] * 3
    assert key_table.type_of("apart:live") is None
    assert len(names) > 60


def test_a_key_of_another_type_is_set_apart_and_the_others_stay(client: redis.Redis):
    client.set("test:live", b"\xff")
    client.rpush("test:run:r1:state", "x")
    client.zadd("test:runs", {"r1": 1})
    client.set("test:own", "of somebody else")
    client.set("other:live", "x")

    done = set_apart(client, "test")

    assert sorted(done) == ["live", "run:r1:state"]
    assert {*client.scan_iter()} == {
        "test:apart:live", "test:apart:run:r1:state", "test:runs", "test:own", "other:live"
    }  # fmt: skip
    assert client.ttl("test:apart:live") > 0
    assert set_apart(client, "test") == []
