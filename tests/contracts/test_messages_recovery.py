"""Contract of what is missing: nothing is trimmed, and no data lost, without the recipient being told,
exactly and once.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.errors import UsageError
from coordination.messages import Limits, MessageBus, Position
from coordination.settings import Settings
from tests.waiting import until

REPO = "repo:billing"
KEPT = 5


@pytest.fixture
def client(redis_url: str) -> redis.Redis:
    return connect(redis_url, Profile.COMMAND)


@pytest.fixture
def bus(client: redis.Redis) -> MessageBus:
    """A bus with an inbox that keeps five messages for an absent recipient."""
    made = MessageBus(client, "test", limits=Limits(inbox_limit=KEPT))
    made.register(REPO)
    return made


def send(bus: MessageBus, *payloads: object, **how: object) -> None:
    for payload in payloads:
        bus.send(REPO, "note", payload, **how)


def waiting(bus: MessageBus) -> list[object]:
    return [message.payload for message in bus.peek(REPO)]


def test_as_many_as_are_kept_are_found_again(bus: MessageBus):
    send(bus, *range(KEPT))

    taken = bus.take(REPO, "r1", 10)

    assert [message.payload for message in taken.messages] == list(range(KEPT))
    assert (taken.recovered, taken.trimmed) == (True, 0)


def test_beyond_that_the_oldest_goes_and_the_recipient_is_told_how_many(bus: MessageBus):
    send(bus, *range(KEPT + 3))

    taken = bus.take(REPO, "r1", 10)

    assert [message.payload for message in taken.messages] == list(range(3, KEPT + 3))
    assert (taken.recovered, taken.trimmed) == (False, 3)


def test_what_is_urgent_outlives_what_is_not(bus: MessageBus):
    send(bus, "urgent", priority=1)
    send(bus, *range(KEPT))

    assert waiting(bus) == ["urgent", 1, 2, 3, 4]


def test_it_is_told_again_until_it_is_known_to_have_arrived(bus: MessageBus):
    send(bus, *range(KEPT + 1))
    told = bus.take(REPO, "r1", 0)
    assert not told.recovered
    assert not bus.take(REPO, "r2", 0).recovered

    assert bus.take(REPO, "r1", 0, since=told.position).recovered

    assert bus.take(REPO, "r3", 0).recovered


def test_a_position_tells_exactly_what_was_trimmed_since(bus: MessageBus):
    send(bus, *range(KEPT + 2))
    here = bus.take(REPO, "r1", 0).position
    send(bus, "a", "b", "c")

    later = bus.take(REPO, "r1", 0, since=here)

    assert (later.recovered, later.trimmed) == (False, 3)
    assert (later.epoch, later.offset) == (here.epoch, KEPT + 5)
    assert bus.take(REPO, "r1", 0, since=later.position).recovered


def test_a_position_that_knows_of_more_than_there_was_silences_nobody(bus: MessageBus):
    send(bus, *range(KEPT + 1))
    here = bus.take(REPO, "r1", 0).position

    assert not bus.take(REPO, "r1", 0, since=Position(here.epoch, here.offset, 10**9)).recovered

    assert bus.take(REPO, "r1", 0).trimmed == 1


def test_what_a_reader_has_in_hand_is_not_trimmed(bus: MessageBus):
    send(bus, *range(KEPT))
    taken = bus.take(REPO, "r1", KEPT)

    send(bus, *range(KEPT, 2 * KEPT))

    assert bus.take(REPO, "r1", 0).recovered
    assert all(bus.ack(message) for message in taken.messages)


def test_what_is_acknowledged_or_expired_is_not_missing(bus: MessageBus):
    send(bus, *range(KEPT), ttl=timedelta(milliseconds=1))
    here = bus.take(REPO, "r1", 0).position
    until(lambda: waiting(bus) == [])
    send(bus, *range(KEPT))

    taken = bus.take(REPO, "r1", 10, since=here)

    assert (taken.recovered, len(taken.messages)) == (True, KEPT)
    assert bus.standing(REPO).expired == KEPT


def test_a_full_inbox_drops_what_has_expired_before_what_has_not(bus: MessageBus):
    send(bus, "kept")
    send(bus, *range(KEPT - 1), ttl=timedelta(milliseconds=1))
    until(lambda: _passed(bus))

    send(bus, "new")

    assert waiting(bus) == ["kept", "new"]
    assert bus.take(REPO, "r1", 0).recovered


def _passed(bus: MessageBus) -> bool:
    """Return whether the server's clock has advanced by more than the ttl."""
    ends = [
        int(ticket.split(" ")[2][1:])
        for ticket in bus.steps.redis.zrange("test:inbox-ready:repo:billing", 1, -1)
    ]
    seconds, micros = bus.steps.redis.time()
    return seconds * 1000 + micros // 1000 > max(ends)


def test_after_the_retention_a_message_is_gone_and_that_is_told(client: redis.Redis):
    bus = MessageBus(client, "test", limits=Limits(inbox_keep=timedelta(milliseconds=20)))
    bus.register(REPO)
    send(bus, 1, 2, ttl=None)
    send(bus, 3, ttl=timedelta(hours=1))

    swept = until(lambda: (s := bus.sweep()).trimmed and s)

    assert (swept.trimmed, swept.expired) == (3, 0)
    assert (bus.take(REPO, "r1").recovered, bus.take(REPO, "r1").trimmed) == (False, 3)


def test_a_sweep_removes_what_expired_and_counts_it_apart(bus: MessageBus):
    send(bus, 1, ttl=timedelta(milliseconds=1))
    send(bus, 2)

    swept = until(lambda: (s := bus.sweep()).expired and s)

    assert (swept.trimmed, swept.expired, swept.forgotten) == (0, 1, ())
    assert waiting(bus) == [2]


def test_a_sweep_forgets_processes_that_are_gone_and_nobody_else(client: redis.Redis):
    bus = MessageBus(client, "test", limits=Limits(gone=timedelta(milliseconds=20)))
    for recipient in (REPO, "worker:w1", "reply:abc"):
        bus.register(recipient)

    gone = set()
    until(lambda: gone.update(bus.sweep().forgotten) or len(gone) == 2)

    assert gone == {"worker:w1", "reply:abc"}
    assert bus.recipients() == (REPO,)


def test_a_sweep_keeps_a_worker_that_is_heard_of(bus: MessageBus):
    bus.take("worker:w1", "r1")

    assert bus.sweep().forgotten == ()


def test_what_a_dead_reader_had_is_not_kept_for_ever(client: redis.Redis):
    limits = Limits(idle=timedelta(milliseconds=10), inbox_keep=timedelta(milliseconds=30))
    bus = MessageBus(client, "test", limits=limits)
    bus.register(REPO)
    send(bus, 1)
    bus.take(REPO, "r1")

    until(lambda: bus.sweep().trimmed)

    assert bus.standing(REPO).in_hand == 0


@pytest.mark.parametrize(
    "text", ["", "1", "1:2", "1:2:x", "a:1:1", ":1:1", "1:2:3:4", "1:-2:3", "1:²:3", "x" * 10_000]
)
def test_what_is_no_position_is_refused(text: str):
    with pytest.raises(UsageError, match="invalid position"):
        Position.parse(text)


def test_a_position_survives_as_text(bus: MessageBus):
    send(bus, 1)
    position = bus.take(REPO, "r1").position

    assert Position.parse(str(position)) == position


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server that may be killed."""
    made = EmbeddedServer(tmp_path / ".coord", Settings(appendfsync="always"))
    yield made
    made.stop()


def on(own: EmbeddedServer) -> MessageBus:
    return MessageBus(connect(own.start(), Profile.COMMAND), "test")


def test_a_server_that_comes_back_with_its_data_has_lost_nothing(own: EmbeddedServer):
    on(own).register(REPO)
    send(on(own), 1, 2)
    taken = on(own).take(REPO, "r1")

    own.stop()

    again = on(own).take(REPO, "r1", 10, since=taken.position)
    assert (again.recovered, [message.payload for message in again.messages]) == (True, [2])
    assert on(own).ack(taken.messages[0])


def test_a_server_that_comes_back_empty_says_so_to_who_was_there_before(own: EmbeddedServer):
    on(own).register(REPO)
    send(on(own), 1, 2)
    taken = on(own).take(REPO, "r1")

    own.stop()
    shutil.rmtree(own.state / "appendonlydir")

    assert not on(own).ack(taken.messages[0])
    again = on(own).take(REPO, "r1", since=taken.position)
    assert (again.recovered, again.trimmed, again.epoch != taken.epoch) == (False, 0, True)
    assert on(own).take(REPO, "r1", since=again.position).recovered


def test_a_server_that_comes_back_with_older_data_says_so_as_well(own: EmbeddedServer, tmp_path: Path):
    on(own).register(REPO)
    send(on(own), 1)
    own.stop()
    shutil.copytree(own.state / "appendonlydir", tmp_path / "older")
    send(on(own), 2)
    here = on(own).take(REPO, "r1", 10).position

    own.stop()
    shutil.rmtree(own.state / "appendonlydir")
    shutil.copytree(tmp_path / "older", own.state / "appendonlydir")

    assert not on(own).take(REPO, "r1", since=here).recovered
