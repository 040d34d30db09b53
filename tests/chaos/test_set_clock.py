"""Story: somebody sets the clock while runs are under way.

Server, commands and workers read a clock that the test sets: a few lines of C (tests/set_clock.c) stand
between them and libc, on Linux, where there is a compiler. The real clock is not touched.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.broker.celery_app import make_app
from coordination.runs.dispatch import Dispatcher
from coordination.runs.maintenance.leader import MaintenanceLeader
from coordination.runs.store import RunStore
from coordination.settings import Settings
from tests.engine import BAD, Engine
from tests.plans import ecosystem, graph, order
from tests.testbed import Testbed
from tests.waiting import until

HOUR = timedelta(hours=1)
LEASE = timedelta(seconds=6)
SETTINGS = Settings(lease_ttl=LEASE)
WAITS_FOR_GO = (
    'echo "$COORD_TODO_ID $COORD_ATTEMPT" >> "$LEDGER"; while [ ! -e "$LEDGER.go" ]; do sleep 0.05; done'
)
SOURCE = Path(__file__).parents[1] / "set_clock.c"


class WallClock:
    """The clock of the programs. Skips the test if it cannot be built."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no compiler for a clock that can be set")
        library = folder / "set_clock.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
        self._file = folder / "clock-set-by"
        self._by_ms = 0
        self._write()
        self.env = {"LD_PRELOAD": str(library), "CLOCK_SET_BY": str(self._file)}
        """Environment of programs that use this clock."""

    def set(self, by: timedelta) -> None:
        self._by_ms += int(by / timedelta(milliseconds=1))
        self._write()

    def _write(self) -> None:
        mode = "r+b" if self._file.exists() else "w+b"
        with self._file.open(mode) as file:  # in one piece, and never cut off: it is mapped into memory
            file.write(struct.pack("=q", self._by_ms))


@pytest.fixture
def wall(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


@pytest.fixture
def url(wall: WallClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in wall.env.items():
        monkeypatch.setenv(name, value)
    server = EmbeddedServer(tmp_path / ".coord", Settings())
    yield server.start()
    server.stop()


@pytest.fixture
def store(url: str) -> RunStore:
    return RunStore(connect(url, Profile.COMMAND), "test")


def keeper(url: str, store: RunStore, label: str) -> MaintenanceLeader:
    return MaintenanceLeader(
        store, Dispatcher(make_app(url, store.keys, SETTINGS), store), SETTINGS, label=label
    )


def submitted(store: RunStore) -> Engine:
    run = Engine(store)
    run.submit(graph({"A": "r1", "B": "r2"}), ecosystem({"A": "r1", "B": "r2"}), order(), SETTINGS)
    return run


def lost_by(keeper: MaintenanceLeader) -> list[tuple[str, str]]:
    """The todos that are lost in a round; none where another keeper leads."""
    report = keeper.run_once()
    return report.lost if report else []


def steps(store: RunStore) -> int:
    return int(store.redis.hget(store.keys.counters, "clock_steps") or 0)


def test_after_a_step_ahead_only_who_does_not_renew_is_lost(url: str, store: RunStore, wall: WallClock):
    one, other = keeper(url, store, "one"), keeper(url, store, "other")
    run = submitted(store)
    dead, living = run.take("A"), run.take("B")
    assert (lost_by(one), lost_by(other)) == ([], [])
    assert (one.leads, other.leads) == (True, False)

    wall.set(HOUR)

    def seen_to() -> bool:
        # The lead is over as well; the server may tell its old time once more.
        assert lost_by(other) == []
        assert lost_by(one) == []
        return steps(store) == 1

    until(seen_to)
    assert dead.todo_id == "A"

    def lost() -> list[tuple[str, str]]:
        assert store.renew({f"{run.run_id} B": living.fence}, LEASE) == ([], [])
        return lost_by(one) + lost_by(other)

    assert until(lost) == [(run.run_id, "A")]
    assert run.states()["B"] == "running"


def test_after_a_step_back_the_dead_are_given_up_and_timers_fire(url: str, store: RunStore, wall: WallClock):
    one, other = keeper(url, store, "one"), keeper(url, store, "other")
    run = submitted(store)
    run.take("A")
    store.retry(run.take("B"), timedelta(milliseconds=500), BAD)
    assert (lost_by(one), lost_by(other)) == ([], [])

    wall.set(-HOUR)  # and `one`, which led, is never heard of again
    until(lambda: lost_by(other) == [(run.run_id, "A")])
    assert other.leads
    assert steps(store) == 1
    until(lambda: other.run_once() is not None and run.states()["B"] != "retrying")


def test_a_keeper_that_is_started_after_a_step_back_takes_up_what_the_dead_have_left(
    url: str, store: RunStore, wall: WallClock
):
    run = submitted(store)
    run.take("A")
    wall.set(-HOUR)  # and Redis says that it is younger than nothing
    store.redis.zadd(store.keys.leases, {f"{run.run_id} A": 1})

    fresh = keeper(url, store, "fresh")
    until(lambda: lost_by(fresh) == [(run.run_id, "A")])


def test_a_todo_that_runs_while_the_clock_is_set_to_and_fro_runs_once(testbed: Testbed, wall: WallClock):
    testbed.env = wall.env
    for name, value in wall.env.items():
        os.environ[name] = value  # the clock of the server, which the testbed starts by itself
    try:
        testbed.settings = {"lease_ttl": "5s", "heartbeat": "500ms"}
        testbed.write(
            [
                {"id": "A", "repo": "r1", "action": WAITS_FOR_GO},
                {"id": "B", "repo": "r1", "blocked_by": ["A"], "action": "test -e $LEDGER.go"},
            ]
        )
        testbed.up()
        testbed.ok("sweep", "PLAN-001", "--detach")
        until(lambda: testbed.ledger == ["A 1"])

        for step in (HOUR, -HOUR, -HOUR, HOUR):
            before = _counted(testbed, "clock_steps")
            wall.set(step)
            until(lambda before=before: _counted(testbed, "clock_steps") > before)
        (testbed.folder / "ledger.go").touch()
        testbed.ok("watch", "last")

        assert testbed.ledger == ["A 1"]
        assert testbed.run()["counts"] == {"succeeded": 2}
        assert _counted(testbed, "leases_lost") == 0
    finally:
        for name in wall.env:
            del os.environ[name]


def _counted(testbed: Testbed, what: str) -> int:
    return int(testbed.redis().hget("coord:counters", what) or 0)
