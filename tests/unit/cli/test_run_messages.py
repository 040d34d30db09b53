"""Messages about runs: reasons of waits and failures, the result of a rollback, the next command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import Any

import click
import pytest
from click.testing import CliRunner

from coordination.cli.app import coord
from coordination.cli.context import CliContext
from coordination.cli.following.follow import advice, failures
from coordination.cli.following.live_progress import age_s, brief, print_levels, progress_lines
from coordination.cli.following.summary import (
    Reminders,
    Wait,
    exit_code,
    format_counts,
    format_wait,
    line,
    print_run,
    still_running,
    waits,
)
from coordination.cli.landing.land import show_landing
from coordination.cli.runs import recovery
from coordination.cli.runs.control import _then
from coordination.cli.times import how_long
from coordination.errors import UsageError
from coordination.landing.preview import LandingPreview, RepoPreview
from coordination.runs.control.steering import RollbackPreview, refused
from coordination.runs.records import AgentUsage, RunStatus, TodoState, WaitReason
from coordination.runs.views.records import Progress, RunView, TodoView

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT = NOON.isoformat()
FREE, TURN = "a free worker", "its turn"
UNSERVED = "a worker for store: none serves it"


def todo(name: str, state: TodoState, waits_for: str | None = None, **more: object) -> TodoView:
    reasons = {None: None, FREE: WaitReason.SLOT, "another try": WaitReason.TIMER}
    fields = {"id": name, "repo": "store", "state": state, "attempt": 2, "started_at": AT}
    wait = {"waits_for": waits_for, "wait_reason": reasons.get(waits_for, WaitReason.WORKER)}
    return TodoView.model_validate({**fields, **wait, **more})


def run(status: RunStatus, *todos: TodoView, **more: object) -> RunView:
    empty = dict.fromkeys(("started_at", "finished_at", "duration_s", "bound_s"))
    fixed = {"run_id": "R", "plan_id": "P", "strategy": "levels", "on_failure": "rollback", "actor": "ann"}
    return RunView.model_validate({**empty, **fixed, "counts": {}, "status": status, "todos": todos, **more})


UNDONE = todo("A", TodoState.COMPENSATED, was="succeeded", undo_s=0.21)
STUCK = todo("B", TodoState.COMPENSATION_FAILED, was="succeeded", error="exit code 1")
ACCEPTED = todo("B", TodoState.COMPENSATED, was="failed", accepted="it may stay", accepted_by="ann@desk")
AGAIN = todo("B", TodoState.COMPENSATING, "another try", was="succeeded", error="exit code 1")
FAILED_BEFORE = todo("B", TodoState.COMPENSATED, was="failed", error="exit code 7\nmore")


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (UNDONE, "↶ A  store  undone  0.2 s"),
        (STUCK, "✗ B  store  could not be undone: exit code 1"),
        (ACCEPTED, "↶ B  store  accepted by ann@desk: it may stay"),
        (AGAIN, "↶ B  store  not undone yet: another try"),
    ],
)
def test_a_line_says_how_the_compensation_of_a_todo_ended(shown: TodoView, text: str):
    assert line(shown).plain == text


ENDS = {
    "a failed compensation, its log and both next commands": (
        run(RunStatus.ROLLBACK_FAILED, UNDONE, STUCK, todo("C", TodoState.SUCCEEDED)),
        [
            "✗ B  store  could not be undone: exit code 1",
            "  | no such bucket",
            "  full log: coord logs R B",
            "not undone yet: 1 earlier todo",
            "fix the cause, then try again: coord rollback R",
            'or, if it was undone by hand or may stay: coord rollback R --accept B --reason "…"',
        ],
    ),
    "a rollback and its cause": (
        run(RunStatus.ROLLED_BACK, UNDONE, FAILED_BEFORE),
        [
            "✗ B  store  exit code 7",
            "  | no such bucket",
            "  full log: coord logs R B",
            "all started todos were undone",
            "start again: coord sweep P",
        ],
    ),
    "a rollback of a retry": (
        run(RunStatus.ROLLED_BACK, UNDONE, carried_from="Q"),
        ["all started todos were undone, also those of run Q before it", "start again: coord sweep P"],
    ),
    "an accepted compensation": (
        run(RunStatus.ROLLED_BACK, UNDONE, ACCEPTED),
        ["all started todos were undone, except B (accepted as it is)", "start again: coord sweep P"],
    ),
    "a run that had started nothing": (
        run(RunStatus.ROLLED_BACK, todo("A", TodoState.CANCELLED, started_at=None)),
        ["nothing had started", "start again: coord sweep P"],
    ),
}


@pytest.mark.parametrize(("ended", "lines"), ENDS.values(), ids=ENDS)
def test_the_end_of_a_rollback_says(ended: RunView, lines: list[str]):
    told = failures(ended, lambda _: "[coord] attempt 2\nno such bucket\n", Path("nowhere"))

    assert [*told, *advice(ended, {}, Path("nowhere"))] == lines
    assert exit_code(ended) == 3, "a run that was undone did not succeed"


def test_the_summary_says_who_rolled_back_and_why_and_the_former_states(capsys: pytest.CaptureFixture[str]):
    why = {"rollback": "B failed: exit code 7", "steered_by": "ann"}
    print_run(run(RunStatus.ROLLED_BACK, UNDONE, **why), as_json=False)

    out = capsys.readouterr().out
    for text in ("run R of P rolled_back by ann: ", "rolled back: B failed: exit code 7", "had succeeded"):
        assert text in out


@pytest.mark.parametrize("show", [partial(print_run, as_json=False), print_levels])
def test_a_run_shows_what_the_agents_of_each_todo_have_used(
    show: Callable[[RunView], None], capsys: pytest.CaptureFixture[str]
):
    used = AgentUsage(rounds=2, turns=14, input=200_000, output=12_000, micro_usd=310_000)
    agents = [todo("A", TodoState.SUCCEEDED, usage=used), todo("B", TodoState.RUNNING, usage=used)]
    show(run(RunStatus.RUNNING, *agents, todo("C", TodoState.SUCCEEDED)))

    lines = capsys.readouterr().out.splitlines()
    shown = [line.split()[0] for line in lines if "2 rounds, 14 turns, 212,000 tokens, 0.31 USD" in line]
    assert shown == ["A", "B"]


def test_a_run_shows_the_sum_of_what_its_agents_have_used(capsys: pytest.CaptureFixture[str]):
    agents = [todo(name, TodoState.SUCCEEDED, usage=AgentUsage(rounds=1)) for name in "AB"]
    print_run(run(RunStatus.SUCCEEDED, *agents), as_json=False)
    print_run(run(RunStatus.SUCCEEDED, todo("C", TodoState.SUCCEEDED)), as_json=False)

    with_agents, without = capsys.readouterr().out.split("run R of P")[1:]
    assert "used by agents: 2 rounds, 0 turns, 0 tokens\n" in with_agents
    assert "used" not in without.lower()


def preview(*todos: str, helpless: tuple[str, ...] = (), **more: Any) -> RollbackPreview:
    fields = {
        "run_id": "R",
        "status": RunStatus.SUCCEEDED,
        "repos": ("api", "web"),
        "branches": ("coord/R",),
        **more,
    }
    return RollbackPreview(todos=todos, helpless=helpless, **fields)


@pytest.mark.parametrize(("answer", "agreed"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_a_person_at_a_terminal_is_asked_after_the_list_of_what_is_undone(
    answer: str, agreed: bool, monkeypatch: pytest.MonkeyPatch
):
    @click.command()
    def asked() -> None:
        for stream in (sys.stdin, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda: True)
        recovery._confirm(preview("A", "B", helpless=("B",)), yes=False)

    shown = CliRunner().invoke(asked, input=answer, catch_exceptions=False)

    assert shown.exit_code == (0 if agreed else 1)
    assert shown.stderr.startswith("2 todos of run R in api, web: undone in reverse order\n")
    assert "coord/R\n  no way to undo B: " in shown.stderr
    assert "Undo 2 todos of run R? [y/N]" in shown.stderr


def test_a_rollback_under_way_or_of_nothing_needs_no_answer(capsys: pytest.CaptureFixture[str]):
    recovery._confirm(preview("A", status=RunStatus.ROLLING_BACK), yes=False)
    assert capsys.readouterr().err == ""
    recovery._confirm(preview(), yes=False)
    assert capsys.readouterr().err == "run R has started nothing: there is nothing to undo\n"
    recovery._confirm(preview("A"), yes=True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--accept", "A"], "a reason is required"),
        (["--accept", "A", "--reason", " "], "a reason is required"),
        (["--reason", "x"], "--accept TODO"),
    ],
)
def test_an_acceptance_needs_a_reason_and_a_reason_a_todo(options: list[str], text: str):
    with pytest.raises(UsageError, match=text):
        coord(["rollback", *options], obj=CliContext([]), standalone_mode=False)


@pytest.mark.parametrize("wish", ["paused", "resumed", "cancelled"])
def test_a_rollback_cannot_be_steered(wish: str):
    conflict = refused(wish, run(RunStatus.ROLLING_BACK))

    assert conflict.message == f"run R cannot be {wish}: it is being rolled back, and cannot turn back"
    assert conflict.hint == "follow it: coord watch R"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (RunStatus.RUNNING, "run R continues"),
        (RunStatus.PAUSED, "run R is paused; continue it: coord run resume R"),
        (RunStatus.ROLLING_BACK, "run R is being rolled back; follow it: coord watch R"),
        (RunStatus.FAILED, "run R has ended: failed"),
    ],
)
def test_a_decision_is_followed_by_the_state_of_the_run(status: RunStatus, text: str):
    assert _then("R", status) == text


def failed_on(host: str) -> RunView:
    worker = f"coord-7@{host}"
    return run(
        RunStatus.FAILED, todo("A", TodoState.FAILED, repo="units", worker=worker, error="exit code 1")
    )


def test_a_failure_names_another_host_or_the_worktree_here(tmp_path: Path):
    far, here = failed_on("far"), failed_on(gethostname())

    assert ["  executed on host far" in failures(one, lambda _: "oops", tmp_path) for one in (far, here)] == [
        True,
        False,
    ]
    assert "branch of run R" not in "\n".join(advice(here, {}, tmp_path)), "it has no worktree"
    (tmp_path / "units").mkdir()
    assert "branch of run R" in "\n".join(advice(here, {}, tmp_path))


def test_the_preview_of_a_landing_has_a_line_for_each_repository(capsys: pytest.CaptureFixture[str]):
    units = RepoPreview(
        repo="units", branch="main", tip="c0ffee", via="local", method="merge", host="desk",
        would="merge c0ffee",
    )  # fmt: skip

    show_landing(LandingPreview(kind="land", change_set="P", atomic="all", repos=(units,)))

    assert capsys.readouterr().err == "  units (main, local): would merge c0ffee\n"


PARKED, SENT = TodoState.PARKED, TodoState.DISPATCHED
QUEUED = [todo(name, PARKED, TURN) for name in "ABC"]
UNDOING = [todo("B", TodoState.COMPENSATING, FREE), todo("C", TodoState.COMPENSATING, "another try")]
GONE = "coord-7@ann, which is not heard of"
WAITS: dict[str, tuple[list[TodoView], dict[str, Any], list[str]]] = {
    "one for todos that wait for the same, the longest first": (
        [
            todo("A", PARKED, TURN, since=(NOON + timedelta(seconds=9)).isoformat()),
            todo("B", PARKED, "a person", since=(NOON + timedelta(seconds=7)).isoformat()),
            todo("C", PARKED, TURN, since=(NOON + timedelta(seconds=5)).isoformat()),
            todo("D", TodoState.WAITING),
        ],
        {},
        ["2 todos queued: other todos of their repository run", "B waits for a person"],
    ),
    "the limit of the run": (QUEUED, {"jobs": 3}, ["3 todos queued: --jobs 3 reached"]),
    "no limit that is not reached": (
        QUEUED,
        {"jobs": 4},
        ["3 todos queued: other todos of their repository run"],
    ),
    "a free worker while nothing runs": ([todo("A", SENT, FREE)], {}, [f"A waits for {FREE}"]),
    "no free worker while a todo runs, but a missing one": (
        [todo("A", SENT, FREE), todo("B", SENT, UNSERVED), todo("C", TodoState.RUNNING)],
        {},
        [f"B waits for {UNSERVED}\n  coord worker --repo store=PATH"],
    ),
    "a running todo whose worker is gone": (
        [todo("B", SENT, FREE), todo("A", TodoState.RUNNING, GONE)],
        {},
        [f"A waits for {GONE}", f"B waits for {FREE}"],
    ),
    "a compensation, but not its next try": (
        UNDOING,
        {"status": RunStatus.ROLLING_BACK},
        [f"B waits for {FREE}"],
    ),
    "a missing worker while another compensation runs": (
        [todo("A", TodoState.COMPENSATING), *UNDOING, todo("D", TodoState.COMPENSATING, UNSERVED)],
        {"status": RunStatus.ROLLING_BACK},
        [f"D waits for {UNSERVED}\n  coord worker --repo store=PATH"],
    ),
    "a pause alone": (
        [todo("A", PARKED, TURN)],
        {"status": RunStatus.PAUSED},
        ["the run is paused: coord run resume R"],
    ),
}


@pytest.mark.parametrize(("todos", "how", "texts"), WAITS.values(), ids=WAITS)
def test_waits_are(todos: list[TodoView], how: dict[str, Any], texts: list[str]):
    of_run = run(how.get("status", RunStatus.RUNNING), *todos, counts={"running": 3})

    found = [wait.text for wait in waits(of_run, how.get("jobs"))]

    assert len(found) == len(texts)
    assert all(text.startswith(start) for text, start in zip(found, texts, strict=True)), found


def test_a_wait_is_said_when_it_is_new_and_again_at_growing_intervals():
    reminders, wait = Reminders(), Wait(why="x", text="A waits for x", since=NOON)
    said = [s for s in range(0, 1000, 5) if reminders.due([wait], NOON + timedelta(seconds=s))]
    assert said == [0, 30, 60, 120, 240, 480, 960]

    assert not reminders.due([], NOON + timedelta(seconds=1000))
    assert reminders.due([wait], NOON + timedelta(seconds=1001)), "it is new when it comes again"


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0 s"), (4, "4 s"), (119, "119 s"), (300, "5 min"), (7500, "2 h 5 min")]
)
def test_a_wait_has_a_duration_as_people_say_it(seconds: int, text: str):
    wait = Wait(why="x", text="A waits for x", since=NOON)

    assert how_long(timedelta(seconds=seconds)) == text
    shown = format_wait(wait, NOON + timedelta(seconds=seconds))
    assert shown == ("· A waits for x" if seconds < 1 else f"· A waits for x ({text})")


def test_running_todos_are_named_the_longest_first_up_to_eight():
    begun = [todo(f"T{n}", TodoState.RUNNING, duration_s=30.0 + 60 * n) for n in range(10)]

    text = still_running(run(RunStatus.RUNNING, *begun, todo("W", TodoState.WAITING)))

    assert text.startswith("· running: T9 (9 min), T8 (8 min)")
    assert text.endswith("T2 (2 min) and 2 more")
    assert still_running(run(RunStatus.RUNNING, todo("W", TodoState.WAITING))) == ""


@pytest.mark.parametrize(
    ("reasons", "numbers", "text"),
    [
        ([WaitReason.PERSON], {"parked": 1}, "1 waiting for approval"),
        (
            [WaitReason.PERSON, WaitReason.REPOSITORY],
            {"succeeded": 2, "parked": 2},
            "2 succeeded, 1 parked, 1 waiting for approval",
        ),
        ([], {"parked": 1}, "1 parked"),
    ],
)
def test_todos_that_wait_for_a_person_are_counted_apart(
    reasons: list[WaitReason], numbers: dict[str, int], text: str
):
    todos = [todo(f"T{reason}", PARKED, "x", wait_reason=reason) for reason in reasons]

    assert format_counts(run(RunStatus.RUNNING, *todos, counts=numbers)) == text


def test_a_follower_counts_from_the_start_of_the_run_and_rounds_down_as_lists_do() -> None:
    at = "2026-01-02T23:00:12.000+00:00"
    run = RunView.model_construct(
        started_at="2026-01-02T23:00:00.000+00:00", finished_at=None, progress=Progress(at=at, percent=94.9)
    )

    assert age_s(run) == 12
    assert next(iter(progress_lines(Progress(at=at, percent=94.9)))).startswith("94 % done")
    assert brief(Progress(at=at, percent=94.9)) == "94 % done"
