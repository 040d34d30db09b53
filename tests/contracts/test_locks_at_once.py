"""The shorter path of a lock that nobody else wants: it leaves the same in Redis as the full steps."""

from __future__ import annotations

from datetime import timedelta

import pytest
import redis

from coordination.backend.steps.lock import Held
from coordination.errors import StaleFence
from coordination.locks import Lock, LockManager
from tests.lock_requests import ask

ONCE = timedelta(0)
ONLY_OF_QUEUES = {"rank", "arrived", "priority"}


@pytest.fixture
def locks(locks: LockManager) -> LockManager:
    locks.acquire("the first of all").release()  # the epoch begins with it
    return locks


def at_once(client: redis.Redis, lock: Lock) -> bool:
    """Return whether it was granted on the fast path, without queues."""
    return not client.hexists(f"test:lock-request:{lock.token}", "rank")


def seen(client: redis.Redis, token: str) -> dict[str, object]:
    """The content of Redis, without the request's id and times."""
    found: dict[str, object] = {}
    for key in client.scan_iter():
        if key.startswith("test:lock-done:"):  # of releases before
            continue
        kind, name = client.type(key), key.replace(token, "ID")
        if kind == "hash":
            record = client.hgetall(key)
            found[name] = {
                field: value
                for field, value in record.items()
                if field not in {"fence", "since", *ONLY_OF_QUEUES}
            }
        elif kind == "set":
            found[name] = {member.replace(token, "ID") for member in client.smembers(key)}
        else:
            found[name] = client.ttl(key) > 0
    return found


def asked_again(client: redis.Redis, lock: Lock) -> None:
    """As by one who has waited: it has a rank, and is granted the lock in all its steps."""
    owner = client.hgetall(f"test:lock-request:{lock.token}")
    lock.release()
    described = {field: owner[field] for field in ("host", "pid", "started", "thread", "label")}
    answer = ask(
        client,
        lock.token,
        "x lock:x",
        ttl_ms=10_000,
        place_ms=3000,
        rank="5",
        party=owner["party"],
        **described,
    )
    assert isinstance(answer, Held)


def test_both_ways_leave_the_same(locks: LockManager, client: redis.Redis):
    lock = locks.acquire("x", owner="me", keep=False)
    assert at_once(client, lock)
    left = seen(client, lock.token)

    asked_again(client, lock)
    assert not at_once(client, lock)
    assert seen(client, lock.token) == left


def test_a_guarded_lock_raises_its_guard(locks: LockManager, client: redis.Redis):
    guard = locks.guard("x")
    old = locks.acquire("x")
    assert not at_once(client, old)
    old.release()
    locks.acquire("x").release()

    with pytest.raises(StaleFence, match="granted again since"):
        guard.check(old.fence)


def test_an_epoch_begins_before_the_first_lock_is_had_at_once(locks: LockManager, client: redis.Redis):
    client.flushall()
    first, second = locks.acquire("x"), locks.acquire("y")

    assert (at_once(client, first), at_once(client, second)) == (False, True)
    assert first.epoch == second.epoch == int(client.get("test:lock-epoch"))
