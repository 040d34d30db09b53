"""The output of a sweep: its announcement, each begin and end once, then failures and next commands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.gate import Gate
from tests.terminals import Terminal, on_terminal
from tests.testbed import PLAN, Testbed
from tests.waiting import until

FAILING = 'for i in 1 2 3; do echo "line $i"; done; exit 7'
TODOS = [
    {"id": "A", "repo": "api", "action": "true"},
    {"id": "B", "repo": "web", "blocked_by": ["A"], "action": "true"},
    {"id": "C", "repo": "lib", "blocked_by": ["B"], "action": FAILING},
]
FIRST = re.compile(
    r"run \S+ of PLAN-001: 3 todos in 3 repositories on this host \(embedded Redis\), at most \d+ at once"
)


@pytest.fixture(scope="module")
def running(new_testbed: Callable[[], Testbed]) -> Testbed:
    testbed = new_testbed()
    testbed.write(TODOS)
    testbed.up()
    return testbed


@pytest.fixture
def declared(running: Testbed) -> Testbed:
    """With nothing completed."""
    running.write(TODOS)
    return running


def test_off_a_terminal_each_todo_begins_and_ends_once_and_failures_come_last(declared: Testbed) -> None:
    swept = declared.coord("sweep", PLAN)
    shown = declared.coord("show-run", "last").out

    assert swept.code == 3
    first, *rest = swept.err.splitlines()
    assert FIRST.fullmatch(first)
    for todo, marks in (("A", "▶✓"), ("B", "▶✓"), ("C", "▶✗✗")):  # C fails, and is shown with its log
        ours = [line for line in rest if line[1:].startswith(f" {todo}  ")]
        assert [line[0] for line in ours] == list(marks)
        assert all(f"  do {todo}" in line for line in ours), "each line has the task"
    told, output = "\n".join(rest), "  | line 1\n  | line 2\n  | line 3\n"
    assert re.search(rf"✗ C  lib  do C  \S+ s  failed: exit code 7\n{re.escape(output)}", told)
    assert told.count(output) == 1, "the report does not repeat it"
    failures = told[-600:]
    assert "✗ C  lib  do C  exit code 7\n  full log: coord logs " in failures
    assert re.search(r"coord retry \S+", failures)
    assert re.search(r"coord show-run \S+", failures)

    (summary,) = swept.out.splitlines()
    assert summary.startswith("run ")
    assert "2 succeeded, 1 failed" in summary
    assert not re.search("strategy|levels|dataflow|schedule", swept.out + swept.err + shown)
    assert "no schedule could take less than" in declared.coord("show-run", "last", "-v").out
    assert "exit code 7\n  | line 1\n" in shown, "all of it is the answer of show-run, also in a file"
    assert re.search(r"coord retry \S+", shown)
    table = shown.partition("\nchange set ")[0].splitlines()[1:]
    assert [line.split()[0] for line in table] == ["TODO", "A", "B", "C"]


def test_the_end_of_a_sweep_names_what_has_not_changed_and_the_next_step(running: Testbed) -> None:
    running.write([{**TODOS[0], "action": "echo 1 > version"}, TODOS[1]])
    swept = running.ok("sweep", PLAN)

    assert f"coord land {PLAN}\n" in swept.err
    assert "unchanged: web\n" in swept.err
    assert "coord pr create" not in swept.err, "no forge has a token"


def test_a_quiet_call_names_the_failed_todos_and_gives_no_advice(declared: Testbed) -> None:
    swept = declared.coord("-q", "sweep", PLAN)

    assert swept.code == 3
    assert "✗ C  lib  do C  exit code 7\n  | line 1\n" in swept.err
    assert "coord logs" in swept.err
    assert "coord retry" not in swept.err


def test_on_a_terminal_every_end_is_printed_once(declared: Testbed) -> None:
    seen = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", on_terminal(declared, "sweep", PLAN, columns=200, code=3))
    lines = [line.rpartition("\r")[2].strip() for line in seen.splitlines()]

    assert FIRST.fullmatch(lines[0])
    assert len([line for line in lines if re.match(r"✓ A +api", line)]) == 1
    assert len([line for line in lines if re.match(r"✓ B +web", line)]) == 1
    assert not [line for line in lines if re.match(r"(A|B|C) +(api|web|lib) +(succeeded|failed)", line)]
    begun = [line for line in lines if re.match(r"▶ (A|B|C)  (api|web|lib)  do", line)]
    assert not begun, "the live area shows what runs"


def running_lines(shown: str) -> list[str]:
    """The lines of running todos in all frames of a terminal."""
    lines = re.split("[\r\n]+", re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", shown))
    return [line.rstrip() for line in lines if line.startswith("▶")]


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_what_runs_with_the_last_line_that_it_has_written(
    declared: Testbed, tmp_path: Path, columns: int
) -> None:
    gate, task = Gate(tmp_path), "Measure the throughput of the interface for all users of it"
    said = r"printf 'one\n\033]0;owned\007\033[2Jpass 420 of 900: throughput 0, %080d\n' 7"
    declared.write([{"id": "A", "repo": "api", "task": task, "action": f"{said}; {gate.action}"}])

    sweep = Terminal(declared, "sweep", PLAN, columns=columns, TERM="xterm")
    until(lambda: "pass 420 of 900" in sweep.read(), 15)
    gate.open()

    assert sweep.until_it_ends() == 0, sweep.shown
    last = running_lines(sweep.shown)[-1]
    assert re.match(r"▶ A  api  \d+ s  ", last)
    assert r"\u001b]0;owned\u0007\u001b[2Jpass 420" in last
    assert last.endswith("…")
    assert ("Measure the" in last) == (columns == 120), "a narrow terminal has the output instead"
    assert {len(line) for line in running_lines(sweep.shown)} <= set(range(columns + 1))
    assert "\x1b]0;owned" not in sweep.shown
    assert "✓ A  api  " in sweep.shown.replace("\x1b[1m", "").replace("\x1b[0m", "")


def test_the_time_of_a_run_that_is_watched_counts_from_its_start(declared: Testbed, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    declared.write([{"id": "A", "repo": "api", "action": gate.action}])
    declared.ok("sweep", PLAN, "--detach")
    until(lambda: (declared.ok("show-run", "--json").json["todos"][0]["duration_s"] or 0) > 1)

    watch = Terminal(declared, "watch", "last", TERM="xterm")
    until(lambda: running_lines(watch.read()), 15)
    gate.open()

    assert watch.until_it_ends() == 0
    assert "0:00:00" not in watch.shown


def test_off_a_terminal_a_line_says_now_and_then_what_runs_and_for_how_long(
    declared: Testbed, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    declared.write([{"id": "A", "repo": "api", "action": gate.action}])

    swept = declared.begin("todo", "execute", "A", COORD_PROGRESS_INTERVAL="200ms")
    line = swept.says("; running: ")
    gate.open()

    assert re.fullmatch(r"· \d+ % done.*; running: A \(\d+ s\)\n", line)
    assert swept.done().code == 0


@pytest.mark.parametrize("on_failure", ["continue", "rollback"])
def test_of_a_todo_with_several_attempts_the_last_one_is_shown(running: Testbed, on_failure: str) -> None:
    number = f'"$LEDGER".{on_failure}'
    action = f'echo >> {number}; echo "this is try $(wc -l < {number})"; exit 1'
    retry = {"attempts": 2, "delay": 0.01}
    todo = {"id": "R", "repo": "api", "action": action, "retry": retry, "compensate": "echo undoing it"}
    running.write([todo], plan={"on_failure": on_failure})

    swept = running.coord("sweep", PLAN)

    assert [line for line in swept.err.splitlines() if line.startswith("  | ")] == ["  | this is try 2"]
