"""Locks that are held: one holder with the highest fence, renewed until its release or its ttl."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial

import pytest
import redis

from coordination import durations
from coordination.backend.steps.lock import Held
from coordination.errors import LockLost, LockTimeout, StaleFence, UsageError
from coordination.locks import Lock, LockManager, Owner
from tests.lock_holders import LONG, begin
from tests.lock_requests import ask
from tests.waiting import until

ONCE = timedelta(0)
SHORT = timedelta(milliseconds=150)


@contextmanager
def inside(client: redis.Redis, name: str) -> Iterator[None]:
    """Count those who are inside at once, at every entry."""
    client.rpush(f"seen:{name}", client.incr(f"inside:{name}"))
    yield
    client.decr(f"inside:{name}")


WANTED = ("a", "ab", "bc", "ca", "abc", "cb", "a", "b")
"""The names that each of eight competitors takes at once."""


def test_eight_processes_and_threads_are_never_two_inside(
    locks: LockManager, client: redis.Redis, redis_url: str
):
    def compete(locks: LockManager, client: redis.Redis, names: str) -> None:
        for _ in range(20):
            with locks.acquire_many([*names], wait=LONG) as lock, ExitStack() as counted:
                for name in names:
                    counted.enter_context(inside(client, name))
                    client.rpush(f"fences:{name}", lock.fence)

    def in_a_process(names: str) -> None:
        with redis.Redis.from_url(redis_url, decode_responses=True) as own:
            compete(LockManager(own, "test"), own, names)

    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=in_a_process, args=(names,)) for names in WANTED[:4]]
    threads = [threading.Thread(target=compete, args=(locks, client, names)) for names in WANTED[4:]]
    for player in (*processes, *threads):
        player.start()
    for player in (*processes, *threads):
        player.join(60)

    assert [process.exitcode for process in processes] == [0] * 4
    for name in "abc":
        fences = list(map(int, client.lrange(f"fences:{name}", 0, -1)))
        assert set(client.lrange(f"seen:{name}", 0, -1)) == {"1"}
        assert len(fences) == 20 * sum(name in names for names in WANTED)
        assert fences == sorted(set(fences))


def test_the_owner_of_a_lock_is_kept_in_separate_fields(locks: LockManager, client: redis.Redis):
    lock = locks.acquire("x", owner="nightly build")

    record = client.hgetall(f"test:lock-request:{lock.token}")
    owner = Owner(
        host=record["host"],
        pid=int(record["pid"]),
        started=record["started"],
        thread=int(record["thread"]),
        label=record["label"],
    )
    assert owner.label == "nightly build"
    assert owner.thread == threading.get_native_id()
    assert owner.alive()
    assert not Owner(host=owner.host, pid=owner.pid, started="another boot", thread=1).alive()
    assert Owner(host="elsewhere", pid=1, started="1", thread=1).alive() is None


def test_a_wait_in_vain_names_the_holder_and_leaves_no_place(locks: LockManager, client: redis.Redis):
    held_by_me = r"lock x taken: x is held by me \(process \d+ on "
    with locks.acquire("x", owner="me"):
        with pytest.raises(LockTimeout, match=held_by_me):
            locks.acquire("x", wait=ONCE)
        with pytest.raises(LockTimeout, match=r"not granted within 0\.1 s"):
            locks.acquire("x", wait=timedelta(milliseconds=100))
        assert not client.exists("test:lock-queue:lock:x")
    locks.acquire("x", wait=ONCE).release()


def test_a_lock_is_a_key_with_a_ttl_and_leaves_nothing(locks: LockManager, client: redis.Redis):
    lock = locks.acquire_many(["x", "y"], ttl=timedelta(seconds=20))
    assert client.get("test:lock:x") == lock.token
    assert 0 < client.pttl("test:lock:x") <= 20_000

    lock.release()

    left = {key for key in client.scan_iter() if not key.startswith("test:lock-done:")}
    assert left == {"test:fence", "test:lock-epoch"}


@pytest.mark.parametrize("lost", [False, True])
def test_an_error_of_the_body_passes_untouched(locks: LockManager, client: redis.Redis, lost: bool):
    error = RuntimeError("of the body")

    def fail() -> None:
        with locks.acquire("x"):
            if lost:
                client.flushall()
            raise error

    with pytest.raises(RuntimeError) as raised:
        fail()
    assert raised.value is error
    locks.acquire("x", wait=ONCE)


def test_a_lock_that_was_lost_under_the_body_is_an_error_at_its_end(locks: LockManager, client: redis.Redis):
    with pytest.raises(LockLost), locks.acquire("x"):
        client.flushall()


def test_what_one_does_not_hold_cannot_be_released(locks: LockManager, client: redis.Redis):
    expired = locks.acquire("x", ttl=SHORT, keep=False)
    until(lambda: not client.exists("test:lock:x"))
    other = locks.acquire("x")

    with pytest.raises(LockLost):
        expired.release()
    assert client.get("test:lock:x") == other.token

    other.release()
    with pytest.raises(LockLost, match="released before"):
        other.release()
    with pytest.raises(LockLost, match="was released"):
        other.check()
    assert not other.renew()


def test_a_step_that_arrives_twice_is_harmless(
    locks: LockManager, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
):
    line = locks._core.connection
    once = type(line)._ask
    monkeypatch.setattr(type(line), "_ask", lambda *args: (once(*args), once(*args))[1])

    first = locks.acquire("x")
    assert first.renew()
    assert first.fence == int(client.hget(f"test:lock-request:{first.token}", "fence"))
    first.release()
    second = locks.acquire("x", wait=ONCE)
    second.release()

    assert second.fence > first.fence


def test_all_are_acquired_or_none(locks: LockManager, client: redis.Redis):
    with locks.acquire("b"):
        with pytest.raises(LockTimeout, match=r"lock a, lock b taken: b is held"):
            locks.acquire_many(["a", "b"], wait=ONCE)
        waiting = threading.Thread(target=lambda: locks.acquire_many(["a", "b"]).release())
        waiting.start()
        until(lambda: client.zcard("test:lock-queue:lock:b"))
        locks.acquire("a", wait=ONCE).release()  # whoever waits for b holds nothing meanwhile
    waiting.join()


def test_the_wall_clock_of_a_client_does_not_matter(locks: LockManager, monkeypatch: pytest.MonkeyPatch):
    lock = locks.acquire("x", ttl=timedelta(seconds=30))
    true_time = time.time
    for step_s in (3600, -3600):
        monkeypatch.setattr(time, "time", lambda step_s=step_s: true_time() + step_s)
        lock.check()
        assert 0 < lock.remaining_s <= 30
        with pytest.raises(LockTimeout):
            locks.acquire("x", wait=ONCE)
        assert lock.renew()
        locks.acquire("y").release()
    lock.release()


def test_one_thread_renews_all_locks_of_a_manager_each_in_time(locks: LockManager):
    before = set(threading.enumerate())
    locks.acquire("long", ttl=timedelta(hours=1))
    held = [locks.acquire(f"x{i}", ttl=timedelta(seconds=6)) for i in range(20)]
    first = [lock.deadline_s for lock in held]
    until(lambda: all(lock.deadline_s > since + 0.4 for lock, since in zip(held, first, strict=True)))

    assert not any(lock.lost.is_set() for lock in held)
    assert sum(thread.name == "lock-renewal" for thread in set(threading.enumerate()) - before) == 1
    with pytest.raises(LockTimeout):
        locks.acquire("x0", wait=ONCE)


def test_a_lock_that_is_renewed_by_hand_expires_without_it(locks: LockManager, client: redis.Redis):
    lock = locks.acquire("x", ttl=timedelta(seconds=2), keep=False)
    assert lock.renew()
    until(lambda: not client.exists("test:lock:x"))

    assert not lock.renew()
    assert lock.lost.is_set()


def test_the_holder_is_told_that_its_lock_is_lost(locks: LockManager, client: redis.Redis):
    lock = locks.acquire("x", ttl=SHORT)
    client.flushall()

    assert lock.lost.wait(60)
    assert lock.remaining_s == 0
    with pytest.raises(LockLost):
        lock.check()


def test_after_a_sleep_of_the_machine_a_lock_is_lost(locks: LockManager, monkeypatch: pytest.MonkeyPatch):
    lock = locks.acquire("x", ttl=timedelta(seconds=10))
    asleep = durations.now_s
    monkeypatch.setattr("coordination.locks.lock.now_s", lambda: asleep() + 3600)

    assert lock.remaining_s == 0
    with pytest.raises(LockLost):
        lock.check()


def test_a_killed_holder_keeps_others_out_for_its_ttl_at_most(locks: LockManager, redis_url: str):
    holder = begin(redis_url, "x", 3000)
    fence = int(holder.stdout.readline())
    with pytest.raises(LockTimeout):
        locks.acquire("x", wait=ONCE)

    holder.kill()
    holder.communicate()

    with locks.acquire("x", wait=LONG) as lock:
        assert lock.fence > fence


def test_a_stopped_holder_writes_nothing_when_it_goes_on(locks: LockManager, redis_url: str):
    holder = begin(redis_url, "x", 200)
    holder.stdout.readline()
    os.kill(holder.pid, signal.SIGSTOP)
    try:
        lock = locks.acquire("x", wait=LONG)  # as soon as its ttl is over
        holder.stdin.write("too late\n")
        holder.stdin.flush()
    finally:
        os.kill(holder.pid, signal.SIGCONT)

    assert holder.stdout.readline().strip() == "StaleFence"
    guard = locks.guard("x")
    assert guard.read() == (None, 0)
    assert guard.refused == 1
    guard.write("in time", lock.fence)
    assert guard.read() == ("in time", lock.fence)
    holder.communicate()


def test_a_child_process_renews_its_own_and_not_its_parents(locks: LockManager):
    ttl = timedelta(seconds=3)
    parents = locks.acquire("parents", ttl=ttl)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            own = locks.acquire("own", ttl=ttl)
            first = own.deadline_s
            until(lambda: own.deadline_s > first)
            own.release()
            code = 0
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    parents.check()


@pytest.mark.parametrize("keep", [True, False], ids=["renewed", "by hand"])
def test_a_child_process_holds_and_releases_no_lock_of_its_parent(locks: LockManager, keep: bool):
    with locks.acquire("x", keep=keep) as lock:
        child = os.fork()
        if child == 0:
            os._exit(_beliefs_of_a_child(lock))

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        lock.check()
        assert lock.renew()


def _beliefs_of_a_child(lock: Lock) -> int:
    """0 where it takes nothing for its own."""
    believes = lock.remaining_s > 0 or lock.renew()
    for operation in (lock.check, lock.release, partial(lock.__exit__, None, None, None)):
        try:
            operation()
            believes = True
        except LockLost:
            pass
    return int(believes)


def test_a_closed_manager_renews_and_grants_nothing(locks: LockManager, client: redis.Redis):
    held = locks.acquire("x")
    locks.acquire("short", ttl=SHORT)
    locks.close()
    for call in (lambda: locks.acquire("y"), lambda: locks.acquire_many(["y"], keep=False)):
        with pytest.raises(UsageError, match="closed"):
            call()
    held.release()
    locks.close()
    until(lambda: not client.keys("test:lock:*"))


ONLY_OF_QUEUES = {"rank", "arrived", "priority"}


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


def test_the_short_and_the_long_path_to_a_lock_leave_the_same_in_redis(
    locks: LockManager, client: redis.Redis
):
    locks.acquire("the first of all").release()  # the epoch begins with it
    lock = locks.acquire("x", owner="me", keep=False)
    assert at_once(client, lock)
    left = seen(client, lock.token)

    asked_again(client, lock)
    assert not at_once(client, lock)
    assert seen(client, lock.token) == left


def test_a_guarded_lock_raises_its_guard(locks: LockManager, client: redis.Redis):
    locks.acquire("the first of all").release()
    guard = locks.guard("x")
    old = locks.acquire("x")
    assert not at_once(client, old)
    old.release()
    locks.acquire("x").release()

    with pytest.raises(StaleFence, match="granted again since"):
        guard.check(old.fence)


def test_an_epoch_begins_before_the_first_lock_is_had_at_once(locks: LockManager, client: redis.Redis):
    first, second = locks.acquire("x"), locks.acquire("y")

    assert (at_once(client, first), at_once(client, second)) == (False, True)
    assert first.epoch == second.epoch == int(client.get("test:lock-epoch"))
