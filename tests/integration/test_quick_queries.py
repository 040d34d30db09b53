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
from coordination.runs.store import RunStore
from coordination.settings import Settings
from tests.endpoints import listening, silent
from tests.engine import Engine
from tests.integration.conftest import submitted
from tests.plans import PLAN, graph


@pytest.fixture
def run(store: RunStore) -> Engine:
    return submitted(store, {"A": "r1", "B": ("r1", ["A"])})


def test_a_redis_that_answers_is_asked(redis_url: str, tmp_path: Path):
    settings = Settings(redis_url=redis_url)

    assert query_quickly(tmp_path / "ecosystem.yaml", settings, lambda live: live.last_run_of("A")) == Seen(
        answer=None
    )


def test_the_embedded_server_is_asked_while_it_runs_and_never_started(tmp_path: Path):
    file = tmp_path / "ecosystem.yaml"

    assert query_quickly(file, Settings(), lambda live: 1) is None
    assert list(tmp_path.iterdir()) == []

    server = EmbeddedServer(tmp_path / ".coord", Settings())
    server.start()
    try:
        assert query_quickly(file, Settings(), lambda live: live.last_run_of("A")) == Seen(answer=None)
    finally:
        server.stop()
    assert query_quickly(file, Settings(), lambda live: 1) is None


def test_a_redis_that_never_answers_is_not_waited_for(tmp_path: Path):
    asked = graph({"A": "r1"})
    with listening(silent) as port:
        settings = Settings(redis_url=f"redis://127.0.0.1:{port}")
        assert query_quickly(tmp_path / "e.yaml", settings, lambda live: live.last_run_of("A")) is None
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
    assert (
        query_quickly(tmp_path / "e.yaml", Settings(redis_url=url), lambda live: live.last_run_of("A"))
        is None
    )


def test_what_is_damaged_is_silence(redis_url: str, tmp_path: Path):
    with connect(redis_url, Profile.COMMAND) as client:
        client.set("coord:runs", "no sorted set")

    assert (
        query_quickly(tmp_path / "e.yaml", Settings(redis_url=redis_url), lambda live: live.last_run_of("A"))
        is None
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
