"""A run as data: the same shape wherever it is printed, and the commands that look at runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.acceptance.gate import Gate
from tests.testbed import PLAN, Done, Testbed

RUN = {
    "run_id", "plan_id", "status", "strategy", "switched", "on_failure", "actor", "started_at", "finished_at",
    "duration_s", "progress", "unwritten", "steered_by", "rollback", "internal_error", "carried_from",
    "bound_s", "counts", "cached", "todos", "timeout_s", "timed_out", "break_glass", "signed_by",
    "unsigned", "change_set", "branches", "tips", "waves", "overrides", "takes_over",
}  # fmt: skip
UNSIGNED = {"unsigned": ["the order"]}
"""Told by the view of one run only: nobody has an identity here."""
TODO = {
    "level", "id", "repo", "state", "attempt", "worker", "started_at", "finished_at", "duration_s",
    "exit_code", "error", "waits_for", "wait_reason", "since", "run", "cached", "approved_by", "comment",
    "was", "undo_s", "accepted", "accepted_by", "output", "signed_by", "not_committed", "usage",
}  # fmt: skip


@pytest.fixture(scope="module")
def swept(new_testbed: Callable[[], Testbed]) -> tuple[Testbed, Done]:
    """One todo of each outcome, swept with `--detach` and followed with `watch`."""
    testbed = new_testbed()
    gate = Gate(testbed.folder)
    testbed.write(
        [
            {
                "id": "good",
                "repo": "a",
                "action": (
                    f'{gate.action}; echo hello | tee result; echo \'{{"n": [1, "é"]}}\' > "$COORD_OUTPUT"'
                ),
            },
            {"id": "bad", "repo": "b", "action": "echo no >&2; exit 7"},
            {"id": "behind", "repo": "a", "action": "true", "blocked_by": ["bad"]},
            {"id": "further", "repo": "c", "action": "true", "blocked_by": ["behind"]},
            {"id": "outside", "repo": "c", "action": "true", "blocked_by": ["X"]},
            {"id": "idle", "repo": "d", "action": "echo changes nothing"},
            {"id": "X", "repo": "c", "action": "true", "plan": "OTHER"},
        ],
        plan={"on_failure": "continue"},
    )
    detached = testbed.sweep("--detach")
    assert detached.code == 0, detached.err
    assert "runs in the background; follow it: coord watch" in detached.err
    gate.wait()
    running = testbed.shown()
    assert (running.json["status"], running.json["finished_at"]) == ("running", None)
    gate.open()
    return testbed, testbed.coord("watch", "last", "--json")


def test_a_run_has_exactly_the_documented_fields(swept: tuple[Testbed, Done]) -> None:
    run = swept[1].json

    assert set(run) == RUN
    assert all(set(todo) == TODO for todo in run["todos"])
    assert (run["plan_id"], run["status"], run["on_failure"]) == (PLAN, "failed", "continue")
    assert run["strategy"] in ("levels", "dataflow")
    assert run["counts"] == {"succeeded": 2, "failed": 1, "skipped": 3}


def test_times_are_utc_and_add_up(swept: tuple[Testbed, Done]) -> None:
    run = swept[1].json
    good = swept[1].todo("good")

    for record in (run, good):
        begun, ended = (datetime.fromisoformat(record[name]) for name in ("started_at", "finished_at"))
        assert begun.utcoffset() == timedelta(0)
        assert abs((ended - begun).total_seconds() - record["duration_s"]) < 0.002
    assert 0 < run["bound_s"] <= run["duration_s"]


def test_a_todo_says_how_it_ended_and_what_held_it_up(swept: tuple[Testbed, Done]) -> None:
    good, bad, behind, further, outside = (
        swept[1].todo(name) for name in ("good", "bad", "behind", "further", "outside")
    )

    assert (good["exit_code"], good["error"], good["output"]) == (0, None, {"n": [1, "é"]})
    assert good["worker"].startswith("coord-")
    assert (bad["state"], bad["exit_code"], bad["error"]) == ("failed", 7, "exit code 7")
    assert (behind["state"], behind["error"]) == ("skipped", "needs bad, which failed")
    assert further["error"] == "needs bad, which failed"
    assert outside["error"] == "blocked by X (pending: do X) of OTHER"
    assert (behind["worker"], behind["started_at"], behind["duration_s"]) == (None, None, None)


def test_watch_ends_as_a_sweep_does_and_writes_back(swept: tuple[Testbed, Done]) -> None:
    testbed, watched = swept

    assert watched.code == 3
    assert testbed.coord("show-todo", "good", "--json").json["status"] == "completed"
    assert testbed.coord("show-todo", "bad", "--json").json["status"] == "pending"


def test_a_run_is_looked_at_from_anywhere_by_who_names_the_redis(
    swept: tuple[Testbed, Done], tmp_path: Path
) -> None:
    testbed, watched = swept
    url = str(testbed.server.url)

    again = testbed.coord("watch", "last", "--json", "--redis", url, cwd=tmp_path)
    shown = testbed.coord("show-run", "--json", "--redis", url, cwd=tmp_path)

    assert (again.code, again.json) == (3, watched.json)
    assert "no ecosystem.yaml here to update" in again.err
    assert (shown.code, shown.json) == (0, watched.json | UNSIGNED)
    assert list(tmp_path.iterdir()) == []


def test_where_work_is_and_what_failed_is_told_with_its_last_words_and_the_next_command(
    swept: tuple[Testbed, Done],
) -> None:
    _, watched = swept

    assert re.search(r"✗ bad  b  do bad  \S+ s  failed: exit code 7\n  \| no\n", watched.err)
    told = watched.err[watched.err.index("✗ bad  b  do bad  exit code 7\n") :].splitlines()

    run = watched.json["run_id"]
    assert told[1] == f"  full log: coord logs {run} bad"
    assert told[2].startswith("  worktree: ")
    assert told[3] == f"commits are on branch coord/{PLAN} in a"  # in d nothing was committed
    assert told[4].endswith(f"or by a commit in the worktree, on the branch of run {run}")
    assert told[5] == f"then run the rest: coord retry {run}"


def test_every_command_prints_the_same_run(swept: tuple[Testbed, Done]) -> None:
    testbed, watched = swept
    run_id = watched.json["run_id"]

    for name in ("last", run_id, run_id[-4:]):
        assert testbed.coord("show-run", name, "--json").json == watched.json | UNSIGNED
        read = testbed.shown(name).json  # a reader of runs alone, without their progress
        assert read | {"progress": watched.json["progress"]} == watched.json
    listed = testbed.coord("list-runs", "--json").json
    assert [set(run) for run in listed] == [RUN]
    told = RUN - {"todos", "bound_s", "branches", "tips"}  # the others are told of one run only
    assert {name: listed[0][name] for name in told} == {name: watched.json[name] for name in told}


def test_without_json_there_is_a_table_on_standard_output(swept: tuple[Testbed, Done]) -> None:
    testbed, watched = swept

    table = testbed.coord("show-run").out.splitlines()

    assert table[0].startswith(f"run {watched.json['run_id']} of {PLAN} failed in ")
    assert table[1].split() == ["TODO", "REPO", "STATE", "TRY", "TIME", "WHY"]
    (end,) = (at for at, line in enumerate(table) if line.startswith(f"change set {PLAN}: a ("))
    assert [line.split()[0] for line in table[2:end] if line] == [
        "good",
        "bad",
        "idle",
        "behind",
        "further",
        "outside",
    ]
    assert watched.json["run_id"] in testbed.coord("list-runs").out


def test_logs_print_what_a_todo_wrote_on_either_channel(swept: tuple[Testbed, Done]) -> None:
    testbed, _ = swept

    assert testbed.coord("logs", "last", "good").out == "hello\n"
    assert testbed.coord("logs", "last", "good", "--follow").out == "hello\n"
    assert testbed.coord("logs", "last", "bad").out == "no\n[coord] failed: exit code 7\n"
    assert testbed.coord("logs", "last", "behind").out == ""


def test_what_is_not_there_is_said_with_the_command_that_lists(swept: tuple[Testbed, Done]) -> None:
    testbed, _ = swept

    for words, hint in (
        (("show-run", "2020"), "coord list-runs"),
        (("watch", "nope"), "coord list-runs"),
        (("logs", "last", "nope"), "coord show-run"),
        (("cancel", "nope"), "coord list-runs"),
    ):
        answer = testbed.coord(*words)
        assert answer.code == 2
        assert hint in answer.err


def test_a_run_that_has_ended_cannot_be_steered(swept: tuple[Testbed, Done]) -> None:
    testbed, _ = swept

    for words in (("cancel",), ("run", "pause"), ("run", "resume")):
        answer = testbed.coord(*words, "last")
        assert (answer.code, "ended as failed at 20" in answer.err) == (6, True)
