"""On a worker's own machine its death is known at once, by the flock that it held; its lease need not run
out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordination.backend.steps.run import Reply
from coordination.runs.store import RunStore
from coordination.settings import Settings
from tests.engine import Engine
from tests.integration.conftest import submitted
from workers.leases import FOLDER, LocalLiveness

Make = Callable[..., LocalLiveness]


class Follows:
    """The dispatcher's part, played by the engine."""

    def __init__(self, run: Engine) -> None:
        self.follow: Callable[[Reply], Reply] = run.follow


@pytest.fixture
def run(store: RunStore) -> Engine:
    return submitted(store, {"A": "r1", "B": "r2"})


@pytest.fixture
def worker(run: Engine, tmp_path: Path) -> Iterator[Make]:
    made: list[LocalLiveness] = []

    def make(name: str, **settings: object) -> LocalLiveness:
        given = Settings(**settings)  # type: ignore[arg-type]
        made.append(LocalLiveness(tmp_path, name, run.store, Follows(run), given))
        made[-1].sign()
        return made[-1]

    yield make
    for roll in made:
        roll.stop()


def die(roll: LocalLiveness) -> None:
    """As the system ends a process: the lock is free, and the file is there."""
    assert roll._lock is not None
    os.close(roll._lock)
    roll._lock = None


def holds(run: Engine, todo: str, worker: str) -> None:
    run.take(todo)
    run.store.redis.hset(run.store.keys.run(run.run_id).facts, f"{todo} worker", worker)


def test_a_dead_workers_todo_alone_is_tried_again_at_once(run: Engine, worker: Make, tmp_path: Path):
    dead, alive = worker("coord-1@h"), worker("coord-2@h")
    holds(run, "A", "coord-1@h")
    holds(run, "B", "coord-2@h")
    assert alive.run_once() == []

    die(dead)

    assert alive.run_once() == ["coord-1@h"]
    assert alive.run_once() == []
    assert run.states() == {"A": "dispatched", "B": "running"}
    assert run.next().attempt == 2  # type: ignore[union-attr]
    assert [file.name for file in (tmp_path / FOLDER).iterdir()] == ["coord-2@h"]


def test_a_worker_with_the_id_of_a_dead_one_recovers_its_todos(run: Engine, worker: Make):
    dead = worker("coord-7@h")
    holds(run, "A", "coord-7@h")
    die(dead)

    worker("coord-7@h")

    assert run.states()["A"] == "dispatched"


def test_a_worker_of_another_host_is_left_to_its_lease(run: Engine, worker: Make):
    dead, alive = worker("coord-1@elsewhere"), worker("coord-2@h")
    holds(run, "A", "coord-1@elsewhere")
    die(dead)

    assert alive.run_once() == []
    assert run.states()["A"] == "running"


def test_a_worker_that_went_in_order_leaves_nothing(worker: Make, tmp_path: Path):
    gone, alive = worker("coord-1@h"), worker("coord-2@h")
    gone.stop()

    assert alive.run_once() == []
    assert [file.name for file in (tmp_path / FOLDER).iterdir()] == ["coord-2@h"]


def test_a_look_without_repair_takes_no_todo(run: Engine, worker: Make):
    dead = worker("coord-7@h")
    holds(run, "A", "coord-7@h")
    die(dead)

    worker("coord-7@h", reaper=False)

    assert run.states()["A"] == "running"


def test_an_unwritable_folder_only_costs_speed(run: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / FOLDER).write_text("in the way")

    LocalLiveness(tmp_path, "coord-1@h", run.store, Follows(run), Settings()).sign()  # type: ignore[arg-type]

    assert "cannot see that this one lives" in caplog.text
