"""Contract of messages: what was handed out by an answer that never arrived, or to a process that is gone,
overtakes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from coordination.backend.client import Profile, connect
from coordination.messages import MessageBus

TO = "repo:billing"
SOON = timedelta(seconds=20)


@pytest.fixture
def bus(redis_url: str) -> Iterator[MessageBus]:
    with connect(redis_url, Profile.WORKER) as client:
        made = MessageBus(client, "test", sender="me")
        made.register(TO)
        for number in range(6):
            made.send(TO, "number", number)
        yield made


def test_what_a_reader_never_got_to_know_of_comes_before_what_was_sent_later(bus: MessageBus) -> None:
    bus.take_ahead(TO, "reader", 3, None)  # and the answer is lost

    with bus.receive(TO, reader="reader") as inbox:
        found = [inbox.next(SOON) for _ in range(6)]

    assert [message and message.payload for message in found] == list(range(6))
    assert {message and message.deliveries for message in found} == {1}


def test_what_a_reader_has_in_hand_it_is_not_given_again(bus: MessageBus) -> None:
    with bus.receive(TO, reader="reader") as inbox:
        held = [message for _ in range(6) if (message := inbox.next(SOON))]
        assert inbox.next(timedelta(milliseconds=5)) is None

        assert [message.payload for message in held] == list(range(6))
        assert all(inbox.ack(message) for message in held)


def test_what_others_have_in_hand_stays_with_them(bus: MessageBus) -> None:
    held = bus.take_ahead(TO, "other", 3, None).messages

    with bus.receive(TO, reader="reader") as inbox:
        assert inbox.next(timedelta(milliseconds=5)) is None

    assert all(bus.ack(message) for message in held)


def test_what_a_reader_has_done_is_acknowledged_before_it_is_given_more(bus: MessageBus) -> None:
    done = bus.take_ahead(TO, "reader", 3, None).messages

    found = bus.take_ahead(TO, "reader", 6, None, known=(), done=done)

    assert [message.payload for message in found.messages] == [3, 4, 5]
    assert not found.lost
    assert not any(bus.ack(message) for message in done)
    assert {message.offset for message in bus.peek(TO)} == {message.offset for message in found.messages}


def test_what_is_somebody_elses_by_now_stays_with_them_and_the_old_reader_is_told(bus: MessageBus) -> None:
    done = bus.take_ahead(TO, "reader", 3, None).messages
    bus.hand_back(*done)
    held = bus.take_ahead(TO, "other", 3, None).messages

    found = bus.take_ahead(TO, "reader", 6, None, known=(), done=done)

    assert found.lost == done
    assert not found.messages, "the sender's lane is another's"
    assert all(bus.ack(message) for message in held)
