"""Delivery of messages, for clients of text and of bytes. Any order: test_messages_machine.py."""

from __future__ import annotations

from datetime import timedelta

import pytest

from coordination.backend.client import Profile, connect
from coordination.errors import NotFound, UsageError
from coordination.messages import Limits, Message, MessageBus
from tests.waiting import until

REPO = "repo:billing"
SOON = timedelta(milliseconds=30)


@pytest.fixture(params=["decoded", "bytes"])
def bus(request: pytest.FixtureRequest, redis_url: str) -> MessageBus:
    client = connect(redis_url, Profile.COMMAND, decode=request.param == "decoded")
    made = MessageBus(client, "test", limits=Limits(idle=timedelta(seconds=60), retry=SOON))
    made.register(REPO)
    return made


def impatient(bus: MessageBus, **more: object) -> MessageBus:
    """One whose readers are given up at once when they say nothing."""
    return MessageBus(bus.steps.redis, "test", limits=Limits(**{"idle": SOON, "retry": SOON, **more}))


def take(bus: MessageBus, reader: str = "r1", limit: int = 10) -> list[Message]:
    return list(bus.take(REPO, reader, limit).messages)


def test_a_message_is_handed_out_once_until_it_is_acknowledged_and_then_leaves_nothing(bus: MessageBus):
    before = set(bus.steps.redis.keys())
    bus.send(REPO, "note", "less urgent", priority=-100)
    sent = bus.send(REPO, "note", {"text": "grüß dich", "n": [1, None]}, priority=100)

    message, other = take(bus)

    assert (message.id, message.to, message.type, message.priority) == (sent, REPO, "note", 100)
    assert message.payload == {"text": "grüß dich", "n": [1, None]}
    assert take(bus, "r2") == []
    assert [bus.ack(message), bus.ack(message), bus.ack(other)] == [True, False, True]
    left = {key if isinstance(key, str) else key.decode() for key in set(bus.steps.redis.keys()) - before}
    assert left == {"test:readers", "test:inbox-stream:repo:billing"}
    assert bus.steps.redis.xlen("test:inbox-stream:repo:billing") == 0

    bus.send(REPO, "tick", ack=False)
    (tick,) = take(bus)
    assert (tick.wants_ack, bus.ack(tick), bus.standing(REPO).in_hand) == (False, True, 0)


def test_a_message_of_a_silent_reader_goes_to_another_and_only_that_one_has_its_effect(bus: MessageBus):
    for n in range(2):
        bus.send(REPO, "note", n)
    hasty = impatient(bus)
    (old, _) = hasty.take_ahead(REPO, "r1", 2, None).messages

    new, next_ = until(lambda: take(hasty, "r2"))

    assert [(message.id, message.deliveries) for message in (new, next_)] == [(old.id, 2), (next_.id, 1)]
    assert (bus.extend(old), bus.extend(new), bus.nack(old, "too late")) == ((old,), (), ())
    assert [bus.ack(one, effects=lambda pipe: pipe.incr("effects")) for one in (old, new, new)] == [
        False,
        True,
        False,
    ]
    assert int(bus.steps.redis.get("effects")) == 1
    assert set(bus.nack(next_, "not now")) == {next_.offset}


def test_while_a_refused_message_waits_its_sender_waits_and_others_do_not(bus: MessageBus):
    slow = MessageBus(bus.steps.redis, "test", limits=Limits(retry=timedelta(hours=1)))
    bus.send(REPO, "note", "refused")
    slow.nack(take(bus)[0])

    bus.send(REPO, "note", "behind it")
    MessageBus(bus.steps.redis, "test", sender="other").send(REPO, "note", "beside it")

    (beside,) = take(bus)
    assert beside.payload == "beside it"
    bus.ack(beside)
    due = bus.take(REPO, "r1", 10).due
    assert due is not None
    assert timedelta(minutes=59) < due <= timedelta(hours=1)


def test_a_message_refused_five_times_is_a_dead_letter_that_can_be_sent_again(bus: MessageBus):
    sent = bus.send(REPO, "note", {"n": 1}, priority=7)
    for n in range(1, 6):
        (message,) = until(lambda: take(bus))
        assert message.deliveries == n
        bus.nack(message, f"try {n}")

    (dead,) = bus.dead(REPO)
    assert (dead.message.id, dead.message.payload, dead.why) == (sent, {"n": 1}, "try 5")
    assert dead.message.deliveries == 5
    assert bus.dead("repo:other") == ()
    assert (bus.standing(REPO).dead, bus.standing(REPO).in_hand, bus.standing(REPO).waiting) == (1, 0, 0)

    assert bus.resend(dead.id) == sent
    (message,) = take(bus)
    assert (message.id, message.priority, message.deliveries) == (sent, 7, 1)
    assert bus.dead() == ()
    with pytest.raises(NotFound, match="no dead letter"):
        bus.resend(dead.id)


def test_a_dead_letter_of_silent_readers_stays_when_its_recipient_is_forgotten(bus: MessageBus):
    bus.send(REPO, "note")
    hasty = impatient(bus, deliveries=3)
    until(lambda: (take(hasty) and False) or bus.dead())
    assert "not heard of" in bus.dead()[0].why
    bus.forget(REPO)

    with pytest.raises(NotFound, match="no longer exists"):
        bus.resend(bus.dead()[0].id)

    assert [letter.message.deliveries for letter in bus.dead()] == [3]


@pytest.mark.parametrize("dead_id", ["x", "", "1-", "5-5-5", "-"])
def test_an_invalid_id_of_a_dead_letter_is_refused(bus: MessageBus, dead_id: str):
    with pytest.raises((NotFound, UsageError)):
        bus.resend(dead_id)


def test_effects_that_raise_leave_the_message_in_hand(bus: MessageBus):
    bus.send(REPO, "note")
    (message,) = take(bus)

    def broken(pipe: object) -> None:
        raise LookupError("no idea")

    with pytest.raises(LookupError):
        bus.ack(message, effects=broken)

    assert bus.ack(message)


def test_effects_are_tried_again_when_the_inbox_changes_meanwhile(bus: MessageBus):

    for n in range(2):
        bus.send(REPO, "note", n)
    first, second = take(bus)
    calls = []

    def effects(pipe: object) -> None:
        if not calls:
            bus.ack(second)
        calls.append(1)
        pipe.incr("effects")

    assert bus.ack(first, effects=effects)

    assert len(calls) == 2
    assert int(bus.steps.redis.get("effects")) == 1


def test_peek_takes_nothing_and_can_leave_out_payloads(bus: MessageBus):
    for n in range(3):
        bus.send(REPO, "note", n)
    take(bus, "r1", 1)

    assert [(message.payload, message.reader) for message in bus.peek(REPO)] == [(0, "r1"), (1, ""), (2, "")]
    assert bus.standing(REPO).waiting == 2

    first, seen = bus.peek(REPO, 2, payloads=False)
    assert (first.payload, seen.type, seen.payload) == (None, "note", None)
    assert bus.settle(seen) == ()
    assert bus.settle(seen) == (seen,)


def test_readers_are_listed(bus: MessageBus):
    assert bus.presence() == ()
    take(bus, "r1")

    (there,) = bus.presence()

    assert (there.recipient, there.reader) == (REPO, "r1")
    assert there.pid > 0
    assert there.age < timedelta(minutes=1)


def test_large_messages_come_a_few_at_a_time_in_order(bus: MessageBus):
    for n in range(40):
        bus.send(REPO, "note", [n, "x" * 1_000_000])

    got = []
    while messages := take(bus, "r1", 1000):
        assert len(messages) <= 16
        got += [message.payload[0] for message in messages]

    assert got == list(range(40))


@pytest.mark.parametrize("limit", [-1, 1001])
def test_an_invalid_number_of_messages_is_refused(bus: MessageBus, limit: int):
    with pytest.raises(UsageError, match="invalid number of messages"):
        bus.take(REPO, "r1", limit)
