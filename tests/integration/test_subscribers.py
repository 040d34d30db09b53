"""Functions of a script that are called with events, while no run is waited for and while one is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordination import Coord, Event, UsageError
from coordination.backend.embedded import EmbeddedServer
from coordination.events.stream import EventStream
from coordination.runs.store import RunStore
from coordination.settings import Settings
from tests.engine import Engine
from tests.integration.conftest import submitted
from tests.waiting import until

FILE = """\
settings: {namespace: test}
repos: [{name: r1}, {name: r2}]
coordination:
  plans: [{id: PLAN-001, title: t}]
"""
TODOS = {"A": "r1", "B": ("r2", ["A"])}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ecosystem.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def coord(file: Path, redis_url: str) -> Iterator[Coord]:
    with Coord(file, redis_url) as made:
        yield made


def own_events(coord: Coord, run: Engine) -> list[str]:
    return [event.name for event in coord.runs.get(run.run_id).events()]


def test_subscribers_get_all_events_of_a_run_once_and_in_order_without_waiting(coord: Coord, store: RunStore):
    heard: list[Event] = []
    coord.on("*", heard.append)
    run = submitted(store, TODOS)
    run.drain()

    until(lambda: heard and heard[-1].kind == "run.ended")
    assert [event.name for event in heard] == own_events(coord, run)
    assert {"todo.ready", "todo.dispatched"} < {event.name for event in heard}
    settled = [event for event in heard if event.kind == "todo.settled"]
    assert [(e.subject, e.run, e.repos, e.facts["state"]) for e in settled] == [
        ("A", run.run_id, ("r1",), "succeeded"), ("B", run.run_id, ("r2",), "succeeded")
    ]  # fmt: skip
    coord.runs.get(run.run_id).wait(60)
    assert len(heard) == len(own_events(coord, run)), "nothing is told twice"


def test_a_waiting_subscriber_gets_earlier_events_too_and_each_once(coord: Coord, store: RunStore):
    run = submitted(store, TODOS)
    grant = run.take("A")
    heard: list[str] = []
    coord.on("*", lambda event: heard.append(event.id))
    run.settle(grant)
    until(lambda: heard)
    run.drain()
    coord.runs.get(run.run_id).wait(60)

    assert sorted(heard) == sorted(event.id for event in coord.runs.get(run.run_id).events())


def test_a_subscriber_that_raises_or_is_slow_stops_neither_others_nor_the_run(coord: Coord, store: RunStore):
    heard: list[str] = []
    go_on = threading.Event()

    def fail(event: Event) -> None:
        raise ValueError(event.name)

    def slow(event: Event) -> None:
        assert go_on.wait(60)

    coord.on("run.started", fail)
    coord.on("run.started", slow)
    coord.on("todo.settled", lambda event: heard.append(event.todo))
    run = submitted(store, TODOS)
    run.drain()

    assert run.view().status == "succeeded"
    go_on.set()
    until(lambda: heard == ["A", "B"])


def test_earlier_events_come_first_where_they_are_asked_for(coord: Coord, store: RunStore):
    stream = EventStream(store.redis, "test")
    first = stream.append("command.sweep", "one", title="\x1b[2J")
    second = stream.append("command.sweep", "two")
    all_of_them, later, new = list[str](), list[str](), list[str]()
    coord.on("command.*", lambda event: new.append(event.subject))
    coord.on("command.*", lambda event: all_of_them.append(event.subject), since="0-0")
    coord.on("command.*", lambda event: later.append(event.subject), since=first)
    stream.append("command.sweep", "three")

    until(lambda: len(all_of_them) == 3 and len(later) == 2 and len(new) == 1)
    assert (all_of_them, later, new) == (["one", "two", "three"], ["two", "three"], ["three"])
    stream.trim(second)
    store.redis.xdel("test:events", first)
    with pytest.raises(UsageError):
        coord.on("command.*", print, since="yesterday")
    with pytest.raises(UsageError, match=r"did you mean 'lock\.granted'"):
        coord.on("lock.grantd", print)


def test_counted_kinds_come_while_a_script_lives_that_asks_by_name(
    file: Path, redis_url: str, store: RunStore
):
    named, everything = list[str](), list[str]()
    with Coord(file, redis_url) as coord:
        coord.on("*", lambda event: everything.append(event.kind))
        coord.on("lock.*", lambda event: named.append(f"{event.kind} {event.subject}"))
        with coord.locks.acquire("deploy"):
            pass
        until(lambda: named == ["lock.granted lock:deploy", "lock.released lock:deploy"])
        hits = list[str]()
        coord.on("cache.hit", lambda event: hits.append(event.kind))
        assert store.redis.zscore("test:event-requests", "cache.hit"), "the step writes the next one"
        thread = next(t for t in threading.enumerate() if t.name == "coord subscribers")
    assert not thread.is_alive(), "it ends with the Coord object"
    assert everything == []
    assert 0 < store.redis.zscore("test:event-requests", "lock.granted") - store.now_ms() <= 30_000


@pytest.fixture
def own(file: Path) -> Iterator[EmbeddedServer]:
    made = EmbeddedServer(file.parent / ".coord", Settings())
    yield made
    made.stop()


def test_subscribers_wait_for_a_server_and_survive_its_restart(file: Path, own: EmbeddedServer):
    heard: list[str] = []
    with Coord(file) as coord:
        coord.on("command.*", lambda event: heard.append(event.subject))
        for number in ("one", "two"):
            coord.connection  # noqa: B018 (starts the server)
            coord.announce("sweep", number)
            until(lambda expected=number: heard[-1:] == [expected])
            own.stop()
            coord._connection = None
    assert heard == ["one", "two"]
