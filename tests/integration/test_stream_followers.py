"""Streams are followed from anywhere, over an outage of Redis, and not for ever where it stays away."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import redis

from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.charts.gantt import gantt_svg
from coordination.errors import Unreachable, Unusable
from coordination.messages.bus import MessageBus
from coordination.runs.store import RunStore
from coordination.runs.views.run_events import RunEvent, all_events, follow
from coordination.settings import Settings
from tests.integration.conftest import submitted


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server that may be stopped."""
    made = EmbeddedServer(tmp_path_factory.mktemp("own") / ".coord", Settings())
    yield made
    made.stop()


def marked(client: redis.Redis, store: RunStore, run_id: str, n: int) -> str:
    return str(client.xadd(store.keys.run(run_id).events, {"what": "level.advanced", "todo": "", "n": n}))


def until_a_tick(followed: Iterator[RunEvent | None]) -> list[RunEvent]:
    return list(itertools.takewhile(lambda event: event is not None, followed))


def test_events_are_read_once_and_in_order_and_another_reader_continues(redis_url: str):
    with connect(redis_url, Profile.READER) as client:
        store = RunStore(client, "coord")
        run_id = submitted(store, {"A": "r1"}).run_id
        for n in range(2500):
            last = marked(client, store, run_id, n)
        followed = follow(client, store.keys, run_id, tick_s=0.01)
        read = until_a_tick(followed)
        assert [e.fields["n"] for e in read if "n" in e.fields] == [str(n) for n in range(2500)]
        assert next(followed) is None

        new = marked(client, store, run_id, 2500)

        assert [event.id for event in until_a_tick(followed)] == [new]
        again = follow(client, store.keys, run_id, since=last, tick_s=0.01)
        assert [event.id for event in until_a_tick(again)] == [new]


def test_what_is_no_event_in_a_runs_stream_is_passed_over_by_all_who_read_it(redis_url: str):
    with connect(redis_url, Profile.READER) as client:
        store = RunStore(client, "coord")
        run = submitted(store, {"A": "r1", "B": "r2"})
        events = store.keys.run(run.run_id).events
        before = [entry for entry, _ in client.xrange(events)]
        rubbish = ({b"\xff": "x"}, {"what": "todo.ready"}, {"what": "\x1b[2J", "todo": "A"}, {"todo": "A"})
        for fields in (*rubbish, {"what": "todo.running", "todo": "A", "attempt": "9" * 300}):
            client.xadd(events, fields)
        last = client.xadd(events, {"what": "run.paused", "todo": "", "by": "me"})

        followed = follow(client, store.keys, run.run_id, tick_s=0.01)

        assert [e.id for e in itertools.takewhile(lambda e: e is not None, followed)] == [*before, last]
        read = list(all_events(client, store.keys, run.run_id))
        view, brief = run.view(), run.brief()
        assert "</svg>" in gantt_svg(view, brief, read, store.now_ms())


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
        store = RunStore(client, "coord")
        run_id = submitted(store, {"A": "r1"}).run_id
        followed = follow(client, store.keys, run_id, tick_s=0.05)
        assert until_a_tick(followed)
        own.stop()
        assert [next(followed) for _ in range(3)] == [None, None, None]

        with connect(own.start(), Profile.COMMAND) as other:
            marked(other, store, run_id, 2)

        assert next(filter(None, followed)).fields == {"n": "2"}


def test_a_follower_gives_up_after_its_patience_with_a_hint(own: EmbeddedServer):
    with connect(own.start(), Profile.READER) as client:
        followed = follow(client, RunStore(client, "coord").keys, "R", patience_s=0.2, tick_s=0.01)
        own.stop()

        with pytest.raises(Unreachable, match=r"Redis has been away for 0 s: .* does not answer") as told:
            all(event is None for event in followed)

    assert told.value.hint == "the run continues when Redis is back; then: coord watch R"


def test_a_refusal_of_redis_is_reported_at_once(own: EmbeddedServer):
    with connect(own.start(), Profile.READER) as client:
        client.execute_command("ACL", "SETUSER", "default", "on", "nopass", "-@all", "+@connection")

        with pytest.raises(Unusable):
            next(follow(client, RunStore(client, "coord").keys, "R"))
