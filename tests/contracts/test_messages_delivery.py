"""Contract of delivery: handed out to one, kept until acknowledged, in order per sender, given up after too
many times.
"""

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


def payloads(messages: list[Message]) -> list[object]:
    return [message.payload for message in messages]


def test_what_was_sent_is_handed_out_once_until_it_is_acknowledged(bus: MessageBus):
    sent = bus.send(REPO, "note", {"text": "grüß dich", "n": [1, None]}, priority=3)

    (message,) = take(bus)

    assert (message.id, message.to, message.type, message.priority) == (sent, REPO, "note", 3)
    assert message.payload == {"text": "grüß dich", "n": [1, None]}
    assert take(bus, "r2") == []
    assert bus.ack(message)
    assert bus.standing(REPO).in_hand == bus.standing(REPO).waiting == 0


def test_nothing_is_left_of_what_was_acknowledged(bus: MessageBus):
    before = set(bus.steps.redis.keys())
    bus.send(REPO, "note")

    bus.ack(take(bus)[0])

    left = {key if isinstance(key, str) else key.decode() for key in set(bus.steps.redis.keys()) - before}
    assert left == {"test:readers", "test:inbox-stream:repo:billing"}
    assert bus.steps.redis.xlen("test:inbox-stream:repo:billing") == 0


def test_the_urgent_comes_first_and_equals_in_order_of_arrival(bus: MessageBus):
    for n, priority in enumerate([0, 5, -100, 5, 100]):
        bus.send(REPO, "note", n, priority=priority)

    assert payloads(take(bus)) == [4, 1, 3, 0, 2]


def test_a_second_acknowledgement_says_that_it_changed_nothing(bus: MessageBus):
    bus.send(REPO, "note")
    (message,) = take(bus)

    assert bus.ack(message)
    assert not bus.ack(message)


def test_what_nobody_is_heard_of_about_is_taken_over_and_the_old_reader_learns_it(bus: MessageBus):
    bus.send(REPO, "note")
    hasty = impatient(bus)
    (old,) = take(hasty, "r1")

    (new,) = until(lambda: take(hasty, "r2"))

    assert (new.id, new.deliveries) == (old.id, 2)
    assert not bus.ack(old)
    assert bus.extend(old) == (old,)
    assert bus.extend(new) == ()
    assert bus.ack(new)


def test_who_extends_keeps_it(bus: MessageBus):
    bus.send(REPO, "note")
    (message,) = take(impatient(bus), "r1")

    assert bus.extend(message) == ()

    (due,) = [
        score
        for _, score in bus.steps.redis.zrange("test:inbox-pending:repo:billing", 0, -1, withscores=True)
    ]
    assert due / 1000 > message.sent_at.timestamp() + 50
    assert take(bus, "r2") == []


def test_one_senders_messages_go_to_one_reader_as_long_as_it_has_any_in_hand(bus: MessageBus):
    other = MessageBus(bus.steps.redis, "test", sender="other")
    for n in range(3):
        bus.send(REPO, "note", n)
    other.send(REPO, "note", "from another")

    first = take(bus, "r1", 1)
    assert payloads(take(bus, "r2")) == ["from another"]
    assert payloads(take(bus, "r1", 1)) == [1]

    bus.ack(first[0])
    assert take(bus, "r2") == []


def test_when_a_lane_is_free_anybody_may_go_on(bus: MessageBus):
    for n in range(2):
        bus.send(REPO, "note", n)

    bus.ack(take(bus, "r1", 1)[0])

    assert payloads(take(bus, "r2")) == [1]


def test_after_a_refusal_nothing_of_its_sender_comes_before_it(bus: MessageBus):
    for n in range(3):
        bus.send(REPO, "note", n)
    first, second, third = take(bus, "r1")

    assert set(bus.nack(first, "not now")) == {first.offset, second.offset, third.offset}

    assert not bus.ack(second)
    again = until(lambda: take(bus, "r2"))
    assert payloads(again) == [0, 1, 2]
    assert [message.deliveries for message in again] == [2, 1, 1]


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


def test_of_a_dead_reader_only_what_it_had_begun_counts_as_delivered_in_vain(bus: MessageBus):
    for n in range(2):
        bus.send(REPO, "note", n)
    hasty = impatient(bus)
    hasty.take_ahead(REPO, "r1", 2, None)

    again = until(lambda: take(hasty, "r2"))

    assert [message.deliveries for message in again] == [2, 1]


def test_a_reader_that_leaves_hands_back_without_blame(bus: MessageBus):
    for n in range(2):
        bus.send(REPO, "note", n)
    bus.hand_back(*take(bus, "r1"))

    again = take(bus, "r2")

    assert [(message.payload, message.deliveries) for message in again] == [(0, 1), (1, 1)]
    assert bus.hand_back_all(REPO, "r2") == 2
    assert len(take(bus, "r3")) == 2


def test_after_five_deliveries_in_vain_it_is_a_dead_letter_that_says_why(bus: MessageBus):
    sent = bus.send(REPO, "note", {"n": 1})
    for n in range(1, 6):
        (message,) = until(lambda: take(bus))
        assert message.deliveries == n
        bus.nack(message, f"try {n}")

    (dead,) = bus.dead(REPO)

    assert (dead.message.id, dead.message.payload, dead.why) == (sent, {"n": 1}, "try 5")
    assert dead.message.deliveries == 5
    assert bus.dead("repo:other") == ()
    assert (bus.standing(REPO).dead, bus.standing(REPO).in_hand, bus.standing(REPO).waiting) == (1, 0, 0)


def test_behind_a_dead_letter_its_sender_goes_on(bus: MessageBus):
    for n in range(2):
        bus.send(REPO, "note", n)
    fatal = impatient(bus, deliveries=1)

    fatal.nack(take(bus)[0])

    assert payloads(take(bus)) == [1]


def test_who_dies_over_a_message_again_and_again_makes_a_dead_letter_of_it(bus: MessageBus):
    bus.send(REPO, "note")
    hasty = impatient(bus, deliveries=3)

    until(lambda: (take(hasty) and False) or bus.dead())

    assert "not heard of" in bus.dead()[0].why
    assert bus.dead()[0].message.deliveries == 3


def test_a_dead_letter_can_be_sent_again_once(bus: MessageBus):
    sent = bus.send(REPO, "note", 1, priority=7)
    impatient(bus, deliveries=1).nack(take(bus)[0])
    (dead,) = bus.dead()

    assert bus.resend(dead.id) == sent

    (message,) = take(bus)
    assert (message.id, message.priority, message.deliveries) == (sent, 7, 1)
    assert bus.dead() == ()
    with pytest.raises(NotFound, match="no dead letter"):
        bus.resend(dead.id)


def test_a_dead_letter_stays_where_its_recipient_is_forgotten(bus: MessageBus):
    bus.send(REPO, "note")
    impatient(bus, deliveries=1).nack(take(bus)[0])
    bus.forget(REPO)

    with pytest.raises(NotFound, match="no longer exists"):
        bus.resend(bus.dead()[0].id)

    assert len(bus.dead()) == 1


@pytest.mark.parametrize("dead_id", ["x", "", "1-", "5-5-5", "-"])
def test_what_is_no_dead_letter_is_refused_in_words(bus: MessageBus, dead_id: str):
    with pytest.raises((NotFound, UsageError)):
        bus.resend(dead_id)


def test_effects_happen_with_the_acknowledgement_and_only_for_who_has_the_message(bus: MessageBus):
    bus.send(REPO, "note")
    hasty = impatient(bus)
    (old,) = take(hasty, "r1")
    (new,) = until(lambda: take(hasty, "r2"))

    assert not bus.ack(old, effects=lambda pipe: pipe.incr("effects"))
    assert bus.ack(new, effects=lambda pipe: pipe.incr("effects"))
    assert not bus.ack(new, effects=lambda pipe: pipe.incr("effects"))

    assert int(bus.steps.redis.get("effects")) == 1


def test_effects_that_cannot_be_named_leave_the_message_in_hand(bus: MessageBus):
    bus.send(REPO, "note")
    (message,) = take(bus)

    def broken(pipe: object) -> None:
        raise LookupError("no idea")

    with pytest.raises(LookupError):
        bus.ack(message, effects=broken)

    assert bus.ack(message)


def test_effects_see_who_is_quicker(bus: MessageBus):
    """Between the look and the transaction somebody else changes the deliveries: it looks again."""
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


def test_what_wants_no_acknowledgement_is_handed_out_once_and_gone(bus: MessageBus):
    bus.send(REPO, "tick", ack=False)

    (message,) = take(impatient(bus))

    assert not message.wants_ack
    assert bus.ack(message)
    assert bus.standing(REPO).in_hand == 0


def test_who_looks_takes_nothing(bus: MessageBus):
    for n in range(3):
        bus.send(REPO, "note", n)
    take(bus, "r1", 1)

    seen = bus.peek(REPO)

    assert [(message.payload, message.reader) for message in seen] == [(0, "r1"), (1, ""), (2, "")]
    assert len(bus.peek(REPO, 2)) == 2
    assert bus.standing(REPO).waiting == 2


def test_who_looks_may_do_without_what_they_say(bus: MessageBus):
    bus.send(REPO, "note", "x" * 1000)

    (seen,) = bus.peek(REPO, payloads=False)

    assert (seen.type, seen.payload) == ("note", None)
    assert bus.settle(seen) == ()
    assert bus.settle(seen) == (seen,)


def test_who_reads_is_known(bus: MessageBus):
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
def test_so_many_at_once_are_refused(bus: MessageBus, limit: int):
    with pytest.raises(UsageError, match="invalid number of messages"):
        bus.take(REPO, "r1", limit)
