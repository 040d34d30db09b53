"""Messages about a run that is undone, was undone, or could not be."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from coordination.cli.following.follow import advice, failures
from coordination.cli.following.summary import exit_code, line, print_run, waits
from coordination.cli.runs import recovery
from coordination.errors import UsageError
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
