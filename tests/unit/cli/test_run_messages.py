"""Messages about runs: reasons of waits and failures, the result of a rollback, the next command."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import gethostname

import click
import pytest
from click.testing import CliRunner

from coordination.cli.following.follow import advice, failures
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
from coordination.runs.records import RunStatus, TodoState, WaitReason
from coordination.runs.views.records import RunView, TodoView

AT = "2026-01-01T12:00:00.000+00:00"


def todo(name: str, state: TodoState, **more: object) -> TodoView:
    return TodoView.model_validate(
        {"id": name, "repo": "store", "state": state, "attempt": 2, "started_at": AT, **more}
    )


def run(status: RunStatus, *todos: TodoView, **more: object) -> RunView:
    times = dict.fromkeys(("started_at", "finished_at", "duration_s", "bound_s"))
    names = {
        "run_id": "R",
        "plan_id": "P",
        "strategy": "levels",
        "on_failure": "rollback",
        "actor": "ann",
        "counts": {},
    }
    return RunView.model_validate({**names, **times, "status": status, "todos": todos, **more})


def said(of: RunView) -> list[str]:
    told = failures(of, lambda _: "[coord] attempt 2\nno such bucket\n", Path("nowhere"))
    return [*told, *advice(of, {}, Path("nowhere"))]


UNDONE = todo("A", TodoState.COMPENSATED, was="succeeded", undo_s=0.21)
STUCK = todo("B", TodoState.COMPENSATION_FAILED, was="succeeded", error="exit code 1")
BEHIND = todo("C", TodoState.SUCCEEDED)


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (UNDONE, "↶ A  store  undone  0.2 s"),
        (STUCK, "✗ B  store  could not be undone: exit code 1"),
        (
            todo("B", TodoState.COMPENSATED, was="failed", accepted="it may stay", accepted_by="ann@desk"),
            "↶ B  store  accepted by ann@desk: it may stay",
        ),
        (
            todo(
                "B",
                TodoState.COMPENSATING,
                was="succeeded",
                error="exit code 1",
                waits_for="another try",
                wait_reason=WaitReason.TIMER,
            ),
            "↶ B  store  not undone yet: another try",
        ),
    ],
)
def test_a_line_says_what_came_of_undoing_a_todo(shown: TodoView, words: str):
    assert line(shown).plain == words


def test_a_failed_compensation_is_told_with_its_last_words_and_both_ways_on():
    assert said(run(RunStatus.ROLLBACK_FAILED, UNDONE, STUCK, BEHIND)) == [
        "✗ B  store  could not be undone: exit code 1",
        "  | no such bucket",
        "  full log: coord logs R B",
        "not undone yet: 1 earlier todo",
        "fix the cause, then try again: coord rollback R",
        'or, if it was undone by hand or may stay: coord rollback R --accept B --reason "…"',
    ]


def test_a_run_that_was_undone_says_so_and_what_had_failed():
    failed = todo("B", TodoState.COMPENSATED, was="failed", error="exit code 7\nmore")

    assert said(run(RunStatus.ROLLED_BACK, UNDONE, failed)) == [
        "✗ B  store  exit code 7",
        "  full log: coord logs R B",
        "all started todos were undone",
        "start again: coord sweep P",
    ]


def test_who_undid_a_retry_is_told_that_the_run_before_it_was_undone_with_it():
    assert "all started todos were undone, also those of run Q before it" in said(
        run(RunStatus.ROLLED_BACK, UNDONE, carried_from="Q")
    )


def test_what_a_person_answers_for_is_not_called_undone():
    accepted = todo("B", TodoState.COMPENSATED, was="failed", accepted="it may stay", accepted_by="ann@desk")

    assert said(run(RunStatus.ROLLED_BACK, UNDONE, accepted))[0] == (
        "all started todos were undone, except B (accepted as it is)"
    )


def test_a_run_that_had_begun_nothing_was_not_undone():
    assert "nothing had started" in said(
        run(RunStatus.ROLLED_BACK, todo("A", TodoState.CANCELLED, started_at=None))
    )


@pytest.mark.parametrize("status", [RunStatus.ROLLED_BACK, RunStatus.ROLLBACK_FAILED])
def test_a_run_that_was_undone_did_not_succeed(status: RunStatus):
    assert exit_code(run(status)) == 3


def test_the_summary_says_who_had_it_undone_why_and_what_each_todo_had_come_to(
    capsys: pytest.CaptureFixture[str],
):
    print_run(
        run(RunStatus.ROLLED_BACK, UNDONE, rollback="B failed: exit code 7", steered_by="ann"), as_json=False
    )

    out = capsys.readouterr().out
    assert "run R of P rolled_back by ann," in out
    assert "rolled back: B failed: exit code 7" in out
    assert "had succeeded" in out


def test_what_undoing_waits_for_is_told_and_its_next_try_is_no_news():
    going = todo("A", TodoState.COMPENSATING)
    soon = todo("B", TodoState.COMPENSATING, waits_for="a worker that is free", wait_reason=WaitReason.SLOT)
    again = todo("C", TodoState.COMPENSATING, waits_for="another try", wait_reason=WaitReason.TIMER)
    nobody = todo(
        "D",
        TodoState.COMPENSATING,
        waits_for="a worker for api: none serves it",
        wait_reason=WaitReason.WORKER,
    )

    assert [w.text for w in waits(run(RunStatus.ROLLING_BACK, soon, again))] == [
        "B waits for a worker that is free"
    ]
    assert [w.why for w in waits(run(RunStatus.ROLLING_BACK, going, soon, again, nobody))] == [
        nobody.waits_for
    ]


def prospect(
    *todos: str, helpless: tuple[str, ...] = (), status: RunStatus = RunStatus.SUCCEEDED
) -> RollbackPreview:
    return RollbackPreview(run_id="R", status=status, todos=todos, repos=("api", "web"), helpless=helpless)


@pytest.mark.parametrize(("answer", "agreed"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_on_a_terminal_it_is_asked_after_it_was_said_what_is_undone_and_what_nothing_undoes(
    answer: str, agreed: bool, monkeypatch: pytest.MonkeyPatch
):
    @click.command()
    def asked() -> None:
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        recovery._confirm(prospect("A", "B", helpless=("B",)), yes=False)

    shown = CliRunner().invoke(asked, input=answer, catch_exceptions=False)

    assert shown.exit_code == (0 if agreed else 1)
    assert "coord/R\n  no way to undo B: " in shown.stderr
    assert shown.stderr.startswith("2 todos of run R in api, web: undone in reverse order\n")
    assert "Undo 2 todos of run R? [y/N]" in shown.stderr


def test_what_is_under_way_or_nothing_is_not_asked_about(capsys: pytest.CaptureFixture[str]):
    recovery._confirm(prospect("A", status=RunStatus.ROLLING_BACK), yes=False)
    assert capsys.readouterr().err == ""
    recovery._confirm(prospect(), yes=False)
    assert capsys.readouterr().err == "run R has started nothing: there is nothing to undo\n"
    recovery._confirm(prospect("A"), yes=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--accept", "A"], "a reason is required"),
        (["--accept", "A", "--reason", " "], "a reason is required"),
        (["--reason", "x"], "--accept TODO"),
    ],
)
def test_accepting_needs_a_reason_and_a_reason_something_that_is_accepted(words: list[str], said: str):
    with pytest.raises(UsageError, match=said):
        CliRunner().invoke(recovery.rollback, words, obj=None, catch_exceptions=False, standalone_mode=False)


@pytest.mark.parametrize("wish", ["paused", "resumed", "cancelled"])
def test_a_run_that_is_rolled_back_goes_on_in_that_direction(wish: str):
    conflict = refused(wish, run(RunStatus.ROLLING_BACK))

    assert conflict.message == f"run R cannot be {wish}: it is being rolled back, and cannot turn back"
    assert conflict.hint == "follow it: coord watch R"


def failed_on(host: str) -> RunView:
    failed = todo("A", TodoState.FAILED, repo="units", worker=f"coord-7@{host}", error="exit code 1")
    return run(RunStatus.FAILED, failed)


@pytest.mark.parametrize(("host", "said"), [("far", True), (gethostname(), False)])
def test_what_failed_on_another_machine_is_said_to_have(host: str, said: bool, tmp_path: Path):
    lines = list(failures(failed_on(host), lambda _: "oops", tmp_path))

    assert ("  executed on host far" in lines) is said


def test_nobody_is_sent_to_a_worktree_that_was_never_made(tmp_path: Path):
    def says() -> str:
        return "\n".join(advice(failed_on(gethostname()), {}, tmp_path))

    assert "coord/R" not in says()
    (tmp_path / "units").mkdir()
    assert "coord/R" in says()


def test_the_preview_of_a_landing_says_for_each_repository_what_would_happen_to_its_branch(
    capsys: pytest.CaptureFixture[str],
):
    units = RepoPreview(
        repo="units",
        branch="main",
        tip="c0ffee",
        via="local",
        method="merge",
        host="desk",
        would="merge c0ffee",
    )

    show_landing(LandingPreview(kind="land", change_set="P", atomic="all", repos=(units,)))

    assert capsys.readouterr().err == "  units (main, local): would merge c0ffee\n"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (RunStatus.RUNNING, "run R continues"),
        (RunStatus.PAUSED, "run R is paused; continue it: coord resume R"),
        (RunStatus.ROLLING_BACK, "run R is being rolled back; follow it: coord watch R"),
        (RunStatus.FAILED, "run R has ended: failed"),
    ],
)
def test_it_says_what_becomes_of_the_run(status: RunStatus, words: str) -> None:
    assert _then("R", status) == words


SLOT = WaitReason.SLOT
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def waiting(name: str, state: TodoState, waits_for: str | None = None, *, since_s: int = 0) -> TodoView:
    since = (NOON + timedelta(seconds=since_s)).isoformat()
    reason = SLOT if waits_for == "a worker that is free" else WaitReason.WORKER if waits_for else None
    return todo(name, state, repo="api", waits_for=waits_for, wait_reason=reason, since=since)


def running(*todos: TodoView) -> RunView:
    return run(RunStatus.RUNNING, *todos)


def test_todos_that_wait_for_the_same_are_one_wait_the_longest_first() -> None:
    found = waits(
        running(
            waiting("A", TodoState.PARKED, "its turn", since_s=9),
            waiting("B", TodoState.PARKED, "a person", since_s=7),
            waiting("C", TodoState.PARKED, "its turn", since_s=5),
            waiting("D", TodoState.WAITING),
        )
    )

    assert [wait.text for wait in found] == [
        "2 todos queued: other todos of their repository run",
        "B waits for a person",
    ]
    assert found[0].since == NOON + timedelta(seconds=5)


def test_todos_behind_the_limit_of_the_run_name_that() -> None:
    queued = [waiting(name, TodoState.PARKED, "its turn") for name in "ABC"]
    full = running(*queued).model_copy(update={"counts": {"running": 3}})

    assert [wait.text for wait in waits(full, jobs=3)] == ["3 todos queued: --jobs 3 reached"]
    assert [wait.text for wait in waits(full, jobs=4)] == [
        "3 todos queued: other todos of their repository run"
    ]


def test_that_others_wait_for_a_free_worker_is_no_news_while_something_goes_on() -> None:
    free = waiting("A", TodoState.DISPATCHED, "a worker that is free")
    unserved = waiting("B", TodoState.DISPATCHED, "a worker for api: none serves it")

    assert [w.text for w in waits(running(free))] == ["A waits for a worker that is free"]
    (told,) = waits(running(free, unserved, waiting("C", TodoState.RUNNING)))
    assert told.text.startswith(
        "B waits for a worker for api: none serves it\n  coord worker --repo api=PATH"
    )


def test_what_runs_with_nobody_waits() -> None:
    gone = waiting("A", TodoState.RUNNING, "coord-7@ann, which is not heard of")
    free = waiting("B", TodoState.DISPATCHED, "a worker that is free")

    assert [wait.why for wait in waits(running(free, gone))] == [gone.waits_for, free.waits_for]


def test_of_a_paused_run_only_that_is_said() -> None:
    found = waits(run(RunStatus.PAUSED, waiting("A", TodoState.PARKED, "its turn")))

    assert [wait.text for wait in found] == ["the run is paused: coord resume R"]


def test_a_wait_is_said_when_it_is_new_and_again_at_growing_intervals() -> None:
    reminders, wait = Reminders(), Wait(why="x", text="A waits for x", since=NOON)

    said = [s for s in range(0, 1000, 5) if reminders.due([wait], NOON + timedelta(seconds=s))]

    assert said == [0, 30, 60, 120, 240, 480, 960]


def test_a_wait_that_was_over_is_new_when_it_comes_again() -> None:
    reminders, wait = Reminders(), Wait(why="x", text="A waits for x")

    assert reminders.due([wait], NOON)
    assert not reminders.due([wait], NOON + timedelta(seconds=1))
    assert not reminders.due([], NOON + timedelta(seconds=2))
    assert reminders.due([wait], NOON + timedelta(seconds=3))


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3, "0 s"), (4, "4 s"), (119, "119 s"), (300, "5 min"), (7500, "2 h 5 min")]
)
def test_how_long_is_told_as_a_person_would(seconds: int, words: str) -> None:
    assert how_long(timedelta(seconds=seconds)) == words


def test_a_wait_that_has_just_begun_has_no_duration() -> None:
    wait = Wait(why="x", text="A waits for x", since=NOON)

    assert format_wait(wait, NOON) == "· A waits for x"
    assert format_wait(wait, NOON + timedelta(seconds=4)) == "· A waits for x (4 s)"


def test_what_runs_is_told_the_longest_first_and_not_for_ever() -> None:
    under_way = [
        waiting(f"T{n}", TodoState.RUNNING).model_copy(update={"duration_s": 30.0 + 60 * n})
        for n in range(10)
    ]

    words = still_running(running(*under_way, waiting("W", TodoState.WAITING)))

    assert words.startswith("· running: T9 (9 min), T8 (8 min)")
    assert words.endswith("T2 (2 min) and 2 more")
    assert still_running(running(waiting("W", TodoState.WAITING))) == ""


def test_parked_todos_that_wait_for_a_person_are_counted_apart() -> None:
    asking = waiting("A", TodoState.PARKED, "an approval").model_copy(
        update={"wait_reason": WaitReason.PERSON}
    )
    other = waiting("B", TodoState.PARKED, "its turn").model_copy(
        update={"wait_reason": WaitReason.REPOSITORY}
    )

    def counts(*todos: TodoView, **numbers: int) -> str:
        return format_counts(running(*todos).model_copy(update={"counts": numbers}))

    assert counts(asking, parked=1) == "1 waiting for approval"
    assert counts(asking, other, succeeded=2, parked=2) == "2 succeeded, 1 parked, 1 waiting for approval"
    assert counts(parked=1) == "1 parked"
