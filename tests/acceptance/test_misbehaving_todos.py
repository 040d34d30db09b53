"""Todos that misbehave: they cost the worker nothing, and nothing of them is left."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.testbed import Done, Testbed

MEGABYTE = 1_000_000
GROWTH_ALLOWED = 60 * MEGABYTE
"""A worker that kept the output of one todo would grow by 100 MB; buffers and an allocator need about 10."""
LIMIT = 64 * 1024
TODOS = [
    {"id": "flood", "repo": "a", "action": "yes 0123456789 | head -c 100000000; echo; echo the last line"},
    {"id": "flood-again", "repo": "a", "action": "yes 0123456789 | head -c 100000000",
        "blocked_by": ["flood"]},
    {"id": "verbose", "repo": "h",
        "action": "yes 0123456789 | head -c 3000000; echo the cause stands at the end; exit 3"},
    {"id": "bytes", "repo": "b",
        "action": r"printf 'caf\303\251 \377\376 \0 end'; printf '\303'; sleep 0.3; printf '\251\n'"},
    {"id": "daemon", "repo": "c",
        "action": "setsid sh -c 'echo $$ > \"$D/daemon\"; exec sleep 1000' & wait_for=$D/daemon; "
               "while [ ! -s $wait_for ]; do sleep 0.01; done"},
    {"id": "endless", "repo": "d", "action": "echo begun; trap '' TERM; while :; do sleep 1; done",
        "timeout": "1s"},
    {"id": "silent", "repo": "e", "action": "echo before; exec >&- 2>&-; sleep 0.5; : > finished"},
    {"id": "deaf", "repo": "f", "action": "echo a | read -r _; kill -9 $$"},
    {"id": "missing", "repo": "g", "action": ["no-such-program", "--at-all"]},
]  # fmt: skip


@dataclass(frozen=True)
class Swept:
    testbed: Testbed
    answer: Done
    grown: int
    """Resident memory of the worker, after the sweep less before."""

    def log(self, todo: str) -> bytes:
        return self.testbed.log_of(self.answer.json["run_id"], todo)

    def shown(self, todo: str) -> str:
        return self.testbed.coord("logs", "last", todo).out


@pytest.fixture(scope="module")
def swept(new_testbed: Callable[[], Testbed]) -> Swept:
    testbed = new_testbed()
    folder = {"env": {"D": str(testbed.folder)}}
    testbed.settings = {"log_limit_bytes": LIMIT, "kill_grace": "500ms"}
    testbed.write([todo | folder for todo in TODOS], plan={"on_failure": "continue"})
    testbed.up()
    worker = testbed.daemon("worker").pid
    before = resident(worker)
    answer = testbed.sweep()
    return Swept(testbed, answer, peak(worker) - before)


def resident(pid: int) -> int:
    return kilobytes(pid, "VmRSS") * 1024


def peak(pid: int) -> int:
    return kilobytes(pid, "VmHWM") * 1024


def kilobytes(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def test_a_hundred_megabytes_of_output_are_whole_on_disk_and_cut_and_marked_elsewhere(swept: Swept) -> None:
    shown = swept.shown("flood")

    assert swept.answer.states["flood"] == "succeeded"
    assert len(swept.log("flood")) == 100 * MEGABYTE + len("\nthe last line\n")
    assert 0.9 * LIMIT <= len(shown) < LIMIT + 1000
    path = swept.testbed.state / "logs" / swept.answer.json["run_id"] / "flood.log"
    assert f" bytes left out here; see the log file {path}\n" in shown
    assert shown.startswith("0123456789\n")
    assert shown.endswith("0123456789\n0\nthe last line\n")


def test_the_cause_of_a_failure_is_shown_however_much_was_written_before_it(swept: Swept) -> None:
    assert "the cause stands at the end" in swept.answer.err
    assert swept.shown("verbose").endswith("the cause stands at the end\n[coord] failed: exit code 3\n")


def test_the_memory_of_the_worker_stays_flat_whatever_todos_write(swept: Swept) -> None:
    assert swept.answer.states["flood-again"] == "succeeded"
    assert swept.grown < GROWTH_ALLOWED


def test_bytes_that_are_no_text_are_kept_as_they_are_and_shown_with_a_mark(swept: Swept) -> None:
    assert swept.answer.states["bytes"] == "succeeded"
    assert swept.log("bytes") == b"caf\303\251 \377\376 \0 end\303\251\n"
    # A letter that came in two pieces is one.
    assert swept.shown("bytes") == "café \ufffd\ufffd \\u0000 endé\n"


def test_a_daemon_that_a_todo_leaves_behind_is_ended_with_it(swept: Swept) -> None:
    daemon = int((swept.testbed.folder / "daemon").read_text())

    assert swept.answer.states["daemon"] == "succeeded"
    assert swept.answer.todo("daemon")["duration_s"] < 300
    command_line = Path(f"/proc/{daemon}/cmdline")  # by now the number may be another process's
    assert not command_line.exists() or command_line.read_bytes() != b"sleep\0001000\0"


@pytest.mark.parametrize(
    ("todo", "state", "error", "exit_code", "least_s"),
    [
        ("endless", "failed", "timeout after 1 s", None, 1),
        ("silent", "succeeded", None, 0, 0.5),  # it closes its output, and goes on
        ("deaf", "failed", "killed by signal 9", None, 0),
        ("missing", "failed", "no-such-program: not found", 127, 0),
    ],
)
def test_a_todo_ends_with_the_cause_and_not_before_its_command(
    swept: Swept, todo: str, state: str, error: str | None, exit_code: int | None, least_s: float
) -> None:
    ended = swept.answer.todo(todo)

    assert (ended["state"], ended["exit_code"]) == (state, exit_code)
    assert (error or "") in (ended["error"] or "")
    assert ended["duration_s"] >= least_s


def test_the_run_is_told_in_lines_that_name_what_failed_and_why(swept: Swept) -> None:
    assert swept.answer.code == 3
    assert re.search(r"✗ endless  d  do endless  \d\.\d s  failed: timeout after 1 s", swept.answer.err)
    assert "coord logs" in swept.answer.err
    assert "begun" in swept.shown("endless")
    assert swept.shown("silent") == "before\n"
