"""Locks that are held: one holder with the highest fence, until its release or its ttl."""

from __future__ import annotations

import multiprocessing
import threading
import time
from contextlib import ExitStack
from datetime import timedelta

import pytest
import redis

from coordination.errors import LockLost, LockTimeout
from coordination.locks import LockManager, Owner
from tests.lock_players import LONG, inside, peak
from tests.waiting import until

ONCE = timedelta(0)
SHORT = timedelta(milliseconds=150)


def test_eight_processes_and_threads_are_never_two_inside(
    locks: LockManager, client: redis.Redis, redis_url: str
):
    def compete(locks: LockManager, client: redis.Redis) -> None:
        for _ in range(30):
            with locks.acquire("x", wait=LONG) as lock, inside(client, "x"):
                client.rpush("fences:x", lock.fence)

    def in_a_process() -> None:
        with redis.Redis.from_url(redis_url, decode_responses=True) as own:
            compete(LockManager(own, "test"), own)

    processes = [multiprocessing.get_context("fork").Process(target=in_a_process) for _ in range(4)]
    threads = [threading.Thread(target=compete, args=(locks, client)) for _ in range(4)]
    for player in (*processes, *threads):
        player.start()
    for player in (*processes, *threads):
        player.join(60)

    assert [process.exitcode for process in processes] == [0] * 4
    assert peak(client, "x") == 1
    fences = list(map(int, client.lrange("fences:x", 0, -1)))
    assert len(fences) == 240
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
    line = locks._core.line
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


def test_several_locks_at_once_have_one_holder_each(locks: LockManager, client: redis.Redis):
    def work(names: list[str]) -> None:
        for _ in range(15):
            with locks.acquire_many(names, wait=LONG), ExitStack() as counted:
                for name in names:
                    counted.enter_context(inside(client, name))

    wanted = [["a", "b"], ["b", "c"], ["c", "a"], ["a", "b", "c"], ["c", "b"], ["a"]]
    players = [threading.Thread(target=work, args=(names,)) for names in wanted]
    for player in players:
        player.start()
    for player in players:
        player.join()

    assert [peak(client, name) for name in "abc"] == [1, 1, 1]
    assert client.llen("seen:a") == 15 * 4


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
