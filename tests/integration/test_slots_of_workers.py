"""A forecast and a sweep count with the slots of the workers that live."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from coordination import Coord
from coordination.runs.worker_registry import Worker, WorkerRegistry

REPOS = ("a", "b", "c", "d", "e", "f")


@pytest.fixture
def coord(tmp_path: Path, redis_url: str) -> Iterator[Coord]:
    todos = [
        {"id": repo, "repo": repo, "plan": "P", "task": "t", "estimated_hours": 1, "action": "true"}
        for repo in REPOS
    ]
    file = {
        "repos": [{"name": repo} for repo in REPOS],
        "coordination": {"plans": [{"id": "P", "title": "p", "status": "active"}], "todos": todos},
    }
    (tmp_path / "ecosystem.yaml").write_text(yaml.safe_dump(file))
    with Coord(tmp_path, redis_url) as opened:
        yield opened


def lives(coord: Coord, name: str, jobs: int, repos: tuple[str, ...] = REPOS) -> None:
    worker = Worker(id=name, host="h", pid=1, version="1", repos=repos, jobs=jobs)
    store = coord.connection.store
    WorkerRegistry(store.redis, store.keys).say(worker, store.now_ms(), timedelta(minutes=1))


def test_a_forecast_counts_with_the_slots_of_living_workers(coord: Coord) -> None:
    before = coord.planner.forecast("P").slots
    lives(coord, "one", 2)
    with_one = coord.planner.forecast("P")
    lives(coord, "two", 1, ("a",))
    lives(coord, "elsewhere", 8, ("z",))

    assert before == len(REPOS)  # no worker lives
    assert (with_one.slots, with_one.levels_h) == (2, 3.0)
    assert coord.planner.forecast("P").slots == 3
    assert coord.planner.forecast("P", max_parallel=1).slots == 1
