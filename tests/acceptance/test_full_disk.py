"""A full disk: the todo says so, the run ends, the file is whole, and what was refused is done when there is
room again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.acceptance.gate import Gate
from tests.disks import fill
from tests.testbed import PLAN, Testbed
from tests.waiting import until


@pytest.fixture
def testbed(small_disk: object, testbed: Testbed) -> Testbed:
    """Ends before its disk is taken away."""
    return testbed


def test_a_todo_that_always_fills_the_disk_leaves_room_and_fails_in_the_end(
    testbed: Testbed, small_disk: Callable[[Path], Path]
) -> None:
    small_disk(testbed.folder)
    testbed.write([{"id": "A", "repo": "api", "action": "head -c 100000000 /dev/zero > big"}])
    declared = testbed.file.read_bytes()

    ended = testbed.coord("sweep", PLAN)

    assert ended.code == 3, ended.err
    assert "1 failed" in ended.out
    assert "  | head: error writing 'standard output': No space left on device" in ended.err
    assert testbed.file.read_bytes() == declared


def test_a_log_that_fills_the_disk_is_cut_and_marked_and_the_run_ends(
    testbed: Testbed, small_disk: Callable[[Path], Path]
) -> None:
    small_disk(testbed.folder)
    testbed.write(
        [{"id": "A", "repo": "api", "action": "yes 0123456789 | head -c 100000000; echo; echo x > y"}]
    )

    answer = testbed.sweep()

    assert (answer.code, answer.states) == (0, {"A": "succeeded"}), answer.err
    log = testbed.log_of(answer.json["run_id"], "A")
    assert log.endswith(b"A.log ends here: [Errno 28] No space left on device\n")
    assert testbed.coord("show-todo", "A", "--json").json["status"] == "completed"


def test_an_edit_without_room_leaves_the_file_as_it_was(
    testbed: Testbed, small_disk: Callable[[Path], Path]
) -> None:
    small_disk(testbed.folder)
    testbed.write([{"id": "A", "repo": "api"}])
    declared = testbed.file.read_bytes()
    fill(testbed.folder)

    answer = testbed.coord("create-todo", "--task", "B", "--repo", "api")

    assert (answer.code, "No space left on device" in answer.err, answer.out) == (1, True, "")
    assert testbed.file.read_bytes() == declared


def test_a_file_that_cannot_be_written_is_whole_and_is_brought_up_to_date_later(
    testbed: Testbed, small_disk: Callable[[Path], Path]
) -> None:
    small_disk(testbed.folder)
    filler = testbed.folder / "filler"
    # In place: a worktree that goes with the run would make a little room again.
    fills = {"action": f"head -c 100000000 /dev/zero > {filler} || true", "workspace": "in-place"}
    testbed.write([{"id": "A", "repo": "api", **fills}])
    declared = testbed.file.read_bytes()
    Path(testbed.state).symlink_to(elsewhere := testbed.folder.with_name("elsewhere"))
    elsewhere.mkdir()

    answer = testbed.sweep()
    kept = testbed.file.read_bytes()
    filler.unlink()
    synced = testbed.coord("run", "sync")

    assert answer.code == 0
    assert "ecosystem.yaml was not changed: No space left on device" in answer.err
    assert f"then write the results: coord run sync {answer.json['run_id']}" in answer.err
    assert kept == declared
    assert synced.code == 0
    assert testbed.coord("show-todo", "A", "--json").json["status"] == "completed"


def test_a_run_waits_while_redis_cannot_write_says_so_and_goes_on_when_it_can(
    testbed: Testbed, small_disk: Callable[[Path], Path]
) -> None:
    small_disk(testbed.state)
    gate = Gate(testbed.folder)
    testbed.write(
        [
            {"id": "A", "repo": "api", "action": gate.action},
            {"id": "B", "repo": "web", "action": "true", "blocked_by": ["A"]},
            {"id": "C", "repo": "log", "action": "true"},
        ]
    )
    testbed.up()
    worker = testbed.daemon("worker").pid
    sweep = testbed.begin("sweep", PLAN, "--todo", "A", "--todo", "B")
    gate.wait()
    client = redis.Redis.from_url(str(testbed.server.url))

    filler = fill(testbed.state)
    until(lambda: refused(client))
    gate.open()
    said = sweep.says("Redis cannot write to its disk")
    local = testbed.coord("sweep", PLAN, "--todo", "C")
    other = testbed.coord("run", "pause", "last", "--redis", str(testbed.server.url))
    filler.unlink()
    ended = sweep.done()

    assert "make room" in said
    assert (local.code, "make room" in local.err) == (1, True), local.err
    assert (other.code, "cannot write: MISCONF" in other.err, "make room" in other.err) == (7, True, True), (
        other.err
    )
    assert (ended.code, "2 succeeded" in ended.out) == (0, True), (
        ended.err + (testbed.state / "worker.log").read_text()
    )
    assert testbed.daemon("worker").pid == worker


def test_runs_are_shown_on_a_full_disk(testbed: Testbed, small_disk: Callable[[Path], Path]) -> None:
    small_disk(testbed.state)
    testbed.write([{"id": "A", "repo": "api", "action": "true"}])
    testbed.up()
    assert testbed.sweep().code == 0

    filler = fill(testbed.state)
    answers = [testbed.coord(*words) for words in (("list-runs",), ("show-run", "last"))]
    filler.unlink()

    assert [answer.code for answer in answers] == [0, 0], [answer.err for answer in answers]


def refused(client: redis.Redis) -> bool:
    try:
        client.set("filler", os.urandom(4096))
    except redis.ResponseError as error:
        return "MISCONF" in str(error)
    return False
