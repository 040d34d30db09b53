"""Contract of an inbox that is read: as an iterator, with a handler, and as a request that waits for its
reply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from threading import Event, Thread

import pytest
import redis

from coordination.errors import NoReply, NotFound, Unreachable, UsageError
from coordination.messages import Inbox, Limits, Message, MessageBus
from tests.waiting import until

REPO = "repo:billing"
SHORT = timedelta(milliseconds=50)
LONG = timedelta(seconds=30)

Begin = Callable[..., Inbox]


@pytest.fixture
def client(redis_url: str) -> redis.Redis:
    """As anybody makes one: with an answer's patience that is shorter than a reader's wait."""
    return redis.Redis.from_url(redis_url, socket_timeout=0.2)


@pytest.fixture
def bus(client: redis.Redis) -> MessageBus:
    made = MessageBus(client, "test", limits=Limits(retry=SHORT))
    made.register(REPO)
    return made


@pytest.fixture
def begin(bus: MessageBus) -> Iterator[Begin]:
    """Handlers that run in threads of their own until the test is over."""
    running: list[tuple[Inbox, Thread]] = []

    def run(handler: Callable[[Message], object], on: MessageBus = bus, **how: object) -> Inbox:
        inbox = on.receive(REPO, **how)
        thread = Thread(target=inbox.run, args=(handler,))
        thread.start()
        running.append((inbox, thread))
        return inbox

    yield run
    for inbox, thread in running:
        inbox.stop()
        thread.join()


def empty(bus: MessageBus) -> bool:
    standing = bus.standing(REPO)
    return standing.waiting == standing.in_hand == 0


def test_going_on_to_the_next_acknowledges_the_last(bus: MessageBus):
    for n in range(300):
        bus.send(REPO, "note", n)

    got = []
    for message in bus.receive(REPO):
        got.append(message.payload)
        if len(got) == 300:
            break

    assert got == list(range(300))
    assert [message.payload for message in bus.peek(REPO)] == [299]


def test_a_body_that_fails_gives_back_what_it_had_without_blame(bus: MessageBus):
    for n in range(3):
        bus.send(REPO, "note", n)

    def fail() -> None:
        for message in bus.receive(REPO):
            raise LookupError(message.payload)

    with pytest.raises(LookupError):
        fail()

    assert [(m.payload, m.deliveries, m.reader) for m in bus.peek(REPO)] == [
        (0, 1, ""),
        (1, 1, ""),
        (2, 1, ""),
    ]


def test_the_body_may_acknowledge_with_effects_itself(bus: MessageBus, client: redis.Redis):
    for n in range(5):
        bus.send(REPO, "note", n)

    with bus.receive(REPO) as inbox:
        for _ in range(5):
            message = inbox.next()
            assert inbox.ack(
                message, effects=lambda pipe, message=message: pipe.rpush("done", message.payload)
            )

    assert client.lrange("done", 0, -1) == [b"0", b"1", b"2", b"3", b"4"]
    assert empty(bus)


def test_a_handler_that_returns_acknowledges_and_one_that_raises_gets_it_again_first(
    bus: MessageBus, begin: Begin
):
    got: list[tuple[int, int]] = []

    def handler(message: Message) -> None:
        got.append((message.payload, message.deliveries))
        if message.deliveries < 3 and message.payload == 1:
            raise LookupError("not yet")

    begin(handler)
    for n in range(4):
        bus.send(REPO, "note", n)

    until(lambda: empty(bus))
    assert got == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1), (3, 1)]


def test_why_a_handler_failed_is_written_on_the_dead_letter(bus: MessageBus, begin: Begin):
    def handler(message: Message) -> None:
        raise LookupError("there is no such invoice")

    begin(handler)
    bus.send(REPO, "note")

    (dead,) = until(bus.dead)
    assert dead.why == "LookupError: there is no such invoice"


def test_a_handler_may_take_longer_than_the_idle_time(bus: MessageBus, client: redis.Redis, begin: Begin):
    hasty = MessageBus(client, "test", limits=Limits(idle=timedelta(milliseconds=300)))
    go, began = Event(), []

    def handler(message: Message) -> None:
        began.append(message.payload)
        go.wait()

    for n in range(2):
        bus.send(REPO, "note", n)
    begin(handler, on=hasty)
    until(lambda: began)
    first = client.zrange("test:inbox-pending:repo:billing", 0, 0, withscores=True)[0][1]

    until(lambda: int(client.time()[0]) * 1000 > first + 1000)
    assert hasty.take(REPO, "another").messages == ()

    go.set()
    until(lambda: empty(bus))
    assert began == [0, 1]


def test_what_was_done_is_acknowledged_though_the_next_takes_long(bus: MessageBus, begin: Begin):
    go = Event()
    for n in range(2):
        bus.send(REPO, "note", n)

    begin(lambda message: message.payload and go.wait())

    until(lambda: [message.payload for message in bus.peek(REPO)] == [1])
    go.set()


def test_whoever_waits_is_woken_by_what_comes(bus: MessageBus, client: redis.Redis, begin: Begin):
    """With an interval of an hour only the wake-up can bring it."""
    patient = MessageBus(client, "test", limits=Limits(interval=timedelta(hours=1)))
    got: list[object] = []
    inbox = begin(
        lambda message: got.append(message.payload) or (len(got) == 20 and inbox.stop()), on=patient
    )

    for n in range(20):
        until(lambda: client.hexists("test:inbox-facts:repo:billing", "waits"))
        bus.send(REPO, "note", n)
        until(lambda n=n: len(got) > n)

    assert got == list(range(20))


def test_a_lost_wake_up_costs_an_interval_and_no_more(bus: MessageBus, client: redis.Redis, begin: Begin):
    got: list[object] = []
    begin(lambda message: got.append(message.payload))
    # A sender believes now that nobody waits.
    until(lambda: client.hdel("test:inbox-facts:repo:billing", "waits"))

    bus.send(REPO, "note", 1)

    until(lambda: got == [1])


def test_nothing_within_the_timeout_is_none(bus: MessageBus):
    with bus.receive(REPO) as inbox:
        assert inbox.next(timedelta(milliseconds=1)) is None
        bus.send(REPO, "note", 1)
        assert inbox.next(LONG).payload == 1


def test_two_readers_share_the_work_and_keep_each_senders_order(
    bus: MessageBus, client: redis.Redis, begin: Begin
):
    got: dict[str, list[tuple[str, int]]] = {"a": [], "b": []}
    everything: list[tuple[str, int]] = []

    def handler(reader: str) -> Callable[[Message], None]:
        def note(message: Message) -> None:
            got[reader].append((message.sender, message.payload))
            everything.append((message.sender, message.payload))

        return note

    for reader in got:
        begin(handler(reader), reader=reader, prefetch=4)
    senders = [MessageBus(client, "test", sender=f"s{n}") for n in range(6)]
    for n in range(40):
        for sender in senders:
            sender.send(REPO, "note", n)

    until(lambda: len(everything) >= 240 and empty(bus), 30)
    for sender in range(6):
        assert [n for who, n in everything if who == f"s{sender}"] == list(range(40))
    assert all(got.values())


def test_a_slow_reader_has_few_in_hand(bus: MessageBus, begin: Begin):
    go = Event()
    for n in range(50):
        bus.send(REPO, "note", n)

    begin(lambda message: go.wait())

    until(lambda: bus.standing(REPO).in_hand)
    assert bus.standing(REPO).in_hand < 5
    go.set()
    until(lambda: empty(bus))


def test_the_reader_is_told_once_of_what_was_trimmed(client: redis.Redis):
    bus = MessageBus(client, "test", limits=Limits(inbox_limit=2))
    bus.register(REPO)
    for n in range(5):
        bus.send(REPO, "note", n)

    with bus.receive(REPO) as inbox:
        assert (inbox.recovered, inbox.trimmed) == (False, 3)
        assert [inbox.next().payload for _ in range(2)] == [3, 4]
        assert inbox.next(timedelta(milliseconds=1)) is None
        assert inbox.trimmed == 3
        position = inbox.position

    with bus.receive(REPO, since=position) as inbox:
        assert inbox.recovered
        assert [inbox.next().payload for _ in range(2)] == [3, 4]


def test_who_is_stopped_finishes_what_is_begun_and_gives_back_the_rest(bus: MessageBus):
    for n in range(5):
        bus.send(REPO, "note", n)
    inbox = bus.receive(REPO)

    inbox.run(lambda message: message.payload == 1 and inbox.stop())

    assert [message.payload for message in bus.peek(REPO)] == [2, 3, 4]
    assert bus.standing(REPO).in_hand == 0


def test_a_request_gets_its_reply_and_leaves_nothing(bus: MessageBus, client: redis.Redis, begin: Begin):
    begin(lambda message: bus.reply(message, {"sum": sum(message.payload)}))

    assert bus.request(REPO, "add", [1, 2, 3], timeout=LONG) == {"sum": 6}

    assert bus.recipients() == (REPO,)
    assert not [key for key in client.keys("test:inbox*") if b"reply:" in key]


def test_a_request_that_nobody_answers_says_so_within_its_time(bus: MessageBus):
    with pytest.raises(NoReply, match="repo:billing did not reply to 'add'"):
        bus.request(REPO, "add", timeout=SHORT)

    assert bus.recipients() == (REPO,)


def test_a_reply_that_comes_too_late_is_told_that_nobody_waits(bus: MessageBus):
    with pytest.raises(NoReply):
        bus.request(REPO, "add", timeout=SHORT)
    bus.send(REPO, "add", reply_to="reply:gone")

    (message,) = bus.take(REPO, "r1").messages

    with pytest.raises(NotFound, match="there is no recipient"):
        bus.reply(message)


def test_a_message_that_wants_no_reply_gets_none(bus: MessageBus):
    bus.send(REPO, "note")

    with pytest.raises(UsageError, match="does not expect a reply"):
        bus.reply(bus.take(REPO, "r1").messages[0])


def test_a_redis_that_is_away_is_waited_for_as_long_as_one_is_patient(free_port: int):
    bus = MessageBus(redis.Redis(port=free_port), "test")

    with pytest.raises(Unreachable):
        next(iter(bus.receive(REPO, patience=SHORT)))
    with pytest.raises(Unreachable):
        bus.request(REPO, "note", timeout=SHORT)
