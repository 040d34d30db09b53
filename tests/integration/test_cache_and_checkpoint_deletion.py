"""The library deletes caches and checkpoints, spares what live runs need, and tells all figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from coordination import Coord
from coordination.backend.client import Profile, connect
from coordination.cache import Store
from coordination.cache.entries import RESULTS
from coordination.errors import Conflict, NotFound
from coordination.runs.store import RunStore
from tests.engine import BAD, Engine
from tests.integration.conftest import submitted
from tests.plans import PLAN

TODOS = {"A": "r1", "B": ("r1", ["A"])}


@pytest.fixture
def store(redis_url: str) -> Iterator[RunStore]:
    with connect(redis_url, Profile.COMMAND) as client:
        yield RunStore(client, "coord")


@pytest.fixture
def coord(redis_url: str, tmp_path: Path) -> Iterator[Coord]:
    todos = [{"id": name, "task": "t", "repo": "r1", "plan": PLAN} for name in ("A", "B", "C")]
    coordination = {"plans": [{"id": PLAN, "title": "a plan"}], "todos": todos}
    text = yaml.safe_dump({"repos": [{"name": "r1"}], "coordination": coordination})
    (tmp_path / "ecosystem.yaml").write_text(text)
    with Coord(tmp_path, redis_url) as opened:
        yield opened


def ended(store: RunStore) -> Engine:
    run = submitted(store, TODOS)
    run.drain(lambda grant: BAD)
    return run


def test_a_cleared_cache_keeps_only_what_live_runs_see(coord: Coord, store: RunStore) -> None:
    over, live = ended(store), submitted(store, TODOS)
    results = Store(store.redis, "coord", RESULTS)
    results.put("key", b"value")
    places = [{}, {"plan": PLAN}, {"plan": "PLAN-2"}, {"run": over.run_id}, {"run": live.run_id, "todo": "A"}]
    for number, place in enumerate(places):
        coord.context(**place).set("a", number)
        assert coord.context(**place).get("a") == number

    assert coord.clear_cache() == 3

    seen = [coord.context(**place).get("a", scope=None) for place in places]
    assert seen == [0, 1, 0, 1, 4]  # the plan 2 and the ended run have their outer contexts left
    assert results.get("key") is None
    live.drain()
    coord.clear_cache()
    assert coord.stats()["cache"]["entries"] == 0


def test_checkpoints_of_an_ended_run_are_cleared_and_those_of_a_live_one_refused(
    coord: Coord, store: RunStore
) -> None:
    over, live = ended(store), submitted(store, TODOS)
    for run in (over, live):
        coord.runs.get(run.run_id).create_checkpoint("one")
    store.redis.hset(store.keys.run(over.run_id).checkpoint, "A", '{"done": 3}')

    with pytest.raises(Conflict, match=live.run_id):
        coord.clear_checkpoints(live.run_id)
    assert coord.clear_checkpoints(over.run_id) == 2

    assert coord.runs.get(over.run_id).checkpoints() == []
    assert [one.name for one in coord.runs.get(live.run_id).checkpoints()] == ["one"]
    assert coord.clear_checkpoints() == 0  # the live run is left alone
    live.drain()
    assert coord.clear_checkpoints() == 1
    with pytest.raises(NotFound):
        coord.clear_checkpoints("none")


def test_the_figures_of_all_parts_are_one_record(coord: Coord, store: RunStore) -> None:
    run = submitted(store, TODOS)
    run.take("A")

    stats = coord.stats()

    assert sorted(stats) == [
        "breakers", "cache", "locks", "manager", "messages", "resources", "runs", "todos",
    ]  # fmt: skip
    assert stats["manager"]["todos"] == {"pending": 3}
    assert stats["todos"]["by_status"] == {"in_progress": 1, "pending": 2}
    assert (stats["todos"]["ready"], stats["todos"]["blocked"]) == (1, 1)  # C; B waits in the run
    assert stats["todos"]["in_runs"]["running"] == 1
    assert stats["runs"]["live"] == {"running": 1}
    assert stats["runs"]["counters"]["runs_started"] == 1
    assert stats["cache"]["hit_rate"] == 0
