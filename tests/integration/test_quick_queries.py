"""Reading runs and learned durations in passing: newest run first, and nothing where Redis gives no answer at
once.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import yaml

from coordination import Coord
from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.operations.quick_queries import Seen, learned_durations, query_quickly
from coordination.runs.records import TodoState
from coordination.runs.store import RunStore
from coordination.runs.views.live import Live
from coordination.settings import Settings
from tests.contracts.run_harness import Harness
from tests.endpoints import listening, silent
from tests.integration.conftest import submitted
from tests.plans import PLAN, graph


@pytest.fixture
def run(store: RunStore) -> Harness:
    return submitted(store, {"A": "r1", "B": ("r1", ["A"])})


@pytest.fixture
def live(run: Harness) -> Live:
    return Live(run.store.redis, run.store.keys)


def test_a_todo_is_seen_where_it_is(run: Harness, live: Live):
    run.take("A")

    seen = live.todo("A")

    assert seen is not None
    assert (seen.run_id, seen.run_status, seen.state, seen.attempt, seen.worker) == (
        run.run_id,
        "running",
        "running",
        1,
        "w",
    )
    assert seen.since is not None
    assert seen.in_hand
    assert {todo: one.state for todo, one in live.executing().items()} == {
        "A": TodoState.RUNNING,
        "B": TodoState.WAITING,
    }


def test_the_newest_run_counts_also_when_it_has_ended(run: Harness, live: Live):
    run.drain()
    older, newer = run.run_id, (again := submitted(run.store, {"A": "r1"})).run_id
    again.drain()

    a, b = live.todo("A"), live.todo("B")

    assert a
    assert b
    assert (a.run_id, b.run_id) == (newer, older)
    assert (a.state, a.in_hand) == ("succeeded", False)
    assert a.finished_at is not None
    assert live.executing() == {}


def test_a_todo_that_no_run_has_is_not_seen(live: Live):
    assert live.todo("C") is None


def test_the_runs_are_told_newest_first_for_whoever_is_to_choose(run: Harness, live: Live):
    older, newer = run.run_id, submitted(run.store, {"A": "r1"}).run_id

    assert list(live.newest_runs()) == ["last", newer, older]
    assert live.newest_runs()["last"] == f"{newer}: PLAN-001, running"


def test_a_redis_that_answers_is_asked(redis_url: str, tmp_path: Path):
    settings = Settings(redis_url=redis_url)

    assert query_quickly(tmp_path / "ecosystem.yaml", settings, lambda live: live.todo("A")) == Seen(
        answer=None
    )


def test_the_embedded_server_is_asked_while_it_runs_and_never_started(tmp_path: Path):
    file = tmp_path / "ecosystem.yaml"

    assert query_quickly(file, Settings(), lambda live: 1) is None
    assert list(tmp_path.iterdir()) == []

    server = EmbeddedServer(tmp_path / ".coord", Settings())
    server.start()
    try:
        assert query_quickly(file, Settings(), lambda live: live.todo("A")) == Seen(answer=None)
    finally:
        server.stop()
    assert query_quickly(file, Settings(), lambda live: 1) is None


def test_a_redis_that_never_answers_is_not_waited_for(tmp_path: Path):
    asked = graph({"A": "r1"})
    with listening(silent) as port:
        settings = Settings(redis_url=f"redis://127.0.0.1:{port}")
        assert query_quickly(tmp_path / "e.yaml", settings, lambda live: live.todo("A")) is None
        assert learned_durations(tmp_path / "e.yaml", settings, asked.unknown) is None


def test_an_answer_that_does_not_come_is_not_waited_for(redis_url: str, tmp_path: Path):
    """As where the name of its host is looked up for minutes."""
    never = threading.Event()
    try:
        assert (
            query_quickly(tmp_path / "e.yaml", Settings(redis_url=redis_url), lambda live: never.wait())
            is None
        )
    finally:
        never.set()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "no address", "redis://localhost/x"])
def test_whatever_is_wrong_with_redis_is_silence(url: str, tmp_path: Path):
    assert query_quickly(tmp_path / "e.yaml", Settings(redis_url=url), lambda live: live.todo("A")) is None


def test_what_is_damaged_is_silence(redis_url: str, tmp_path: Path):
    with connect(redis_url, Profile.COMMAND) as client:
        client.set("coord:runs", "no sorted set")

    assert (
        query_quickly(tmp_path / "e.yaml", Settings(redis_url=redis_url), lambda live: live.todo("A")) is None
    )


@pytest.fixture
def learned(redis_url: str) -> Settings:
    """A forecast with a Redis that knows how long todos like A take."""
    with connect(redis_url, Profile.COMMAND) as client:
        client.rpush("coord:durations:r1 shell", 30 * 60_000)
    return Settings(redis_url=redis_url)


def test_a_plan_without_estimates_is_foreseen_by_what_was_learned(learned: Settings, tmp_path: Path):
    asked = graph({"A": "r1", "B": "r2"})
    known = asked.with_learned(learned_durations(tmp_path / "ecosystem.yaml", learned, asked.unknown) or {})

    assert dict(known.hours) == {"A": 0.5, "B": 1}
    assert (len(known.learned), known.assumed) == (1, 1)


def test_the_library_foresees_as_the_commands_do(learned: Settings, tmp_path: Path):
    (tmp_path / "r1").mkdir()
    todo = {"task": "t", "repo": "r1", "plan": PLAN, "action": "true"}
    plans = {"plans": [{"id": PLAN, "title": "a plan"}], "todos": [{"id": name, **todo} for name in "AB"]}
    file = {
        "settings": {"namespace": "coord"},
        "repos": [{"name": "r1", "path": "r1"}],
        "coordination": plans,
    }
    (tmp_path / "ecosystem.yaml").write_text(yaml.safe_dump(file))

    with Coord(tmp_path, learned.redis_url) as coord:
        foreseen = coord.planner.forecast(PLAN)
        started = coord.runs.make_ready(coord.runs.prepare_sweep(PLAN))

    assert (foreseen.levels_h, foreseen.learned, foreseen.assumed) == (1, 2, 0)
    assert started.order.reason == "levels (dataflow is no faster); estimate 1 h"
