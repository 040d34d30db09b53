"""A worker writes the results of runs that nobody follows into the file from which they were submitted."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from coordination.ecosystem.document import load
from coordination.ecosystem.editing import exclusive
from coordination.ecosystem.journal import Journal
from coordination.runs.maintenance.expiry import forget
from coordination.runs.store import RunStore
from coordination.runs.write_back import FILE, file_id, write_results
from tests.disks import fill
from tests.engine import BAD, OK, Engine, retry_of
from tests.integration.conftest import submitted
from tests.plans import PLAN
from tests.waiting import until
from workers.file_services import GRACE_MS, ResultsWriter

TODOS = {"A": "r1", "B": ("r2", ["A"]), "C": "r3"}
UNDOABLE = {"compensate": "true"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    todos = [{"id": name, "task": "t", "repo": "r", "plan": PLAN} for name in TODOS]
    path = tmp_path / "ecosystem.yaml"
    path.write_text(
        yaml.safe_dump({"coordination": {"plans": [{"id": PLAN, "title": "a plan"}], "todos": todos}})
    )
    return path


@pytest.fixture
def run(store: RunStore, file: Path) -> Engine:
    made = submitted(store, TODOS, A=UNDOABLE, B=UNDOABLE, C=UNDOABLE)
    store.redis.hset(store.keys.run(made.run_id).meta, FILE, file_id(file))
    return made


@pytest.fixture
def writer(store: RunStore, file: Path) -> ResultsWriter:
    return ResultsWriter(store, file)


def waiting(store: RunStore, file: Path) -> list[str]:
    found: list[str] = store.redis.zrange(store.keys.unwritten(file_id(file)), 0, -1)
    return found


def overdue(store: RunStore, file: Path) -> None:
    """As if the runs had ended longer ago than a process that follows them needs."""
    for run_id in waiting(store, file):
        store.redis.zincrby(store.keys.unwritten(file_id(file)), -2 * GRACE_MS, run_id)


def statuses(file: Path) -> dict[str, str]:
    return {todo.id: str(todo.status) for todo in load(file).ecosystem.coordination.todos}


def test_results_are_written_after_some_seconds_with_the_run_as_cause(
    run: Engine, writer: ResultsWriter, file: Path
) -> None:
    run.drain(lambda grant: BAD if grant.todo_id == "C" else OK)
    assert waiting(run.store, file) == [run.run_id]
    assert writer.run_once() == []  # a process that follows the run is to come first

    overdue(run.store, file)

    assert writer.run_once() == [run.run_id]
    assert statuses(file) == {"A": "completed", "B": "completed", "C": "pending"}
    assert waiting(run.store, file) == []
    *_, edit = Journal(file).entries()
    assert edit.cause == run.run_id
    assert "@" in edit.actor
    assert {event["kind"] for event in edit.events} == {"todo.completed"}


def test_a_worker_that_stops_writes_at_once(run: Engine, writer: ResultsWriter, file: Path) -> None:
    run.drain()

    writer.start()
    writer.stop()

    assert set(statuses(file).values()) == {"completed"}


def test_results_are_written_once_however_many_do_it_at_once(
    run: Engine, store: RunStore, file: Path
) -> None:
    run.drain()
    overdue(store, file)
    together = threading.Barrier(6)

    def by_hand() -> None:
        together.wait()
        write_results(store, run.run_id, file, file_id(file))

    def by_worker() -> None:
        together.wait()
        ResultsWriter(store, file).run_once()

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(one) for one in (by_hand, by_worker) * 3]:
            done.result()

    _, *edits = Journal(file).entries()
    assert len(edits) == 1
    assert len(edits[0].events) == len(TODOS)
    assert waiting(store, file) == []


def another_user(file: Path) -> None:
    os.chown(file, 12345, -1)


def own_again(file: Path) -> None:
    os.chown(file, os.geteuid(), -1)


TROUBLE: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "invalid": (lambda f: f.write_text("{" + f.read_text()), lambda f: f.write_text(f.read_text()[1:])),
    "read-only": (lambda f: f.chmod(0o444), lambda f: f.chmod(0o644)),
    "gone": (lambda f: f.rename(f.with_name("away")), lambda f: f.with_name("away").rename(f)),
    "of another user": (another_user, own_again),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_results_wait_for_a_file_that_cannot_be_written_and_it_is_said_why(
    trouble: str, run: Engine, writer: ResultsWriter, file: Path
) -> None:
    if trouble == "of another user" and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    spoil, mend = TROUBLE[trouble]
    run.drain()
    overdue(run.store, file)
    before = file.read_bytes()
    spoil(file)

    assert writer.run_once() == []

    assert waiting(run.store, file) == [run.run_id]
    assert str(file) in (run.view().unwritten or "")
    mend(file)
    assert file.read_bytes() == before
    assert writer.run_once() == [run.run_id]  # at once: the file has changed
    assert set(statuses(file).values()) == {"completed"}
    assert run.view().unwritten is None


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_results_wait_for_a_disk(
    trouble: str, store: RunStore, small_disk: Callable[[Path], Path], file: Path
) -> None:
    folder = small_disk(file.parent / "disk")
    text = file.read_text()
    file = folder / file.name
    file.write_text(text + "# more than the rest of the disk\n" * 20_000)
    run = submitted(store, TODOS)
    store.redis.hset(store.keys.run(run.run_id).meta, FILE, file_id(file))
    run.drain()
    overdue(store, file)
    before, writer = file.read_bytes(), ResultsWriter(store, file)
    if trouble == "full":
        filler = fill(folder)
    else:
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)

    assert writer.run_once() == []

    assert file.read_bytes() == before
    assert str(folder) in (run.view().unwritten or "")
    if trouble == "full":
        filler.unlink()
    else:
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
    until(writer.run_once)
    assert set(statuses(file).values()) == {"completed"}


def test_what_happens_to_the_file_and_the_run_meanwhile_is_kept(
    run: Engine, writer: ResultsWriter, file: Path
) -> None:
    """A todo is removed, another one is edited, and the run is retried, before its results are written."""
    run.drain(lambda grant: BAD if grant.todo_id == "C" else OK)
    rows = yaml.safe_load(file.read_text())
    todos = [{**todo, "task": "of a person"} for todo in rows["coordination"]["todos"] if todo["id"] != "B"]
    file.write_text(yaml.safe_dump({"coordination": {**rows["coordination"], "todos": todos}}))
    first = run.run_id
    retry = retry_of(run.store, first, None, carried=lambda *_: frozenset({"A", "B"}))
    run.begin_again(retry, file=file_id(file))
    run.drain()
    overdue(run.store, file)

    assert writer.run_once() == [first, run.run_id]
    assert statuses(file) == {"A": "completed", "C": "completed"}
    assert {todo.task for todo in load(file).ecosystem.coordination.todos} == {"of a person"}


def test_results_wait_for_another_edit(run: Engine, writer: ResultsWriter, file: Path) -> None:
    run.drain()
    overdue(run.store, file)

    with exclusive(file):
        writer.start()
        writer.wake()
        assert set(statuses(file).values()) == {"pending"}
    until(lambda: set(statuses(file).values()) == {"completed"})
    writer.stop()


def test_only_the_file_from_which_a_run_came_gets_its_results(
    run: Engine, store: RunStore, file: Path, tmp_path: Path
) -> None:
    """A copy of it, another folder, another machine."""
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "ecosystem.yaml"
    other.write_bytes(file.read_bytes())
    nameless = submitted(store, {"A": "r1"})  # as with `write_back: none`
    run.drain()
    nameless.drain()
    overdue(store, file)

    assert ResultsWriter(store, other).run_once() == []
    write_results(store, run.run_id, other, file_id(other))  # `coord run sync` there

    assert set(statuses(other).values()) == {"completed"}
    assert waiting(store, file) == [run.run_id]


def test_a_rollback_ends_the_run_again_and_its_todos_become_pending(
    run: Engine, writer: ResultsWriter, file: Path
) -> None:
    run.drain()
    overdue(run.store, file)
    writer.run_once()

    run.roll_back()
    run.drain()
    overdue(run.store, file)

    assert writer.run_once() == [run.run_id]
    assert set(statuses(file).values()) == {"pending"}


def test_what_a_person_reopens_afterwards_stays_open(run: Engine, writer: ResultsWriter, file: Path) -> None:
    run.drain()
    overdue(run.store, file)
    writer.run_once()

    file.write_text(file.read_text().replace("completed", "pending"))

    assert writer.run_once() == []
    assert set(statuses(file).values()) == {"pending"}


def test_a_damaged_or_deleted_run_keeps_no_other_from_being_written(
    run: Engine, store: RunStore, writer: ResultsWriter, file: Path
) -> None:
    key = store.keys.unwritten(file_id(file))
    damaged = submitted(store, {"A": "r1"})
    store.redis.hset(store.keys.run(damaged.run_id).meta, FILE, file_id(file))
    damaged.drain()
    store.redis.hset(store.keys.run(damaged.run_id).state, "A", "rubbish")
    run.drain()
    store.redis.zadd(key, {"gone": 1})
    overdue(store, file)

    assert writer.run_once() == [run.run_id]

    assert waiting(store, file) == [damaged.run_id]
    forget(store, damaged.run_id)
    assert waiting(store, file) == []
