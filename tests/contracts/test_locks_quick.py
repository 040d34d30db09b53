"""The quick way of a lock that nobody else wants leaves in Redis what the full one does, and steps aside for everything else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis

from coordination.errors import LockTimeout, StaleFence
from coordination.locks import LockManager
from coordination.locks.quick import Quick
from tests.waiting import until

ONCE = timedelta(0)
ONLY_OF_QUEUES = {"rank", "arrived", "priority"}


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as made:
        yield made


@pytest.fixture
def locks(client: redis.Redis) -> Iterator[LockManager]:
    made = LockManager(client, "test")
    made.acquire("the first of all").release()  # the epoch begins with it, the full way
    yield made
    made.close()


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each of the two ways was gone."""
    done = {"acquire": 0, "release": 0}

    def counted(name: str):
        deed = getattr(Quick, name)

        def count(*args: object) -> object:
            answer = deed(*args)
            done[name] += bool(answer)
            return answer

        return count

    for name in done:
        monkeypatch.setattr(Quick, name, counted(name))
    return done


def the_full_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Quick, "acquire", lambda *_: None)
    monkeypatch.setattr(Quick, "release", lambda *_: False)


def seen(client: redis.Redis, token: str) -> dict[str, object]:
    """What is in Redis, with the request's id and moments left out."""
    found: dict[str, object] = {}
    for key in client.scan_iter():
        if key.startswith("test:lock-done:"):  # of releases before
            continue
        kind, name = client.type(key), key.replace(token, "ID")
        if kind == "hash":
            record = client.hgetall(key)
            found[name] = {
                field: value for field, value in record.items() if field not in {"fence", "since", *ONLY_OF_QUEUES}
            }
        elif kind == "set":
            found[name] = {member.replace(token, "ID") for member in client.smembers(key)}
        else:
            found[name] = client.ttl(key) > 0
    return found


def test_both_ways_leave_the_same(locks: LockManager, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, quickly):
    quick = locks.acquire("x", owner="me", keep=False)
    of_quick = seen(client, quick.token)
    quick.release()
    after_quick = seen(client, quick.token)
    assert quickly == {"acquire": 1, "release": 1}

    the_full_way(monkeypatch)
    full = locks.acquire("x", owner="me", keep=False)
    assert seen(client, full.token) == of_quick
    full.release()
    idle = {"test:lock-parties"}  # an owner without locks is left to the sweeper by the quick way
    assert seen(client, full.token).keys() | idle == after_quick.keys() | idle


def test_a_lock_of_one_way_is_given_back_by_the_other(locks: LockManager, client: redis.Redis, monkeypatch, quickly):
    quick = locks.acquire("x")
    assert quickly["acquire"] == 1
    the_full_way(monkeypatch)
    assert quick.renew()
    quick.release()
    assert not client.exists("test:lock:x")


def test_whoever_waits_is_handed_the_lock_by_its_release(locks: LockManager, client: redis.Redis, quickly):
    lock = locks.acquire("x")
    waiter = threading.Thread(target=lambda: locks.acquire("x").release())
    waiter.start()
    until(lambda: client.zcard("test:lock-queue:lock:x"))
    lock.release()
    waiter.join()

    assert quickly == {"acquire": 1, "release": 0}


def test_a_lock_that_is_held_shared_or_waited_for_is_not_had_quickly(locks: LockManager, client: redis.Redis, quickly):
    with locks.acquire("x", shared=True), pytest.raises(LockTimeout):
        locks.acquire("x", wait=ONCE)
    with locks.acquire("y"), pytest.raises(LockTimeout):
        locks.acquire("y", wait=ONCE)
    assert quickly == {"acquire": 1, "release": 1}


def test_a_guarded_lock_raises_its_guard(locks: LockManager, quickly):
    guard = locks.guard("x")
    old = locks.acquire("x")
    old.release()
    locks.acquire("x").release()

    with pytest.raises(StaleFence, match="granted to somebody else since"):
        guard.check(old.fence)
    assert quickly["acquire"] == 0


def test_an_epoch_begins_before_the_first_lock_is_had_quickly(locks: LockManager, client: redis.Redis, quickly):
    client.flushall()
    first, second = locks.acquire("x"), locks.acquire("y")

    assert quickly["acquire"] == 1
    assert first.epoch == second.epoch == int(client.get("test:lock-epoch"))
