"""Streams are followed from anywhere, over an outage of Redis, and not for ever where it stays away."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.errors import Unreachable, Unusable
from coordination.messages.bus import MessageBus
from coordination.messages.live import BEGINNING, Following
from coordination.runs.store import RunStore
from coordination.runs.views.pictures import gantt
from coordination.runs.views.timeline import follow
from coordination.settings import Settings
from tests.integration.conftest import submitted


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server that may be stopped."""
    made = EmbeddedServer(tmp_path_factory.mktemp("own") / ".coord", Settings())
    yield made
    made.stop()


def test_what_stands_there_and_what_comes_is_read_once_and_in_order(redis_url: str):
    with connect(redis_url, Profile.READER) as client:
        for n in range(2500):
            client.xadd("s", {"n": n})
        following = Following(client, {"s": BEGINNING}, hint="", tick_s=0.01)
        read = [entry.fields["n"] for _ in range(4) for entry in following.read()]
        client.xadd("s", {"n": 2500})

        assert [*read, *(entry.fields["n"] for entry in following.read())] == [str(n) for n in range(2501)]
        assert following.read() == []


def test_another_one_goes_on_where_the_first_one_was_in_every_stream(redis_url: str):
    with connect(redis_url, Profile.READER) as client:
        for stream in "ab":
            client.xadd(stream, {"n": 1})
        first = Following(client, {"a": BEGINNING, "b": BEGINNING}, hint="")
        assert [entry.stream for entry in first.read()] == ["a", "b"]
        for stream in "ba":
            client.xadd(stream, {"n": 2})

        second = Following(client, first.since, hint="")

        assert sorted((entry.stream, entry.fields["n"]) for entry in second.read()) == [
            ("a", "2"),
            ("b", "2"),
        ]


def test_what_is_no_event_in_a_runs_stream_is_passed_over_by_all_who_read_it(redis_url: str):
    with connect(redis_url, Profile.READER) as client:
        store = RunStore(client, "coord")
        harness = submitted(store, {"A": "r1", "B": "r2"})
        events = store.keys.run(harness.run_id).events
        before = [entry for entry, _ in client.xrange(events)]
        rubbish = ({b"\xff": "x"}, {"what": "todo.ready"}, {"what": "\x1b[2J", "todo": "A"}, {"todo": "A"})
        for fields in (*rubbish, {"what": "todo.running", "todo": "A", "attempt": "9" * 300}):
            client.xadd(events, fields)
        last = client.xadd(events, {"what": "run.paused", "todo": "", "by": "me"})

        followed = follow(client, store.keys, harness.run_id, tick_s=0.01)

        assert [e.id for e in itertools.takewhile(lambda e: e is not None, followed)] == [*before, last]
        assert "</svg>" in gantt(store, harness.run_id)


def test_what_is_no_dead_letter_is_passed_over(redis_url: str):
    with connect(redis_url, Profile.COMMAND) as client:
        bus = MessageBus(client, "coord")
        for fields in (
            {"x": "y"},
            {"to": "a", "ticket": "t", "sent_at": "x", "head": "", "body": "{", "deliveries": 1},
        ):
            client.xadd(bus.steps.keys.dead_letters, fields)

        assert bus.dead() == ()


def test_an_outage_is_a_few_ticks_without_anything_and_nothing_is_missed(own: EmbeddedServer):
    with connect(own.start(), Profile.READER) as client:
        client.xadd("s", {"n": 1})
        following = Following(client, {"s": BEGINNING}, hint="", tick_s=0.05)
        assert len(following.read()) == 1
        own.stop()
        assert [following.read() for _ in range(3)] == [[], [], []]

        own.start()
        with connect(own.start(), Profile.COMMAND) as other:
            other.xadd("s", {"n": 2})

        assert next(filter(None, (following.read() for _ in itertools.count())))[0].fields == {"n": "2"}


def test_a_follower_gives_up_after_its_patience_with_a_hint(own: EmbeddedServer):
    with connect(own.start(), Profile.READER) as client:
        following = Following(client, {"s": BEGINNING}, hint="look again later", patience_s=0.2, tick_s=0.01)
        own.stop()

        with pytest.raises(Unreachable, match=r"Redis has been away for 0 s: .* does not answer") as told:
            all(following.read() == [] for _ in itertools.count())

    assert told.value.hint == "look again later"


def test_what_no_waiting_mends_is_said_at_once(own: EmbeddedServer):
    with connect(own.start(), Profile.READER) as client:
        client.execute_command("ACL", "SETUSER", "default", "on", "nopass", "-@all", "+@connection")

        with pytest.raises(Unusable):
            Following(client, {"s": BEGINNING}, hint="").read()
