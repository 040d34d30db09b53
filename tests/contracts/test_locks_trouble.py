"""Locks when Redis dies, hangs, loses its data or refuses: an error within the wait, never a false lock."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import redis

from coordination.backend import library
from coordination.errors import CoordinationError, LockLost, LockTimeout, StaleFence, Unreachable, Unusable
from coordination.locks import Lock, LockManager
from tests.contracts.conftest import OwnServer
from tests.lock_holders import LONG
from tests.waiting import until

ONCE = timedelta(0)
WAIT = timedelta(seconds=2)


@pytest.fixture
def client(own: OwnServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own.start(), decode_responses=True) as made:
        yield made


class Waiter(threading.Thread):
    """Waits for the lock; keeps what came of it."""

    def __init__(self, locks: LockManager, wait: timedelta, *, shared: bool = False) -> None:
        super().__init__()
        self._locks, self._wait, self._shared = locks, wait, shared
        self.came: object = None

    def run(self) -> None:
        try:
            self.came = self._locks.acquire("x", wait=self._wait, shared=self._shared)
        except CoordinationError as error:
            self.came = error


def waiting(locks: LockManager, client: redis.Redis, wait: timedelta = WAIT) -> Waiter:
    waiter = Waiter(locks, wait)
    waiter.start()
    until(lambda: client.zcard("test:lock-queue:lock:x"))
    return waiter


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["gone", "hangs"])
def test_a_redis_that_is_gone_or_hangs_is_an_error_of_the_waiter(
    locks: LockManager, client: redis.Redis, own: OwnServer, number: int
):
    locks.acquire("x")
    waiter = waiting(locks, client)
    own.signal(number)
    waiter.join(60)

    assert isinstance(waiter.came, Unreachable)
    assert "does not answer" in waiter.came.message
    if number == signal.SIGKILL:
        with pytest.raises(Unreachable):
            locks.acquire("y", wait=ONCE)


def test_a_holder_knows_that_it_lost_its_lock_while_redis_hangs(locks: LockManager, own: OwnServer):
    lock = locks.acquire("x", ttl=timedelta(milliseconds=400))
    own.signal(signal.SIGSTOP)

    assert lock.lost.wait(60)
    with pytest.raises(LockLost):
        lock.check()


def test_a_hang_shorter_than_the_ttl_loses_nothing(locks: LockManager, own: OwnServer):
    lock = locks.acquire("x", ttl=timedelta(seconds=9))
    first = lock.deadline_s
    own.signal(signal.SIGSTOP)
    hung = threading.Thread(target=lock.renew)
    hung.start()
    own.signal(signal.SIGCONT)
    hung.join()

    until(lambda: lock.deadline_s > first)
    lock.release()


def test_a_restart_with_its_data_keeps_holders_and_waiters(
    locks: LockManager, client: redis.Redis, own: OwnServer
):
    lock = locks.acquire("x", ttl=timedelta(minutes=1))
    client.execute_command("WAITAOF", 1, 0, 5000)
    waiter = waiting(locks, client, LONG)
    own.kill()
    own.start()

    with pytest.raises(LockTimeout):
        locks.acquire("x", wait=ONCE)
    assert lock.renew()
    lock.release()
    waiter.join(60)
    assert isinstance(waiter.came, Lock)
    assert waiter.came.fence > lock.fence
    assert waiter.came.epoch == lock.epoch


def test_after_a_loss_of_data_no_fence_is_given_out_again(locks: LockManager, client: redis.Redis):
    guard = locks.guard("x")
    before = locks.acquire("x")
    guard.write("of before", before.fence)
    waiter = waiting(locks, client, LONG)
    client.flushall()

    with pytest.raises(StaleFence):
        guard.write("too late", before.fence)
    waiter.join(60)
    after = waiter.came

    assert isinstance(after, Lock)
    assert after.fence > before.fence
    assert after.epoch > before.epoch
    assert not before.renew()
    assert before.lost.is_set()
    assert after.renew()


DENIED = {
    "no steps": ["-fcall"],
    "no keys": ["resetkeys"],
    "no writing": ["-@write"],
    "no blocking": ["-blpop"],
}


@pytest.mark.parametrize("rules", DENIED.values(), ids=DENIED)
def test_a_redis_that_denies_a_command_is_unusable(locks: LockManager, client: redis.Redis, rules: list[str]):
    client.execute_command("ACL", "SETUSER", "bob", "on", ">pw", "~*", "&*", "+@all", *rules)
    path = client.connection_pool.connection_kwargs["path"]
    held = locks.acquire("x")
    with redis.Redis(unix_socket_path=path, username="bob", password="pw") as denied:
        his = LockManager(denied, "test")
        with pytest.raises(Unusable, match="does not allow user bob"):
            his.acquire("x", wait=WAIT)
        his.close()

    assert client.get("test:lock:x") == held.token


LOCKS = ("lock/_lock", "lock/_queue", "lock/acquire")
COMMANDS = sorted(set(re.findall(r"call\('(\w+)'", "".join(map(library._read, LOCKS)))))
ASKS = {
    "alone": lambda locks, name: locks.acquire(name, wait=ONCE, keep=False),
    "several": lambda locks, name: locks.acquire_many([name, f"{name}-too"], wait=ONCE, keep=False),
    "shared": lambda locks, name: locks.acquire(name, wait=ONCE, keep=False, shared=True),
    "a resource": lambda locks, name: locks.resources.acquire(name, wait=ONCE, keep=False),
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_a_command_that_is_denied_in_the_middle_of_a_grant_leaves_nothing_held(
    locks: LockManager, client: redis.Redis, ask: Callable[[LockManager, str], Lock]
):
    locks.acquire("the first of all").release()
    locks.resources.declare(dict.fromkeys(COMMANDS, 1))
    path = client.connection_pool.connection_kwargs["path"]
    refused = []
    for command in COMMANDS:
        client.execute_command(
            "ACL", "SETUSER", "bob", "reset", "on", ">pw", "~*", "&*", "+@all", f"-{command}"
        )
        with redis.Redis(unix_socket_path=path, username="bob", password="pw") as denied:
            his = LockManager(denied, "test")
            try:
                ask(his, command)
            except Unusable:
                refused.append(command)
                ask(locks, command)  # nobody has it
            his.close()

    assert {"SET", "HSET", "PEXPIRE", "SADD"} <= set(refused)


def test_a_redis_that_refuses_the_login_is_unusable(client: redis.Redis):
    path = client.connection_pool.connection_kwargs["path"]
    stranger = redis.Redis(unix_socket_path=path, username="nobody", password="wrong")
    with pytest.raises(Unusable, match="refuses the login of user nobody"):
        LockManager(stranger, "test").acquire("x", wait=WAIT)


def test_locks_work_however_often_connections_were_lost(locks: LockManager, client: redis.Redis):
    for _ in range(150):
        locks.acquire("x", wait=ONCE).release()
        client.client_kill_filter(skipme=True, _type="normal")


def test_more_wait_at_once_than_redis_py_would_have_connections(locks: LockManager, client: redis.Redis):
    waiters = [Waiter(locks, LONG, shared=True) for _ in range(150)]
    held = locks.acquire("x")
    for waiter in waiters:
        waiter.start()
    until(lambda: client.zcard("test:lock-queue:lock:x") == len(waiters))
    held.release()
    for waiter in waiters:
        waiter.join(60)

    fences = [waiter.came.fence for waiter in waiters]
    assert len(set(fences)) == len(waiters)
