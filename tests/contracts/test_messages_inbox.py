"""Reading an inbox: as an iterator, with a handler, and as a request that waits for its reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from threading import Event, Thread

import pytest
import redis

from coordination.errors import NoReply, NotFound, Unreachable, UsageError
from coordination.messages import Inbox, Limits, Message, MessageBus, Position
from tests.waiting import until

REPO = "repo:billing"
SHORT = timedelta(milliseconds=50)
LONG = timedelta(seconds=30)

Begin = Callable[..., Inbox]


@pytest.fixture
def client(redis_url: str) -> redis.Redis:
    """As anybody makes one: with an answer's patience that is shorter than a reader's wait."""
    return redis.Redis.from_url(redis_url, socket_timeout=1)


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


def test_a_message_whose_handler_raises_comes_again_first(bus: MessageBus, begin: Begin):
    got: list[tuple[int, int]] = []

    def handler(message: Message) -> None:
        got.append((message.payload, message.deliveries))
        if message.payload == 3 or (message.payload == 1 and message.deliveries < 3):
            raise LookupError("there is no such invoice")

    begin(handler)
    for n in range(4):
        bus.send(REPO, "note", n)

    (dead,) = until(bus.dead)
    assert dead.why == "LookupError: there is no such invoice"
    assert got == [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1), *((3, n) for n in range(1, 6))]
    assert empty(bus)


def test_a_handler_may_take_longer_than_the_idle_time(bus: MessageBus, client: redis.Redis, begin: Begin):
    hasty = MessageBus(client, "test", limits=Limits(idle=timedelta(seconds=2)))
    go, began = Event(), []

    def handler(message: Message) -> None:
        began.append(message.payload)
        go.wait()

    for n in range(2):
        bus.send(REPO, "note", n)
    begin(handler, on=hasty)
    until(lambda: began)
    first = client.zrange("test:inbox-pending:repo:billing", 0, 0, withscores=True)[0][1]

    until(lambda: int(client.time()[0]) * 1000 > first)
    assert hasty.take(REPO, "another").messages == ()

    go.set()
    until(lambda: empty(bus))
    assert began == [0, 1]


def test_a_reader_logs_that_another_took_its_message_over(
    bus: MessageBus, client: redis.Redis, caplog: pytest.LogCaptureFixture
):
    bus.send(REPO, "note", 0)
    hasty = MessageBus(client, "test", limits=Limits(idle=timedelta(milliseconds=300)))
    with hasty.receive(REPO, reader="r") as inbox:
        assert inbox.next(LONG)
        assert bus.hand_back_all(REPO, "r") == 1
        until(lambda: "was taken over" in caplog.text)


def test_what_was_done_is_acknowledged_though_the_next_takes_long(bus: MessageBus, begin: Begin):
    go = Event()
    for n in range(2):
        bus.send(REPO, "note", n)

    begin(lambda message: message.payload and go.wait())

    until(lambda: [message.payload for message in bus.peek(REPO)] == [1])
    go.set()


def test_a_waiting_reader_is_woken_by_a_message(bus: MessageBus, client: redis.Redis, begin: Begin):
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
    # A sender now believes that no reader waits.
    until(lambda: client.hdel("test:inbox-facts:repo:billing", "waits"))

    bus.send(REPO, "note", 1)

    until(lambda: got == [1])


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

    until(lambda: len(everything) >= 240 and empty(bus))
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


def test_a_stopped_reader_finishes_its_message_and_returns_the_rest(bus: MessageBus):
    for n in range(5):
        bus.send(REPO, "note", n)
    inbox = bus.receive(REPO)

    inbox.run(lambda message: message.payload == 1 and inbox.stop())

    assert [message.payload for message in bus.peek(REPO)] == [2, 3, 4]
    assert bus.standing(REPO).in_hand == 0


def test_a_reader_gets_first_what_an_answer_that_was_lost_gave_it_and_nothing_twice(bus: MessageBus):
    for n in range(6):
        bus.send(REPO, "note", n)
    bus.take_ahead(REPO, "reader", 3, None)  # and the answer is lost

    with bus.receive(REPO, reader="reader") as inbox:
        held = [message for _ in range(6) if (message := inbox.next(LONG))]
        assert inbox.next(timedelta(milliseconds=5)) is None

        assert [(message.payload, message.deliveries) for message in held] == [(n, 1) for n in range(6)]
        assert all(inbox.ack(message) for message in held)


@pytest.mark.parametrize("handed_back", [False, True])
def test_a_reader_is_given_more_once_its_own_messages_are_acknowledged(bus: MessageBus, handed_back: bool):
    for n in range(6):
        bus.send(REPO, "note", n)
    done = bus.take_ahead(REPO, "reader", 3, None).messages
    if handed_back:
        bus.hand_back(*done)
        held = bus.take_ahead(REPO, "other", 3, None).messages

    found = bus.take_ahead(REPO, "reader", 6, None, known=(), done=done)

    if handed_back:
        assert (found.lost, found.messages) == (done, ()), "they and their sender's lane are another's"
        assert all(bus.ack(message) for message in held)
    else:
        assert ([message.payload for message in found.messages], found.lost) == ([3, 4, 5], ())
        assert not any(bus.ack(message) for message in done)


def test_a_position_that_names_more_than_was_trimmed_silences_nobody(client: redis.Redis):
    bus = MessageBus(client, "test", limits=Limits(inbox_limit=2))
    bus.register(REPO)
    for n in range(3):
        bus.send(REPO, "note", n)
    taken = bus.take(REPO, "r1", 0)
    here = taken.position
    assert Position.parse(str(here)) == here
    assert (taken.epoch, taken.offset) == (here.epoch, here.offset)

    assert not bus.take(REPO, "r1", 0, since=Position(here.epoch, here.offset, 10**9)).recovered

    assert bus.take(REPO, "r1", 0).trimmed == 1


@pytest.mark.parametrize(
    "text", ["", "1", "1:2", "1:2:x", "a:1:1", ":1:1", "1:2:3:4", "1:-2:3", "1:²:3", "x" * 10_000]
)
def test_an_invalid_position_is_refused(text: str):
    with pytest.raises(UsageError, match="invalid position"):
        Position.parse(text)


def test_a_sweep_forgets_processes_that_are_gone_and_nobody_else(client: redis.Redis):
    bus = MessageBus(client, "test", limits=Limits(gone=timedelta(milliseconds=20)))
    for recipient in (REPO, "worker:w1", "reply:abc"):
        bus.register(recipient)

    gone = set()
    until(lambda: gone.update(bus.sweep().forgotten) or len(gone) == 2)

    assert gone == {"worker:w1", "reply:abc"}
    assert bus.recipients() == (REPO,)
    MessageBus(client, "test").take("worker:w1", "r1")
    assert MessageBus(client, "test").sweep().forgotten == ()


def test_a_request_gets_its_reply_and_leaves_nothing(bus: MessageBus, client: redis.Redis, begin: Begin):
    begin(lambda message: bus.reply(message, {"sum": sum(message.payload)}))

    assert bus.request(REPO, "add", [1, 2, 3], timeout=LONG) == {"sum": 6}

    assert bus.recipients() == (REPO,)
    assert not [key for key in client.keys("test:inbox*") if b"reply:" in key]


def test_a_request_that_nobody_answers_says_so_within_its_time(bus: MessageBus):
    with pytest.raises(NoReply, match="repo:billing did not reply to 'add'"):
        bus.request(REPO, "add", timeout=SHORT)

    assert bus.recipients() == (REPO,)


def test_a_reply_that_nobody_waits_for_is_refused(bus: MessageBus):
    bus.send(REPO, "add", reply_to="reply:gone")
    bus.send(REPO, "note")
    late, unwanted = bus.take(REPO, "r1").messages[0], bus.take(REPO, "r1").messages[0]

    with pytest.raises(NotFound, match="there is no recipient"):
        bus.reply(late)
    with pytest.raises(UsageError, match="does not expect a reply"):
        bus.reply(unwanted)


def test_a_redis_that_is_away_is_waited_for_as_long_as_one_is_patient(free_port: int):
    bus = MessageBus(redis.Redis(port=free_port), "test")

    with pytest.raises(Unreachable):
        next(iter(bus.receive(REPO, patience=SHORT)))
    with pytest.raises(Unreachable):
        bus.request(REPO, "note", timeout=SHORT)
