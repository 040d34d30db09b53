"""Limits of a client: messages in flight and events published, decided without a connection."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis

from coordination.errors import Conflict
from coordination.events.records import Batch
from coordination.events.stream import EventStream
from coordination.gateway.limits import LARGE, Limits, Welcome, Window
from coordination.gateway.topics import ClientTopics, GatewayTopics
from coordination.messages import Message, Position, Taken

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def message(offset: int, **more: Any) -> Message:
    given = {"payload": "much", "sender": "repo:s", "sent_at": NOW, **more}
    return Message(id=f"repo:s/{offset}", to="agent:a", type="t", offset=offset, **given)


def taken(*messages: Message, epoch: str = "1", offset: int = 10, trimmed: int = 0, missed: int = 0) -> Taken:
    position = Position(epoch, offset, trimmed)
    return Taken(messages=messages, recovered=not missed, trimmed=missed, position=position)


def test_the_first_look_is_told_as_the_inbox_says_it():
    window = Window(4, Position("1", 5, 0))

    assert window.observe(taken(trimmed=2, missed=2)) == Welcome(
        position=Position("1", 10, 2), recovered=False, missed=2
    )


@pytest.mark.parametrize(
    ("later", "told"),
    [
        (taken(), None),
        (taken(offset=12), None),
        (taken(trimmed=3), Welcome(position=Position("1", 10, 3), recovered=False, missed=2)),
        (taken(epoch="2", offset=0), Welcome(position=Position("2", 0, 0), recovered=False, missed=0)),
        (
            taken(offset=9),
            Welcome(position=Position("1", 9, 0), recovered=False, missed=0),
        ),  # an older state of the data
    ],
)
def test_a_client_is_told_again_when_something_is_missing(later: Taken, told: Welcome | None):
    window = Window(4, None)
    window.observe(taken(trimmed=1 if told and told.missed else 0))

    assert window.observe(later) == told


def test_a_client_is_told_again_after_an_absence_though_nothing_is_missing():
    window = Window(4, None)
    window.observe(taken())

    assert window.observe(taken(), anew=True) == Welcome(
        position=Position("1", 10, 0), recovered=True, missed=0
    )


def test_what_a_client_certainly_knows_is_what_it_was_told_before_what_it_acknowledges():
    window = Window(4, None)
    window.observe(taken())
    window.add([message(1)], 0)
    window.observe(taken(trimmed=5))
    window.add([message(2)], 0)

    assert window.since is None
    window.acknowledge("repo:s/1")
    assert window.since == Position("1", 10, 0)
    window.acknowledge("repo:s/2")
    assert window.since == Position("1", 10, 5)


def test_there_is_room_for_more_at_once_while_messages_are_small_and_for_one_when_they_are_large():
    window = Window(8, None)
    rooms = []
    for characters in (10, 10, 10, 10, LARGE + 1, 10):
        rooms.append(window.room)
        window.adapt_batch_size(characters)

    assert rooms == [1, 2, 4, 8, 8, 1]


def test_a_full_window_has_no_room_until_something_is_done():
    window = Window(2, None)
    window.observe(taken())
    window.add([message(1), message(2), message(3, wants_ack=False)], 0)

    assert window.room == 0
    window.acknowledge("repo:s/1")
    assert window.room == 1
    assert [held.payload for held in window.messages] == [None]


def test_what_is_not_in_hand_is_a_conflict():
    window = Window(2, None)
    window.observe(taken())
    window.add([message(1), message(2)], 0)
    window.drop({1})

    with pytest.raises(Conflict, match="not in flight"):
        window.message("repo:s/1")
    assert window.message("repo:s/2").offset == 2


def test_the_oldest_in_hand_is_the_clients_to_extend_and_what_is_behind_it_is_kept_for_it():
    window = Window(4, None)
    window.observe(taken())
    window.add([message(1), message(2), message(3)], 0)

    assert [m.offset for m in window.behind_oldest(20, idle_s=30)] == [2, 3]
    window.extend("repo:s/1", 25)
    assert [m.offset for m in window.behind_oldest(40, idle_s=30)] == [2, 3]
    assert [m.offset for m in window.behind_oldest(56, idle_s=30)] == [2, 3]  # and 1 is the client's no more
    assert [m.offset for m in window.messages] == [2, 3]
    assert [m.offset for m in window.behind_oldest(80, idle_s=30)] == [3]


async def _say(_: str) -> None: ...


async def _read(since: str) -> Batch:
    return Batch(events=(), position=since)


def test_a_flood_of_events_is_refused_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("coordination.gateway.topics.time.monotonic", lambda: now[0])
    here = GatewayTopics(EventStream(Redis(), "coord"), "")
    client = ClientTopics(here, ["**"], Limits(publish_per_s=10, publish_burst=20), _say, _read)

    for _ in range(20):
        client.may_publish("a")
    with pytest.raises(Conflict, match="10 events a second"):
        client.may_publish("a")
    now[0] += 1
    for _ in range(10):
        client.may_publish("a")
    with pytest.raises(Conflict):
        client.may_publish("a")
