"""The stream of events: what the steps write, and what a reader gets from a position."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import redis

from coordination.backend.keys import Keys
from coordination.backend.step_connection import StepCaller
from coordination.backend.steps.breaker import Allow
from coordination.breakers.manager import BreakerManager
from coordination.breakers.records import Policy
from coordination.errors import UsageError
from coordination.events.kinds import KINDS, LASTING
from coordination.events.records import Event, place
from coordination.events.stream import EventStream
from coordination.models import Strategy
from tests.contracts.conftest import CLOCK
from tests.engine import BAD, Engine
from tests.plans import PLAN
from tests.waiting import until

KEYS = Keys("test")


@pytest.fixture
def stream(client: redis.Redis) -> Iterator[EventStream]:
    yield EventStream(client, "test")
    assert {event.kind for event in read(EventStream(client, "test"))} <= KINDS.keys()


def read(stream: EventStream, since: str = "0-0") -> tuple[Event, ...]:
    return stream.read(since).events


def kinds(stream: EventStream, subject: str = "") -> list[str]:
    return [event.kind for event in read(stream) if subject in ("", event.subject)]


def test_each_change_of_a_run_is_written_once_whatever_is_repeated(run: Engine, stream: EventStream):
    run.begin({"a": "api", "b": ("web", ["a"]), "c": ("web", ["b"])}, strategy=Strategy.LEVELS)
    grant = run.take("a")
    for _ in range(2):
        run.settle(grant)
    run.settle(run.take("b"), BAD)
    run.settle(grant)
    for _ in range(2):
        run.store.seal(run.run_id)
        run.store.cancel(run.run_id, "ann")

    assert kinds(stream) == [
        "run.started",
        "level.opened", "todo.started", "todo.settled", "level.settled",
        "level.opened", "todo.started", "todo.settled", "todo.settled", "level.settled",
        "run.ended",
    ]  # fmt: skip
    ends = {event.subject: event for event in read(stream) if event.kind == "todo.settled"}
    assert {name: event.data["state"] for name, event in ends.items()} == {
        "a": "succeeded", "b": "failed", "c": "skipped"
    }  # fmt: skip
    assert (ends["b"].repos, ends["b"].actor, ends["b"].title) == (("web",), "w", "exit code 1")
    assert (ends["b"].data["attempt"], ends["b"].data["exit_code"]) == ("1", "1")
    assert int(ends["b"].data["duration_ms"]) >= 0
    assert "duration_ms" not in ends["c"].data
    last = read(stream)[-1]
    assert (last.subject, last.run, last.data["plan"]) == (run.run_id, run.run_id, PLAN)
    assert [last.data[name] for name in ("status", "succeeded", "failed", "skipped")] == [
        "failed",
        "1",
        "1",
        "1",
    ]
    assert read(stream)[0].actor == "test"


def test_an_event_names_its_entry_in_the_stream_of_the_run(
    run: Engine, stream: EventStream, client: redis.Redis
):
    run.begin({"a": "api"})
    run.drain()

    own = dict(client.xrange(KEYS.run(run.run_id).events))
    named = [(event.kind, own[event.entry]["what"]) for event in read(stream)]
    assert named == [
        ("run.started", "run.started"), ("todo.started", "todo.running"),
        ("todo.settled", "todo.succeeded"), ("run.ended", "run.ended"),
    ]  # fmt: skip
    assert len(own) > len(named), "ready and dispatched are told there only"


def test_a_todo_that_waits_is_told_once_for_a_reason_and_never_for_its_own_slot(
    run: Engine, stream: EventStream
):
    run.begin({"a": "api", "b": "api"})
    for _ in range(3):
        delivery = run.mail[0]
        run.mail.clear()
        assert run.claim(delivery, unfit="no room on h1").word == "parked"
        run.store.redis.zadd(KEYS.timers, {f"{run.run_id} {delivery.todo_id}": 1})
        run.tick()

    assert kinds(stream) == ["run.started", "todo.parked"]
    parked = read(stream)[-1]
    assert (parked.data["reason"], parked.title) == ("worker", "no room on h1")


def test_a_milestone_at_a_gate_is_reached_when_a_person_approves_it(run: Engine, stream: EventStream):
    run.begin({"a": "api"}, more={"a": {"gate": True, "action": {"type": "manual"}}})
    run.approve("a", "ann", "fine\nreally")

    assert kinds(stream, "a") == ["todo.parked", "todo.approved", "todo.settled"]
    approved = next(event for event in read(stream) if event.kind == "todo.approved")
    assert (approved.actor, approved.title) == ("ann", "fine")


def test_a_rollback_tells_what_is_undone_and_ends_the_run_again(run: Engine, stream: EventStream):
    run.begin({"a": "api"}, more={"a": {"compensate": "false"}})
    run.drain()
    run.roll_back()
    run.drain(lambda _: BAD)
    run.accept("a", "ann", "done by hand")

    assert kinds(stream)[4:] == [
        "run.rolling_back", "todo.compensating", "todo.settled", "run.ended",
        "todo.accepted", "run.rolling_back", "todo.settled", "run.ended",
    ]  # fmt: skip
    statuses = [event.data["status"] for event in read(stream) if event.kind == "run.ended"]
    assert statuses == ["succeeded", "rollback_failed", "rolled_back"]


def test_long_and_hostile_text_is_cut_and_kept_as_text(run: Engine, stream: EventStream):
    text = "\x1b[31m" + "ä" * 500_000
    run.begin({"a": "api"})
    run.settle(run.take("a"), replace(BAD, error=text))

    settled = next(event for event in read(stream) if event.kind == "todo.settled")
    assert settled.title.startswith("\x1b[31mää")
    assert len(settled.title.encode()) < 310


def test_reading_continues_at_a_position_and_passes_what_is_no_event(
    stream: EventStream, client: redis.Redis
):
    first = stream.append("command.sweep", "PLAN-001", actor="ann", repos=["api", "web"], data={"jobs": "2"})
    for fields in (
        {"kind": "run.started"}, {"kind": "../x", "at": "1"}, {"kind": "run.started", "at": "9" * 30},
        {"kind": "run.started", "at": "9" * 5000},  # int() refuses so many digits
    ):  # fmt: skip
        client.xadd(KEYS.events.lasting, fields)
    last = stream.append("command.clean")

    whole = stream.read()
    assert [event.id for event in whole.events] == [first, last]
    assert (whole.events[0].repos, whole.events[0].data) == (("api", "web"), {"jobs": "2"})
    assert [event.id for event in read(stream, first)] == [last]
    assert stream.read(last).position == last == stream.end() == whole.position
    assert stream.read(first, 2).events == ()
    assert stream.read(stream.read(first, 2).position).events[0].id == last
    with pytest.raises(UsageError, match="id of an event"):
        stream.read("yesterday")


def test_a_position_that_was_trimmed_is_told_as_a_gap_and_a_reader_at_the_trim_is_not(
    stream: EventStream, client: redis.Redis
):
    ids = [stream.append("command.clean", str(number)) for number in range(500)]

    stream.trim(ids[350])
    kept = client.xrange(KEYS.events.lasting, count=1)[0][0]
    assert ids[0] < kept <= ids[350]

    assert [event.kind for event in read(stream, ids[350])] == ["command.clean"] * 149
    early = read(stream, ids[0])
    assert (early[0].kind, early[0].id, early[0].data["first"]) == ("events.gap", ids[0], kept)
    assert early[1].id == kept
    client.xtrim(KEYS.events.lasting, maxlen=0, approximate=False)
    empty = stream.read(ids[0])
    assert [event.kind for event in empty.events] == ["events.gap"]
    assert stream.read(empty.position).events == ()


def test_a_position_behind_the_end_is_told_once_and_reading_goes_on(stream: EventStream):
    ahead = f"{int(datetime.now(UTC).timestamp() * 1000) + 3_600_000}-0"

    lost = stream.read(ahead)
    assert [event.kind for event in lost.events] == ["events.gap"]
    new = stream.append("command.clean")
    assert [event.id for event in read(stream, lost.position)] == [new]


def test_a_time_becomes_the_position_before_its_first_event(stream: EventStream):
    now = datetime.now(UTC)
    assert stream.position_at(now) == "0-0"
    stream.append("command.clean", "1")
    last = stream.append("command.clean", "2")

    assert len(read(stream, stream.position_at(now - timedelta(hours=1)))) == 2
    assert stream.position_at(now + timedelta(hours=1)) == last


def test_counted_kinds_are_written_while_somebody_asks_for_them(
    stream: EventStream, client: redis.Redis, locks
):
    def asked() -> list[str]:
        return [f"{e.kind} {e.subject}" for e in stream.read(asked=True).events]

    with locks.acquire("deploy"):
        pass
    assert asked() == []
    stream.ask(["lock.granted"])
    with locks.acquire("deploy"), locks.acquire_many(["a", "b"]):
        pass
    assert sorted(asked()) == ["lock.granted lock:a", "lock.granted lock:b", "lock.granted lock:deploy"]
    assert read(stream) == (), "they displace no others"
    client.zadd(KEYS.events.requests, {"lock.granted": 1})  # expired: the reader died
    with locks.acquire("deploy"):
        pass
    assert len(asked()) == 3


def test_breakers_and_locks_taken_by_force_are_told(stream: EventStream, client: redis.Redis, locks):
    breakers = BreakerManager(client, "test", policy=Policy(failures=1, open_for=timedelta(milliseconds=1)))
    name = "repo:api"

    def fail() -> None:
        raise RuntimeError("refused\nby the server")

    with suppress(RuntimeError):
        breakers.call(name, fail)
    allow = Allow(breaker=name, who="me", by="a probe", ttl_ms=60_000, host="", pid=0, started="")
    until(lambda: StepCaller(client)(allow, ["test:"]).word == "probe")
    breakers.record(name, "me", "succeeded")
    with suppress(RuntimeError):
        breakers.call(name, fail)
    breakers.reset(name, "ann")
    locks.acquire("deploy")
    locks.break_(locks.breakable("deploy", force=True), "ann")

    told = [(event.kind, event.subject, event.actor) for event in read(stream)]
    assert told == [
        ("breaker.opened", name, ""), ("breaker.half_open", name, ""), ("breaker.closed", name, ""),
        ("breaker.opened", name, ""), ("breaker.reset", name, "ann"), ("lock.forced", "lock:deploy", "ann"),
    ]  # fmt: skip
    assert (read(stream)[0].repos, read(stream)[0].title) == (("api",), "RuntimeError: refused")


def test_times_follow_a_clock_that_is_set_back_and_ids_still_grow(
    our_clock: None, client: redis.Redis, stream: EventStream
):
    ids = []
    for second in (1_800_000_000, 1_700_000_000):
        client.mset({CLOCK[0]: second, CLOCK[1]: 0})
        ids.append(stream.append("command.clean", str(second)))

    assert [event.id for event in read(stream)] == sorted(ids, key=place)
    assert [event.at.timestamp() for event in read(stream)] == [1_800_000_000, 1_700_000_000]


def test_a_wrong_type_in_place_of_the_stream_stops_no_run(run: Engine, client: redis.Redis):
    client.set(KEYS.events.lasting, "x")
    client.set(KEYS.events.requests, "x")
    run.begin({"a": "api"})
    run.drain()

    assert run.states() == {"a": "succeeded"}
    client.delete(KEYS.events.lasting, KEYS.events.requests)


def test_every_lasting_kind_has_a_sentence():
    assert all(sentence.endswith(".") for sentence in KINDS.values())
    assert all(kind.count(".") == 1 for kind in LASTING)
