"""A full disk: the todo says so, the run ends, the file is whole, and what was refused is done when there is room again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from tests.acceptance.gate import Gate
from tests.acceptance.workplace import PLAN, Workplace
from tests.waiting import until

SMALL = "24m"


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path], Path]]:
    """Puts a folder on a disk of its own, of 24 MB."""
    mounted: list[Path] = []

    def mount(folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL},mode=700", "tmpfs", folder]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def place(small_disk: object, place: Workplace) -> Workplace:
    """Ends before its disk is taken away."""
    return place


def fill(folder: Path) -> Path:
    """Take all that is left of the disk."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with suppress(OSError):
                while file.write(b"\0" * size) == size:
                    pass
    return filler


def test_a_todo_that_fills_the_disk_fails_and_the_run_ends_when_there_is_room(
    place: Workplace, small_disk: Callable[[Path], Path]
) -> None:
    small_disk(place.folder)
    place.declare({"A": {"repo": "api", "action": "head -c 100000000 /dev/zero > big"}})
    declared = place.file.read_bytes()
    sweep = place.begin("sweep", PLAN)

    (big,) = until(lambda: list(place.state.glob("worktrees/*/api/big")), 20)
    until(lambda: "A of run" in (place.state / "worker.log").read_text(), 20)
    big.unlink()
    out, err = sweep.communicate(timeout=60)

    assert sweep.returncode == 3, err
    assert "1 failed" in out
    assert "  | head: error writing 'standard output': No space left on device" in err
    assert place.file.read_bytes() == declared


def test_a_log_that_fills_the_disk_is_cut_and_marked_and_the_run_ends(
    place: Workplace, small_disk: Callable[[Path], Path]
) -> None:
    small_disk(place.folder)
    place.declare({"A": {"repo": "api", "action": "yes 0123456789 | head -c 100000000; echo; echo x > y"}})

    answer = place.sweep()

    assert (answer.code, answer.states) == (0, {"A": "succeeded"}), answer.err
    log = place.log_of(answer.data["run_id"], "A")
    assert log.endswith(b"A.log ends here: [Errno 28] No space left on device\n")
    assert place.coord("show-todo", "A", "--json").data["status"] == "completed"


def test_a_file_that_cannot_be_written_is_whole_and_is_brought_up_to_date_later(
    place: Workplace, small_disk: Callable[[Path], Path]
) -> None:
    small_disk(place.folder)
    filler = place.folder / "filler"
    place.declare({"A": {"repo": "api", "action": f"head -c 100000000 /dev/zero > {filler} || true"}})
    declared = place.file.read_bytes()
    Path(place.state).symlink_to(elsewhere := place.folder.with_name("elsewhere"))
    elsewhere.mkdir()

    answer = place.sweep()
    kept = place.file.read_bytes()
    filler.unlink()
    synced = place.coord("sync")

    assert answer.code == 0
    assert "ecosystem.yaml was not changed: No space left on device" in answer.err
    assert f"when it can be: coord sync {answer.data['run_id']}" in answer.err
    assert kept == declared
    assert synced.code == 0
    assert place.coord("show-todo", "A", "--json").data["status"] == "completed"


def test_a_run_waits_while_redis_cannot_write_says_so_and_goes_on_when_it_can(
    place: Workplace, small_disk: Callable[[Path], Path]
) -> None:
    small_disk(place.state)
    gate = Gate(place.folder)
    place.declare(
        {
            "A": {"repo": "api", "action": gate.action},
            "B": {"repo": "web", "action": "true", "blocked_by": ["A"]},
            "C": {"repo": "log", "action": "true"},
        }
    )
    place.up()
    worker = place.running("worker").pid
    sweep = place.begin("sweep", PLAN, "--todo", "A", "--todo", "B")
    gate.wait()
    client = redis.Redis.from_url(str(place.server.url))

    filler = fill(place.state)
    until(lambda: refused(client))
    gate.open()
    said = until_it_says(sweep, "Redis cannot write to its disk")
    local = place.coord("sweep", PLAN, "--todo", "C")
    other = place.coord("pause", "last", "--redis", str(place.server.url))
    filler.unlink()
    out, err = sweep.communicate(timeout=60)

    assert "make room" in said
    assert (local.code, "make room" in local.err) == (1, True), local.err
    assert (other.code, "cannot write: MISCONF" in other.err, "make room" in other.err) == (7, True, True), other.err
    assert (sweep.returncode, "2 succeeded" in out) == (0, True), err + (place.state / "worker.log").read_text()
    assert place.running("worker").pid == worker


def until_it_says(process: subprocess.Popen[str], words: str) -> str:
    assert process.stderr
    said: list[str] = []
    until(lambda: said.append(process.stderr.readline()) or words in said[-1], 30)
    return "".join(said)


def refused(client: redis.Redis) -> bool:
    try:
        client.set("filler", os.urandom(4096))
    except redis.ResponseError as error:
        return "MISCONF" in str(error)
    return False
