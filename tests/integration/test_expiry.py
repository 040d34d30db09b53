"""Runs that ended long ago are forgotten, whole; others are not touched."""

from __future__ import annotations

import errno
from datetime import timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest

from coordination import files
from coordination.cache.contexts import Cache
from coordination.cache.names import Scope
from coordination.events.stream import EventStream
from coordination.runs.dispatch import Dispatcher
from coordination.runs.export.document import RunArchiver
from coordination.runs.export.import_document import adopt, load
from coordination.runs.maintenance import expiry
from coordination.runs.maintenance.expiry import RunExpiry
from coordination.runs.maintenance.leader import MaintenanceLeader
from coordination.runs.store import RunStore
from coordination.runs.views.run_view import RunReader
from coordination.settings import Settings
from tests.engine import BAD, Engine
from tests.integration.conftest import submitted
from tests.plans import Todos
from tests.waiting import until

NOTHING = timedelta(0)
LEAST_MS = 1
"""The least that the setting can be: every run here ended longer ago than that."""


def write(run: Engine, todos: Todos) -> None:
    keys = run.store.keys.run(run.run_id)
    for todo in todos:
        run.store.redis.xadd(keys.log(todo), {"attempt": 1, "text": "words"})
    run.store.redis.hset(keys.bundle("r1"), "abc", "bytes")
    cache = Cache(run.store.redis, "test")
    for todo in todos:
        cache.at("PLAN-001", run.run_id, todo).set("own", 1, scope=Scope.TODO)
    cache.at("PLAN-001", run.run_id).set("a", 1)
    cache.close()


def ended(store: RunStore, todos: Todos) -> Engine:
    run = submitted(store, todos)
    write(run, todos)
    run.drain()
    finished_at = int(store.redis.hget(store.keys.run(run.run_id).meta, "finished_at"))
    until(lambda: store.now_ms() - finished_at > LEAST_MS)
    return run


def keys_of(run: Engine) -> list[str]:
    return sorted(run.store.redis.scan_iter(f"*{run.run_id}*", count=1000))


def test_a_run_that_ended_long_enough_ago_leaves_no_key(store: RunStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(expiry, "UNLINKED_AT_ONCE", 2)
    run = ended(store, {"A": "r1", "B": ("r2", ["A"]), "C": "r1"})
    assert keys_of(run)

    assert RunExpiry(store, NOTHING).run_once() == [run.run_id]

    assert keys_of(run) == []
    assert RunReader(store.redis, store.keys).list() == []
    (told,) = (
        e for e in EventStream(store.redis, store.keys.namespace).read().events if e.kind == "run.forgotten"
    )
    assert (told.run, told.data["plan"]) == (run.run_id, "PLAN-001")


def test_a_run_is_kept_as_long_as_the_setting_says(store: RunStore):
    run = ended(store, {"A": "r1"})

    assert RunExpiry(store, timedelta(hours=1)).run_once() == []

    assert run.view().counts == {"succeeded": 1}


def test_a_live_run_is_never_forgotten_however_old(store: RunStore):
    run = submitted(store, {"A": "r1"})
    write(run, {"A": "r1"})
    store.redis.zadd(store.keys.runs, {run.run_id: 1})
    before = keys_of(run)

    assert RunExpiry(store, NOTHING).run_once() == []

    assert keys_of(run) == before


def test_a_run_of_which_something_could_not_be_undone_is_kept_until_somebody_sees_to_it(store: RunStore):
    run = ended(store, {"A": "r1"})
    run.follow(store.rollback(run.run_id, "lena", "why"))
    run.drain(lambda _: BAD)
    store.redis.hset(store.keys.run(run.run_id).meta, "finished_at", 1)
    assert RunExpiry(store, NOTHING).run_once() == []

    run.accept("A", "lena", "it may stay")
    store.redis.hset(store.keys.run(run.run_id).meta, "finished_at", 1)
    assert RunExpiry(store, NOTHING).run_once() == [run.run_id]


def test_a_run_that_was_forgotten_in_part_is_forgotten_whole_by_the_next_round(store: RunStore):
    run = ended(store, {"A": "r1", "B": "r1"})
    keys = store.keys.run(run.run_id)
    store.redis.delete(keys.log("A"), keys.state, keys.events)

    RunExpiry(store, NOTHING).run_once()

    assert keys_of(run) == []


def test_a_run_without_records_leaves_the_list(store: RunStore):
    store.redis.zadd(store.keys.runs, {"20200101-000000-abcd": 1})

    assert RunExpiry(store, NOTHING).run_once() == ["20200101-000000-abcd"]

    assert store.redis.zcard(store.keys.runs) == 0


def test_a_damaged_run_is_left_for_people_and_holds_up_nobody(store: RunStore):
    damaged, other = ended(store, {"A": "r1"}), ended(store, {"A": "r1"})
    store.redis.hset(store.keys.run(damaged.run_id).meta, "status", "of another version")

    assert RunExpiry(store, NOTHING).run_once() == [other.run_id]


def test_the_leader_forgets_runs(store: RunStore, dispatcher: Dispatcher):
    run, settings = ended(store, {"A": "r1"}), Settings(keep_runs=timedelta(milliseconds=LEAST_MS))

    swept = MaintenanceLeader(store, dispatcher, settings, label="me").run_once()

    assert swept.forgotten == [run.run_id]


def test_a_forgotten_run_was_exported_and_can_be_imported(
    store: RunStore, dispatcher: Dispatcher, tmp_path: Path
):
    run = ended(store, {"A": "r1", "B": ("r2", ["A"])})
    before = run.view()
    settings = Settings(keep_runs=timedelta(milliseconds=LEAST_MS), export_runs=str(tmp_path))
    keeper = MaintenanceLeader(store, dispatcher, settings, label="me")
    (tmp_path / f".{run.run_id}.json.gz.coord-abc.tmp").write_text("left by a writer that was killed")

    assert keeper.run_once().forgotten == []
    until(lambda: list(tmp_path.glob("*.json.gz")))
    expiry = RunExpiry(store, NOTHING, RunArchiver(store, tmp_path))
    until(lambda: expiry.run_once() == [run.run_id])

    assert keys_of(run) == []
    assert [path.name for path in tmp_path.iterdir()] == [f"{run.run_id}.json.gz"]
    adopt(store, load(tmp_path / f"{run.run_id}.json.gz"), "me")
    assert run.view() == before
    assert RunExpiry(store, timedelta(minutes=1)).run_once() == [], "kept for as long again"


@pytest.mark.parametrize("trouble", ["folder missing", "folder full", "records damaged"])
def test_a_run_that_cannot_be_exported_is_not_forgotten_until_it_can(
    store: RunStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
):
    run, folder = ended(store, {"A": "r1"}), tmp_path / "kept"
    keys = store.keys.run(run.run_id)
    full = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    if trouble != "folder missing":
        folder.mkdir()
    if trouble == "folder full":
        monkeypatch.setattr(files.os, "fsync", full)
    if trouble == "records damaged":
        store.redis.set(keys.output, "no hash")
    expiry = RunExpiry(store, NOTHING, RunArchiver(store, folder, again_after_s=0))

    assert expiry.run_once() == []
    until(lambda: caplog.messages)
    for _ in range(3):
        assert expiry.run_once() == []
    assert (
        f"run {run.run_id} is kept although keep_runs is over, because it cannot be exported: " in caplog.text
    )
    assert keys_of(run)
    until(lambda: not folder.exists() or list(folder.iterdir()) == [])

    folder.mkdir(exist_ok=True)
    monkeypatch.undo()
    if trouble == "records damaged":
        store.redis.delete(keys.output)
    until(lambda: expiry.run_once() == [run.run_id])
    assert [path.name for path in folder.iterdir()] == [f"{run.run_id}.json.gz"]
    assert len(caplog.messages) == 1, "said once"


def test_runs_without_records_need_no_export(store: RunStore, tmp_path: Path):
    store.redis.zadd(store.keys.runs, {"20200101-000000-abcd": 1})
    expiry = RunExpiry(store, NOTHING, RunArchiver(store, tmp_path))

    until(lambda: expiry.run_once() == ["20200101-000000-abcd"])
    assert list(tmp_path.iterdir()) == []
