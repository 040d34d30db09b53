"""Two sweeps at once in one folder: whoever comes second to a repository waits for its seat, and says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.gate import Gate
from tests.stage import PLAN, Stage, git


def todos(gate: Gate) -> list[dict[str, str]]:
    return [
        {"id": "A", "repo": "api", "action": f"{gate.action}; echo A > a"},
        {"id": "B", "repo": "api", "action": "echo B > b"},
    ]


@pytest.fixture
def gate(stage: Stage) -> Iterator[Gate]:
    gate = Gate(stage.folder)
    stage.write(todos(gate))
    yield gate
    gate.open()


@pytest.mark.parametrize("threads", [1, 2], ids=["one-thread", "a-thread-is-free"])
def test_the_second_waits_for_the_seat_says_so_and_both_end_right(stage: Stage, gate: Gate, threads: int) -> None:
    if threads > 1:  # a worker has as many as there are repositories
        stage.write(todos(gate), repos={"spare": {}})
    first = stage.begin("sweep", PLAN, "--todo", "A")
    gate.wait()
    second = stage.begin("sweep", PLAN, "--todo", "B")
    said = second.says("waits for")
    gate.open()
    ended = [process.done(30) for process in (first, second)]

    runs = [run["run_id"] for run in stage.coord("list-runs", "--json").json][::-1]
    assert f"B waits for repository api, where run {runs[0]} works" in said
    assert [done.code for done in ended] == [0, 0], ended
    for run, file in zip(runs, "ab", strict=True):
        assert git(stage.folder / "api", "diff", "--name-only", "main", f"coord/{run}") == file
    assert stage.file.read_text().count("status: completed") == 2


def test_slots_let_both_work_at_once(stage: Stage, gate: Gate) -> None:
    stage.file.write_text(stage.file.read_text().replace("  path: api\n", "  path: api\n  slots: 2\n"))
    first = stage.begin("sweep", PLAN, "--todo", "A")
    gate.wait()

    second = stage.sweep("--todo", "B")
    gate.open()

    assert (first.wait(30), second.code) == (0, 0)
