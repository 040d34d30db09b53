"""Messages when readers, connections and Redis are killed or frozen: nothing is lost or done twice."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from threading import Thread

import pytest
import redis

from coordination.backend.client import Profile, connect
from coordination.messages import Inbox, Limits, Message, MessageBus
from tests.contracts.conftest import OwnServer
from tests.forked import PipedFork
from tests.testbed import FORKS
from tests.waiting import until

REPO = "repo:billing"
LIMITS = Limits(idle=timedelta(milliseconds=400), inbox_limit=10_000, deliveries=1000)

READER = """
import sys
from datetime import timedelta
import redis
from coordination.messages import Limits, MessageBus
limits = Limits(idle=timedelta(milliseconds=400), deliveries=1000)
bus = MessageBus(redis.Redis.from_url(sys.argv[1]), "test", limits=limits)
with bus.receive("repo:billing") as inbox:
    while (message := inbox.next()) is not None:
        inbox.ack(message, effects=lambda pipe: pipe.rpush("effects:" + message.sender, message.payload))
"""


@pytest.fixture
def client(own: OwnServer) -> redis.Redis:
    return connect(own.start(), Profile.COMMAND)


@pytest.fixture
def bus(client: redis.Redis) -> MessageBus:
    made = MessageBus(client, "test", limits=LIMITS)
    made.register(REPO)
    return made


@pytest.fixture
def reader(own: OwnServer) -> Iterator[Callable[[], PipedFork]]:
    begun: list[PipedFork] = []

    def begin() -> PipedFork:
        begun.append(FORKS.piped([sys.executable, "-c", READER, own.start()]))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()
        process.close()


@pytest.fixture
def handled(bus: MessageBus) -> Iterator[list[object]]:
    """The operations of a handler in this process, in order."""
    done: list[object] = []
    inbox = bus.receive(REPO)
    thread = Thread(target=inbox.run, args=(lambda message: done.append(message.payload),))
    thread.start()
    until(lambda: bus.presence())
    yield done
    inbox.stop()
    thread.join()


def effects(client: redis.Redis, senders: int) -> list[list[int]]:
    return [[int(n) for n in client.lrange(f"effects:s{s}", 0, -1)] for s in range(senders)]


def test_killed_readers_lose_nothing_and_do_nothing_twice(
    bus: MessageBus, client: redis.Redis, reader: Callable[[], PipedFork]
):
    senders = [MessageBus(client, "test", sender=f"s{n}", limits=LIMITS) for n in range(3)]
    readers = [reader(), reader()]

    for n in range(150):
        for sender in senders:
            sender.send(REPO, "note", n)
        if n % 50 == 25:
            until(lambda n=n: sum(map(len, effects(client, 3))) > n)
            readers[0].kill()
            readers = [readers[1], reader()]

    until(lambda: sum(map(len, effects(client, 3))) >= 450)
    assert effects(client, 3) == [list(range(150))] * 3
    assert until(lambda: bus.standing(REPO).in_hand == 0)


def test_a_stopped_reader_loses_its_messages_and_goes_on_later(
    bus: MessageBus, client: redis.Redis, reader: Callable[[], PipedFork]
):
    sender = MessageBus(client, "test", sender="s0", limits=LIMITS)
    first = reader()
    sender.send(REPO, "note", 0)
    until(lambda: effects(client, 1) == [[0]])

    first.send_signal(signal.SIGSTOP)
    for n in range(1, 20):
        sender.send(REPO, "note", n)
    reader()
    until(lambda: effects(client, 1) == [list(range(20))])
    first.send_signal(signal.SIGCONT)

    for n in range(20, 40):
        sender.send(REPO, "note", n)
    until(lambda: effects(client, 1) == [list(range(40))])


def test_connections_that_are_cut_are_made_anew(bus: MessageBus, client: redis.Redis, handled: list[object]):
    for n in range(20):
        for kind in ("normal", "pubsub"):
            client.client_kill_filter(_type=kind)
        bus.send(REPO, "note", n)

    until(lambda: handled == list(range(20)))


def test_a_redis_that_is_killed_and_restarted_loses_nothing(
    own: OwnServer, bus: MessageBus, handled: list[object]
):
    bus.send(REPO, "note", 1)
    until(lambda: handled == [1])

    own.kill()
    own.start()

    bus.send(REPO, "note", 2)
    until(lambda: handled == [1, 2])


def test_a_reader_learns_that_redis_came_back_empty_and_goes_on(own: OwnServer, bus: MessageBus):
    done: list[Message] = []
    inbox: Inbox = bus.receive(REPO)
    thread = Thread(target=inbox.run, args=(done.append,))
    thread.start()
    until(lambda: bus.presence())

    own.kill()
    shutil.rmtree(own.state / "appendonlydir")
    own.start()

    until(lambda: REPO in bus.recipients())
    bus.send(REPO, "note", "after")
    until(lambda: [message.payload for message in done] == ["after"])
    assert (inbox.recovered, inbox.trimmed) == (False, 0)
    inbox.stop()
    thread.join()


def test_a_send_whose_answer_was_lost_is_repeated_without_harm(bus: MessageBus, client: redis.Redis):
    for n in range(30):
        client.client_kill_filter(_type="normal")
        bus.send(REPO, "note", n)

    assert [message.payload for message in bus.peek(REPO)] == list(range(30))


def on(own: OwnServer) -> MessageBus:
    return MessageBus(connect(own.start(), Profile.COMMAND), "test")


@pytest.mark.parametrize("data", ["kept", "lost", "older"])
def test_a_position_tells_whether_a_server_came_back_with_its_data(own: OwnServer, tmp_path: Path, data: str):
    log = own.state / "appendonlydir"
    on(own).register(REPO)
    on(own).send(REPO, "note", 1)
    own.stop()
    shutil.copytree(log, tmp_path / "older")
    on(own).send(REPO, "note", 2)
    taken = on(own).take(REPO, "r1")
    own.stop()

    if data != "kept":
        shutil.rmtree(log)
    if data == "older":
        shutil.copytree(tmp_path / "older", log)

    again = on(own).take(REPO, "r1", 10, since=taken.position)
    assert again.recovered == (data == "kept")
    if data == "kept":
        assert [message.payload for message in again.messages] == [2]
        assert on(own).ack(taken.messages[0])
    if data == "lost":
        assert not on(own).ack(taken.messages[0])
        assert (again.trimmed, again.epoch != taken.epoch) == (0, True)
        assert on(own).take(REPO, "r1", since=again.position).recovered
