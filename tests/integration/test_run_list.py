"""Listing runs by plan, status and time, among many."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from coordination import Coord
from coordination.api import OF_TODOS
from coordination.errors import NotFound, UsageError
from coordination.runs.store import RunStore
from coordination.runs.views.run_list import RunFilters, newest
from tests.integration.conftest import submitted

MANY = 3000
START = datetime(2026, 1, 1, tzinfo=UTC)
TODO = {"A": "r1"}


def name(number: int) -> str:
    return f"R-{number:04}"


@pytest.fixture
def many(store: RunStore) -> RunStore:
    """Ended runs, one a minute, of PLAN-OLD and PLAN-OTHER in turn, the older half failed."""
    with store.redis.pipeline(transaction=False) as pipeline:
        for number in range(MANY):
            started = int((START + timedelta(minutes=number)).timestamp() * 1000)
            pipeline.zadd(store.keys.runs, {name(number): started})
            plan, status = (
                ("PLAN-OLD", "PLAN-OTHER")[number % 2],
                "failed" if number < MANY / 2 else "succeeded",
            )
            meta = {
                "plan_id": plan,
                "status": status,
                "strategy": "dataflow",
                "on_failure": "halt",
                "actor": "a",
            }
            pipeline.hset(store.keys.run(name(number)).meta, mapping={**meta, "started_at": started})
        pipeline.execute()
    return store


@pytest.fixture
def coord(many: RunStore, redis_url: str, tmp_path: Path) -> Iterator[Coord]:
    plans = [{"id": plan, "title": "a plan"} for plan in ("PLAN-OLD", "PLAN-NEW")]
    text = yaml.safe_dump({"settings": {"namespace": "test"}, "coordination": {"plans": plans}})
    (tmp_path / "ecosystem.yaml").write_text(text)
    with Coord(tmp_path, redis_url) as opened:
        yield opened


def ids(coord: Coord, **filters: object) -> list[str]:
    return [run.run_id for run in coord.runs.list(**filters)]  # type: ignore[arg-type]


def test_filters_add_up_and_the_newest_come_first(coord: Coord) -> None:
    last = MANY - 1

    assert ids(coord, limit=2) == [name(last), name(last - 1)]
    assert ids(coord, limit=2, plan="PLAN-OLD") == [name(last - 1), name(last - 3)]
    assert ids(coord, limit=1, status="failed") == [name(MANY // 2 - 1)]
    assert ids(coord, limit=1, plan="PLAN-OLD", status=["failed"]) == [name(MANY // 2 - 2)]
    since = START + timedelta(minutes=last - 2)
    assert ids(coord, limit=99, since=since) == [name(last - i) for i in range(3)]
    assert ids(coord, limit=99, since=since, plan="PLAN-OLD") == [name(last - 1)]
    assert ids(coord, since=since, status="failed") == []
    assert ids(coord, plan="PLAN-NEW") == []  # declared, and never run
    assert len(ids(coord, limit=MANY + 1, plan=["PLAN-OLD", "PLAN-OTHER"])) == MANY


def test_live_runs_are_found_without_reading_the_others(many: RunStore, coord: Coord) -> None:
    run = submitted(many, TODO)
    many.redis.config_resetstat()

    assert newest(many.redis, many.keys, RunFilters(statuses=frozenset({"running"})), 20) == [run.run_id]

    assert many.redis.info("commandstats")["cmdstat_hmget"]["calls"] == 1
    assert ids(coord, status=["running", "paused"]) == [run.run_id]
    assert ids(coord, status="running", since=datetime.now(UTC) + timedelta(hours=1)) == []


def test_a_small_limit_reads_few_of_many_runs(many: RunStore) -> None:
    many.redis.config_resetstat()

    newest(many.redis, many.keys, RunFilters(), 20)
    newest(many.redis, many.keys, RunFilters(plans=frozenset({"PLAN-OLD"})), 20)

    assert many.redis.info("commandstats")["cmdstat_hmget"]["calls"] <= 520


def test_automatic_recoveries_are_listed_only_when_they_are_asked_for(many: RunStore, coord: Coord) -> None:
    for position in (1, 3):
        many.redis.hset(many.keys.run(name(MANY - position)).meta, "plan_id", "recover:service.web")

    assert ids(coord, limit=2) == [name(MANY - 2), name(MANY - 4)]
    assert ids(coord, limit=2, automatic=True) == [name(MANY - 1), name(MANY - 2)]
    assert ids(coord, limit=1, plan="recover:service.web") == [name(MANY - 1)]
    assert name(MANY - 1) not in coord.live.newest_runs()


def test_what_no_run_could_match_is_refused(coord: Coord) -> None:
    with pytest.raises(UsageError, match="succeeded"):
        coord.runs.list(status="sucseeded")
    with pytest.raises(UsageError):
        coord.runs.list(status="draft")
    with pytest.raises(NotFound, match="PLAN-NEW"):
        coord.runs.list(plan="PLAN-NE")
    with pytest.raises(UsageError):
        coord.runs.list(limit=0)


def test_last_is_no_run_of_the_health_monitor(many: RunStore, coord: Coord) -> None:
    for number, plan in enumerate(("land:PLAN-OLD", "qa:base", *["recover:service.flaky"] * 30), MANY):
        many.redis.zadd(
            many.keys.runs, {name(number): (START + timedelta(days=9)).timestamp() * 1000 + number}
        )
        meta = {"plan_id": plan, "status": "succeeded"}
        many.redis.hset(many.keys.run(name(number)).meta, mapping=meta)

    assert coord.runs.get("last").id == name(MANY + 1), "a person ordered the checks"
    assert coord.runs.get("last", OF_TODOS).id == name(MANY - 1)


def test_a_damaged_run_is_left_out(many: RunStore, coord: Coord) -> None:
    many.redis.delete(many.keys.run(name(MANY - 2)).meta)
    many.redis.set(many.keys.run(name(MANY - 2)).meta, "of another type")

    assert ids(coord, limit=1, plan="PLAN-OLD") == [name(MANY - 4)]
