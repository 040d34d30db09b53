"""Publishing on a topic reaches listeners and subscribed inboxes."""

from __future__ import annotations

import pytest
import redis

from coordination.backend.keys import Keys
from coordination.errors import UsageError
from coordination.messages import Event, Gap, MessageBus
from coordination.messages.live import MOST_PATTERNS

LONG_S = 60


@pytest.fixture
def bus(redis_url: str) -> MessageBus:
    return MessageBus(redis.Redis.from_url(redis_url), "coord", sender="repo:api")


def test_an_event_reaches_matching_listeners_and_subscribed_inboxes(bus: MessageBus) -> None:
    bus.subscribe("agent:ann", "vbia_events")
    with bus.listen("a.*") as some, bus.listen("vbia_events", "a.*", "**") as all_of_it:
        assert bus.publish("vbia_events", {"n": 1}) == 3
        assert bus.publish("a.b", "text", type="ready") == 2
        events = all_of_it.events(LONG_S)
        first, second = next(events), next(events)
        only = next(some.events(LONG_S))

    assert isinstance(first, Event)
    assert isinstance(second, Event)
    assert (first.topic, first.type, first.payload, first.sender) == (
        "vbia_events",
        "event",
        {"n": 1},
        "repo:api",
    )
    assert (second.topic, second.type, second.payload) == ("a.b", "ready", "text")
    assert only == second
    assert [message.payload for message in bus.peek("agent:ann")] == [{"n": 1}]


def test_what_was_published_before_or_is_unsubscribed_is_not_heard(bus: MessageBus) -> None:
    bus.publish("a", "before")
    with bus.listen("a", "b") as heard:
        heard.unsubscribe("a")
        bus.publish("a", 1)
        bus.publish("b", 2)
        assert next(heard.events(LONG_S)).payload == 2


def test_a_listener_is_told_of_a_gap_and_of_nothing_that_is_no_event(bus: MessageBus) -> None:
    channel = Keys("coord").messages.live("a")
    with bus.listen("a") as heard:
        bus.steps.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        assert next(heard.events(LONG_S)) == Gap()
        for rubbish in (
            "",
            "x",
            "1 a/1 t\n{",
            "1e99 a/1 t\n1",
            "9" * 30 + " a/1 t\n1",
            "1 a/1 t\nNaN",
            b"\xff\xfe",
        ):
            bus.steps.redis.publish(channel, rubbish)
        bus.publish("a", 1)
        assert next(heard.events(LONG_S)).payload == 1


def test_what_cannot_be_published_or_subscribed_to_is_refused(bus: MessageBus) -> None:
    for name in ("a.*", "", "a b"):
        with pytest.raises(UsageError):
            bus.publish(name, 1)
    with pytest.raises(UsageError):
        bus.publish("a", "x" * 300_000)
    with pytest.raises(UsageError):
        bus.listen(*(f"a.{n}" for n in range(MOST_PATTERNS + 1)))
