"""Two sweeps at once in one folder: whoever comes second to a repository waits for its seat, and says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.gate import Gate
from tests.acceptance.workplace import PLAN, Workplace, git
from tests.waiting import until


def todos(gate: Gate) -> dict[str, dict[str, str]]:
    return {
        "A": {"repo": "api", "action": f"{gate.action}; echo A > a"},
        "B": {"repo": "api", "action": "echo B > b"},
    }


@pytest.fixture
def gate(place: Workplace) -> Iterator[Gate]:
    gate = Gate(place.folder)
    place.declare(todos(gate))
    yield gate
    gate.open()


@pytest.mark.parametrize("threads", [1, 2], ids=["one-thread", "a-thread-is-free"])
def test_the_second_waits_for_the_seat_says_so_and_both_end_right(place: Workplace, gate: Gate, threads: int) -> None:
    if threads > 1:  # a worker has as many as there are repositories
        place.declare(todos(gate), repos={"spare": {}})
    first = place.begin("sweep", PLAN, "--todo", "A")
    gate.wait()
    second = place.begin("sweep", PLAN, "--todo", "B")
    assert second.stderr
    said: list[str] = []
    until(lambda: said.append(second.stderr.readline()) or "waits for" in said[-1], 20)
    gate.open()
    outs = [process.communicate(timeout=30) for process in (first, second)]

    runs = [run["run_id"] for run in place.coord("list-runs", "--json").data][::-1]
    assert f"B waits for repository api, where run {runs[0]} works" in said[-1]
    assert [first.returncode, second.returncode] == [0, 0], outs
    for run, file in zip(runs, "ab", strict=True):
        assert git(place.folder / "api", "diff", "--name-only", "main", f"coord/{run}") == file
    assert place.file.read_text().count("status: completed") == 2


def test_slots_let_both_work_at_once(place: Workplace, gate: Gate) -> None:
    place.file.write_text(place.file.read_text().replace("  path: api\n", "  path: api\n  slots: 2\n"))
    first = place.begin("sweep", PLAN, "--todo", "A")
    gate.wait()

    second = place.sweep("--todo", "B")
    gate.open()
    first.communicate(timeout=30)

    assert (first.returncode, second.code) == (0, 0)
