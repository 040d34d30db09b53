"""The list of locks with holders and waiters, and locks that are taken from their holders."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import redis

from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps import lock as steps
from coordination.backend.steps.lock import Answer, Break, Queued
from coordination.errors import Conflict, NotFound
from coordination.locks import LockManager, Owner
from coordination.locks.listing import Held
from coordination.processes import look, start_time
from tests.lock_requests import ask
from tests.waiting import until

KEYS = Keys("test").locks
LONG = timedelta(seconds=30)


@pytest.fixture
def manager(client: redis.Redis) -> Iterator[Callable[..., LockManager]]:
    """Managers of other processes."""
    made: list[LockManager] = []

    def make(*, host: str = "elsewhere", pid: int = 12, started: str = "then") -> LockManager:
        owner = Owner(host=host, pid=pid, started=started, thread=pid, label="night")
        made.append(LockManager(client, "test", owner=owner))
        return made[-1]

    yield make
    for one in made:
        one.close()


def take(locks: LockManager, name: str, *, force: bool = False) -> Held:
    found = locks.breakable(name, force=force)
    locks.break_(found, "ann")
    return found


def todo_asks(client: redis.Redis, member: str, want: str) -> Answer:
    """As a run does for a todo."""
    return ask(client, member, want, ttl_ms=0, kind="todo")


def test_a_held_lock_is_shown_with_its_holder_and_those_who_wait(locks: LockManager):
    with locks.acquire("deploy", owner="build", ttl=LONG) as lock, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(locks.acquire, "deploy", ttl=LONG, wait=LONG, owner="test", priority=3)
        (held,) = until(lambda: [h for h in locks.list() if h.waiters])

        (holder,), (waiter,) = held.holders, held.waiters
        assert (held.what, held.kind, held.name, held.epoch) == ("lock:deploy", "lock", "deploy", lock.epoch)
        assert (holder.id, holder.fence, holder.label) == (lock.token, lock.fence, "build")
        assert (holder.host, holder.pid, holder.alive) == (socket.gethostname(), os.getpid(), True)
        assert f"process {os.getpid()} on {socket.gethostname()}" in holder.who
        assert holder.ttl_left_s is not None
        assert 0 < holder.ttl_left_s <= 30
        assert holder.age_s >= 0
        assert holder.since is not None
        assert (waiter.label, waiter.priority) == ("test", 3)
        lock.release()
        waiting.result().release()

    assert locks.list() == ()


def test_amounts_are_shown_and_todos_among_the_waiters(locks: LockManager, client: redis.Redis):
    locks.resources.declare({"cpu": 1, "gpu": 4})

    with (
        locks.acquire("doc", shared=True),
        locks.acquire("doc", shared=True),
        locks.resources.acquire("gpu", 3),
        locks.resources.acquire("cpu"),
    ):
        assert isinstance(todo_asks(client, "20261121-1 TODO-7", "2/0 resource:gpu"), Queued)
        doc, _, gpu = locks.list()
        of_locks = locks.list(resources=False)

    assert (len(doc.holders), doc.capacity) == (2, None)
    assert (gpu.kind, gpu.name, gpu.capacity, gpu.holders[0].amount) == ("resource", "gpu", 4, 3)
    assert [(waiter.kind, waiter.who) for waiter in gpu.waiters] == [("todo", "TODO-7 of run 20261121-1")]
    assert [held.what for held in of_locks] == ["lock:doc", "resource:gpu"], "cpu: nobody waits for it"


def test_more_names_than_are_read_at_once_are_all_shown(locks: LockManager):
    names = [f"n{i:03}" for i in range(250)]

    with locks.acquire_many(names):
        assert [held.name for held in locks.list()] == names


def test_a_lock_that_is_taken_from_its_holder_goes_to_the_next_and_that_is_noted(locks: LockManager, manager):
    lock = manager().acquire("deploy", ttl=LONG)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(locks.acquire, "deploy", ttl=LONG, wait=LONG)
        until(lambda: any(h.waiters for h in locks.list()))

        found = take(locks, "deploy", force=True)

        assert waiting.result(timeout=60).fence > lock.fence
    assert [holder.id for holder in found.holders] == [lock.token]
    assert lock.renew() is False
    assert lock.lost.is_set()
    (noted,) = locks.broken()
    assert (noted.what, noted.by, noted.host, noted.pid) == ("lock:deploy", "ann", "elsewhere", 12)
    assert (noted.fence, noted.who) == (lock.fence, "process 12 on elsewhere (night)")
    assert noted.since is not None
    assert noted.at >= noted.since


@pytest.mark.parametrize("where", ["here, and alive", "on another host"])
def test_a_holder_that_may_live_keeps_its_lock_without_force(locks: LockManager, manager, where: str):
    (locks if where == "here, and alive" else manager()).acquire("deploy", ttl=LONG)

    with pytest.raises(Conflict, match="deploy is held by process") as refused:
        take(locks, "deploy")

    assert "--force" in refused.value.hint
    assert locks.held() == 1
    assert locks.broken() == ()


@pytest.mark.parametrize("pid", ["of a process that is gone", "of a zombie", "of another process"])
def test_a_holder_on_this_host_that_is_gone_needs_no_force(locks: LockManager, manager, pid: str):
    if pid == "of another process":
        number, started = os.getpid(), "long ago"
    else:
        gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        number, started = gone.pid, start_time(gone.pid) or ""
        if pid == "of a zombie":
            gone.stdin.close()
            until(lambda: look(gone.pid).is_zombie)
        else:
            gone.communicate(b"\n", timeout=60)
    manager(host=socket.gethostname(), pid=number, started=started).acquire("deploy", ttl=LONG, keep=False)

    take(locks, "deploy")

    assert locks.held() == 0
    if pid == "of a zombie":
        gone.wait(60)


def test_what_a_todo_holds_is_not_taken_even_by_force(locks: LockManager, client: redis.Redis):
    locks.resources.declare({"gpu": 1})
    assert isinstance(todo_asks(client, "20261121-1 TODO-7", "1/0 resource:gpu"), steps.Held)

    with pytest.raises(Conflict, match="TODO-7 of run 20261121-1") as refused:
        take(locks, "resource:gpu", force=True)

    assert "coord cancel 20261121-1" in refused.value.hint
    step = Break(what="resource:gpu", actor="ann", requests=["20261121-1 TODO-7"])
    assert StepCaller(client)(step, [KEYS.head]) == 0
    assert locks.resources.stats("gpu").used == 1


def test_a_name_that_nobody_holds_is_not_found(locks: LockManager):
    with pytest.raises(NotFound, match="deploy is not held"):
        take(locks, "deploy")


def test_a_new_holder_keeps_a_lock_that_was_to_be_taken_from_the_old_one(locks: LockManager):
    first = locks.acquire("deploy", ttl=LONG)
    found = locks.breakable("deploy", force=True)
    first.release()
    second = locks.acquire("deploy", ttl=LONG)

    with pytest.raises(NotFound, match="released it in the meantime"):
        locks.break_(found, "ann")

    assert second.renew()
    assert locks.broken() == ()


def test_a_lock_that_is_called_like_a_resource_comes_before_it(locks: LockManager):
    locks.resources.declare({"gpu": 1})

    with locks.resources.acquire("gpu"):
        lock = locks.acquire("resource:gpu", ttl=LONG)
        take(locks, "resource:gpu", force=True)

        assert locks.resources.stats("gpu").used == 1
    assert lock.renew() is False


def test_all_that_an_owner_holds_is_taken_back_and_nothing_else(locks: LockManager, client: redis.Redis):
    locks.resources.declare({"gpu": 4})
    nightly = [
        locks.acquire_many(["api", "web"], owner="nightly", ttl=LONG),
        locks.resources.acquire("gpu", 3, owner="nightly", ttl=LONG),
    ]
    other = locks.acquire("deploy", owner="day", ttl=LONG)
    assert isinstance(todo_asks(client, "20261121-1 TODO-7", "1/0 resource:gpu"), steps.Held)

    with pytest.raises(Conflict):
        locks.release_all("nightly", force=False)
    released = locks.release_all("nightly", "ann")

    assert sorted(held.what for held in released) == ["lock:api", "lock:web", "resource:gpu"]
    assert [lock.renew() for lock in nightly] == [False, False]
    assert other.renew() is True
    assert [held.name for held in locks.list()] == ["deploy", "gpu"]
    assert {noted.by for noted in locks.broken()} == {"ann"}
    assert locks.release_all("nightly") == ()
    other.release()
