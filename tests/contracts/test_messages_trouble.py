"""Messages when readers, connections and Redis are killed, frozen or full, across forks, with any payload."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
import redis

from coordination.backend.client import Profile, connect
from coordination.errors import Unreachable, UsageError
from coordination.messages import Inbox, Limits, Message, MessageBus
from tests.contracts.conftest import OwnServer
from tests.fork_client import PipedFork
from tests.testbed import FORKS
from tests.waiting import until

REPO = "repo:billing"
SOON = timedelta(seconds=2)


@pytest.fixture
def client(own: OwnServer) -> redis.Redis:
    return connect(own.start(), Profile.COMMAND)


@pytest.fixture
def bus(client: redis.Redis) -> MessageBus:
    made = MessageBus(client, "test")
    made.register(REPO)
    return made


@pytest.fixture
def full(client: redis.Redis, bus: MessageBus) -> Iterator[MessageBus]:
    """Ten messages of 1 kB, and no room for another one."""
    for n in range(10):
        bus.send(REPO, "note", f"{n}" * 1000)
    client.config_set("maxmemory", "1mb")
    client.config_set("maxmemory-policy", "noeviction")
    yield bus
    client.config_set("maxmemory", 0)


def test_a_full_redis_takes_no_message_and_no_effect_and_says_why(full: MessageBus, client: redis.Redis):
    message = full.take(REPO, "r1").messages[0]

    for call in (
        lambda: full.send(REPO, "note"),
        lambda: full.register("repo:other"),
        lambda: full.ack(message, effects=lambda pipe: pipe.set("effect", 1)),
    ):
        with pytest.raises(Unreachable, match="cannot write"):
            call()

    assert full.standing(REPO).in_hand == 1
    assert client.get("effect") is None


def test_a_reader_empties_a_redis_that_is_full(full: MessageBus):
    refused, extended, *others = full.take(REPO, "r1", 10).messages

    assert len(others) == 8
    assert full.extend(extended) == ()
    assert all(map(full.ack, reversed(others)))
    assert full.nack(refused) == (refused.offset, extended.offset)
    assert full.standing(REPO).waiting == 1


def test_a_reader_outlives_a_redis_that_is_full(full: MessageBus):
    with full.receive(REPO) as inbox:
        for n in range(10):
            message = inbox.next(timedelta(seconds=30))
            assert message is not None
            assert message.payload[0] == f"{n}"
            inbox.ack(message)

    assert full.standing(REPO).waiting == 0


def test_threads_that_share_a_bus_all_hear_in_time_that_redis_is_frozen(own: OwnServer, bus: MessageBus):
    heard: list[float] = []

    def send() -> None:
        began = time.monotonic()
        with pytest.raises(Unreachable):
            bus.send(REPO, "note")
        heard.append(time.monotonic() - began)

    with own.frozen():
        threads = [Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(heard) == 8
    assert max(heard) < 4 * min(heard), "eight waits one after the other take eight times as long"


def test_a_fork_while_another_thread_sends_does_not_wait_for_that_thread(bus: MessageBus):
    sending, forked = Event(), Event()

    def slowly(*_: object) -> None:
        sending.set()
        forked.wait()

    thread = Thread(target=bus._sender.send, args=(None, bus.steps, slowly))
    thread.start()
    sending.wait()
    if (pid := os.fork()) == 0:
        signal.alarm(20)
        bus.steps.redis.connection_pool.reset()
        bus.send(REPO, "note", "child")
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    forked.set()
    thread.join()

    assert status == 0
    assert [message.payload for message in bus.peek(REPO)] == ["child"]


def nested(depth: int) -> list[object]:
    made: list[object] = []
    for _ in range(depth - 1):
        made = [made]
    return made


def test_a_payload_so_deep_that_its_reader_would_fail_over_it_is_refused(bus: MessageBus):
    with pytest.raises(UsageError, match="deep"):
        bus.send(REPO, "note", nested(101))
    with pytest.raises(UsageError, match="deep"):
        bus.send(REPO, "note", {"a": [{"b": nested(98)}]})
    flat = [[{"n": n}] for n in range(1000)]
    brackets = '\\"' + "[{" * 1000

    for payload in (nested(100), flat, brackets):
        bus.send(REPO, "note", payload)

    assert [message.payload for message in bus.peek(REPO)] == [nested(100), flat, brackets]


def test_why_a_message_was_refused_may_be_any_text(bus: MessageBus, caplog: pytest.LogCaptureFixture):
    # Bytes that are not UTF-8 cannot be carried from one process of a test run to another.
    caplog.set_level(logging.CRITICAL)
    handled: list[object] = []
    inbox = bus.receive(REPO, patience=timedelta(0))

    def handler(message: object) -> None:
        handled.append(message)
        if len(handled) == 1:
            raise ValueError(os.fsdecode(b"no file caf\xe9"))
        inbox.stop()

    bus.send(REPO, "note")
    inbox.run(handler)

    assert len(handled) == 2
    assert bus.standing(REPO).waiting == bus.standing(REPO).in_hand == 0


@pytest.mark.parametrize("sequence", [True, 1.5, -0.0, "7", 2**53])
def test_what_is_no_sequence_that_can_be_told_from_the_next_is_refused(bus: MessageBus, sequence: object):
    with pytest.raises(UsageError, match="sequence"):
        bus.send(REPO, "note", sequence=sequence)  # type: ignore[arg-type]


LIMITS = [
    {"inbox_limit": 0}, {"inbox_limit": -1}, {"inbox_limit": 1.5}, {"deliveries": 0}, {"retry": timedelta(0)},
    {"idle": timedelta(0)},
    {"interval": timedelta(0)}, {"inbox_keep": timedelta(0)}, {"gone": timedelta(0)},
    {"ttl": timedelta(seconds=-1)},
]  # fmt: skip


@pytest.mark.parametrize("limits", LIMITS, ids=range(len(LIMITS)))
def test_limits_that_are_none_are_refused(limits: dict[str, object]):
    with pytest.raises(UsageError, match=next(iter(limits))):
        Limits(**limits)  # type: ignore[arg-type]


@pytest.mark.parametrize("ttl", [5, "5s"])
def test_a_time_that_is_no_time_is_refused(bus: MessageBus, ttl: object):
    with pytest.raises(UsageError, match="ttl"):
        bus.send(REPO, "note", ttl=ttl)  # type: ignore[arg-type]


def test_many_senders_whose_messages_were_refused_at_once_are_all_heard_again(client: redis.Redis):
    limits = Limits(retry=timedelta(milliseconds=1))
    bus = MessageBus(client, "test", limits=limits)
    bus.register(REPO)
    for n in range(300):
        MessageBus(client, "test", sender=f"s{n}", limits=limits).send(REPO, "note", n)
    for message in bus.take(REPO, "r1", 1000).messages:
        bus.nack(message)

    again: list[object] = []
    deadline = time.monotonic() + 30
    while len(again) < 300 and time.monotonic() < deadline:
        again += [message.payload for message in bus.take(REPO, "r1", 1000).messages]

    assert sorted(again) == list(range(300))  # type: ignore[type-var]


def test_a_stop_is_heard_though_redis_is_frozen(own: OwnServer, bus: MessageBus):
    inbox = bus.receive(REPO)
    reading = Event()
    read: list[object] = []

    def reader() -> None:
        with inbox:
            reading.set()
            while (message := inbox.next()) is not None:
                read.append(message)

    thread = Thread(target=reader)
    thread.start()
    reading.wait()
    with own.frozen():
        inbox.stop()
        thread.join(60)
        stopped = not thread.is_alive()
    thread.join()
    assert stopped
    assert read == []


@pytest.mark.parametrize("operation", ["request", "next"])
def test_a_wait_with_an_end_fails_within_it_if_redis_is_away(own: OwnServer, bus: MessageBus, operation: str):
    """A reader is patient for ever, and a wait with an end is not."""
    heard, waiting = list[str](), Event()

    def wait() -> None:
        with bus.receive("agent:asking") as inbox:
            waiting.set()
            with pytest.raises(Unreachable) as told:
                inbox.next(SOON) if operation == "next" else bus.request(REPO, "note", timeout=SOON)
            heard.append(told.value.message)
            inbox.stop()

    thread = Thread(target=wait)
    thread.start()
    waiting.wait()
    if operation == "request":
        until(lambda: bus.standing(REPO).waiting == 1)
    own.stop()
    thread.join()

    assert "does not answer" in heard[0]


HASTY = Limits(idle=timedelta(milliseconds=400), inbox_limit=10_000, deliveries=1000)

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
def hasty(client: redis.Redis, bus: MessageBus) -> MessageBus:
    """A bus whose readers lose their messages after 0.4 s of silence."""
    return MessageBus(client, "test", limits=HASTY)


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
def handled(hasty: MessageBus) -> Iterator[list[object]]:
    """The operations of a handler in this process, in order."""
    done: list[object] = []
    inbox = hasty.receive(REPO)
    thread = Thread(target=inbox.run, args=(lambda message: done.append(message.payload),))
    thread.start()
    until(lambda: hasty.presence())
    yield done
    inbox.stop()
    thread.join()


def effects(client: redis.Redis, senders: int) -> list[list[int]]:
    return [[int(n) for n in client.lrange(f"effects:s{s}", 0, -1)] for s in range(senders)]


def test_killed_readers_lose_nothing_and_do_nothing_twice(
    bus: MessageBus, client: redis.Redis, reader: Callable[[], PipedFork]
):
    senders = [MessageBus(client, "test", sender=f"s{n}", limits=HASTY) for n in range(3)]
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
    sender = MessageBus(client, "test", sender="s0", limits=HASTY)
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


@pytest.mark.parametrize("data", ["kept", "lost"])
def test_a_reader_goes_on_when_a_killed_redis_is_back(own: OwnServer, bus: MessageBus, data: str):
    done: list[Message] = []
    inbox: Inbox = bus.receive(REPO)
    thread = Thread(target=inbox.run, args=(done.append,))
    thread.start()
    bus.send(REPO, "note", "before")
    until(lambda: done and bus.standing(REPO).in_hand == 0)

    own.kill()
    if data == "lost":
        shutil.rmtree(own.state / "appendonlydir")
    own.start()

    until(lambda: REPO in bus.recipients())
    bus.send(REPO, "note", "after")
    until(lambda: [message.payload for message in done] == ["before", "after"])
    assert (inbox.recovered, inbox.trimmed) == (data == "kept", 0)
    inbox.stop()
    thread.join()


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
