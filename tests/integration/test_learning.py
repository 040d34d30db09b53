"""Forecasts use durations of earlier runs, if a Redis answers at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from redis import Redis

from coordination import Coord
from coordination.operations.glance import knowing
from coordination.settings import Settings
from tests.doors import listening, silent
from tests.plans import graph

HALF_AN_HOUR_MS = 30 * 60_000
FILE = {
    "settings": {"namespace": "coord"},
    "repos": [{"name": "r1", "path": "r1"}],
    "coordination": {
        "plans": [{"id": "PLAN-001", "title": "a plan"}],
        "todos": [
            {"id": name, "task": "t", "repo": "r1", "plan": "PLAN-001", "action": "true"} for name in "AB"
        ],
    },
}


@pytest.fixture
def settings(redis_url: str) -> Settings:
    with Redis.from_url(redis_url) as client:
        client.rpush("coord:durations:r1 shell", HALF_AN_HOUR_MS)
    return Settings(redis_url=redis_url)


def test_a_plan_without_estimates_is_foreseen_by_what_was_learned(settings: Settings, tmp_path: Path) -> None:
    known = knowing(tmp_path / "ecosystem.yaml", settings, graph({"A": "r1", "B": "r2"}))

    assert dict(known.hours) == {"A": 0.5, "B": 1}
    assert (len(known.learned), known.assumed) == (1, 1)


def test_the_library_foresees_as_the_commands_do(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "r1").mkdir()
    (tmp_path / "ecosystem.yaml").write_text(yaml.safe_dump(FILE))

    with Coord(tmp_path, settings.redis_url) as coord:
        foreseen = coord.planner.forecast("PLAN-001")
        started = coord.runs.make_ready(coord.runs.prepare_sweep("PLAN-001"))

    assert (foreseen.levels_h, foreseen.learned, foreseen.assumed) == (1, 2, 0)
    assert started.order.reason == "levels (dataflow is no faster); estimate 1 h"


def test_a_redis_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    asked = graph({"A": "r1"})
    with listening(silent) as port:
        assert (
            knowing(tmp_path / "ecosystem.yaml", Settings(redis_url=f"redis://127.0.0.1:{port}"), asked)
            is asked
        )
