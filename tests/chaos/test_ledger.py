"""The oracle sees each kind of wrong: fed with a run that went right, and with the same run gone wrong in one
respect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos.ledger import Event, Facts, Line, Record, parse, violations

RUN = "run-1"


def line(at_ms: int, kind: str, todo: str, attempt: int, fence: int) -> Line:
    return Line(kind=kind, run=RUN, todo=todo, attempt=attempt, fence=fence, at_ns=at_ms * 1_000_000)


def event(at_ms: int, what: str, todo: str = "", attempt: int = 0, fence: int = 0) -> Event:
    return Event(at_ms=at_ms, what=what, todo=todo, attempt=attempt, fence=fence)


# A's worker dies in its first attempt; B waits for A, fails once and is tried again.
LINES = [
    line(10, "start", "A", 1, 101),
    line(30, "start", "A", 2, 102),
    line(40, "end", "A", 2, 102),
    line(60, "start", "B", 1, 103),
    line(70, "fail", "B", 1, 103),
    line(90, "start", "B", 2, 104),
    line(95, "end", "B", 2, 104),
]
RECORD = Record(
    run=RUN,
    status="succeeded",
    todos={
        "A": Facts(state="succeeded", repo="r", settled_by=102, begun=True),
        "B": Facts(state="succeeded", repo="r", settled_by=104, before=("A",), begun=True),
    },
    events=[
        event(5, "todo.running", "A", 1),
        event(20, "todo.lost", "A", fence=101),
        event(50, "todo.succeeded", "A", 2),
        event(80, "todo.retrying", "B", 2),
        event(99, "todo.succeeded", "B", 2),
        event(99, "run.ended"),
    ],
)

# The same, taken back: B is undone before A.
UNDOING = [
    line(110, "undo-start", "B", 3, 105),
    line(120, "undo-end", "B", 3, 105),
    line(140, "undo-start", "A", 3, 106),
    line(150, "undo-end", "A", 3, 106),
]
UNDONE = Record(
    run=RUN,
    status="rolled_back",
    todos={
        "A": replace(RECORD.todos["A"], state="compensated", settled_by=106, compensates=True),
        "B": replace(RECORD.todos["B"], state="compensated", settled_by=105, compensates=True),
    },
    events=[*RECORD.events, event(130, "todo.compensated", "B"), event(160, "todo.compensated", "A")],
)

Case = tuple[list[Line], Record]


def with_todo(record: Record, todo: str, **facts: object) -> Record:
    changed = replace(record.todos[todo], **facts)  # type: ignore[arg-type]
    return replace(record, todos={**record.todos, todo: changed})


def without(what: str, record: Record = RECORD) -> Record:
    return replace(record, events=[event for event in record.events if event.what != what])


def further(*events: Event, to: Record = RECORD) -> Record:
    return replace(to, events=sorted([*to.events, *events], key=lambda event: event.at_ms))


def test_a_run_that_went_right_is_not_complained_of() -> None:
    assert violations(LINES, RECORD) == []
    assert violations([*LINES, *UNDOING], UNDONE) == []


WRONG: dict[str, tuple[str, Callable[[], Case]]] = {
    "a run that does not end": (
        "lost: the run is running",
        lambda: (LINES, replace(RECORD, status="running")),
    ),
    "a todo that does not end": (
        "lost: B is parked",
        lambda: (LINES, with_todo(RECORD, "B", state="parked")),
    ),
    "an end that nobody recorded": ("no event says so", lambda: (LINES, without("todo.succeeded"))),
    "two ends": ("settled twice: A", lambda: (LINES, further(event(55, "todo.failed", "A")))),
    "the same end twice": ("settled twice: A", lambda: (LINES, further(event(50, "todo.succeeded", "A")))),
    "two compensations": (
        "settled twice: A",
        lambda: ([*LINES, *UNDOING], further(event(170, "todo.compensated", "A"), to=UNDONE)),
    ),
    "a settle by the fence that was lost": (
        "which 1 body runs bear, 0 to the end",
        lambda: (LINES, with_todo(RECORD, "A", settled_by=101)),
    ),
    "a settle by a fence that nobody bears": (
        "which 0 body runs bear",
        lambda: (LINES, with_todo(RECORD, "A", settled_by=999)),
    ),
    "a settle by nobody": (
        "which 0 body runs bear",
        lambda: (LINES, with_todo(RECORD, "A", settled_by=None)),
    ),
    "a settle without a body run": (
        "0 body runs bear",
        lambda: ([it for it in LINES if it.todo != "B"], RECORD),
    ),
    "a settle before the body's end": (
        "came after its settle",
        lambda: ([replace(it, at_ns=100_000_000) if it == LINES[-1] else it for it in LINES], RECORD),
    ),
    "the same fence twice": (
        "a second run of the same attempt",
        lambda: ([*LINES, line(45, "start", "A", 2, 102)], RECORD),
    ),
    "an attempt that two workers were granted": (
        "a second run of the same attempt",
        lambda: ([replace(it, attempt=1) for it in LINES], RECORD),
    ),
    "a second run after a lease that was not lost": (
        "nothing records why the first ended",
        lambda: (LINES, without("todo.lost")),
    ),
    "a second run before the lease was lost": (
        "nothing records why the first ended",
        lambda: (LINES, further(event(35, "todo.lost", "A", fence=101), to=without("todo.lost"))),
    ),
    "a second run after another one's lease was lost": (
        "nothing records why the first ended",
        lambda: (LINES, further(event(20, "todo.lost", "A", fence=100), to=without("todo.lost"))),
    ),
    "a start before the predecessor's settle": (
        "early: B: start",
        lambda: ([line(45, "start", "B", 1, 103), *LINES[:3], *LINES[4:]], RECORD),
    ),
    "a start although the predecessor failed": (
        "early: B: start",
        lambda: (LINES, further(event(50, "todo.failed", "A"), to=without("todo.succeeded"))),
    ),
    "a start after the end": (
        "late: A: start of attempt 3",
        lambda: ([*LINES, line(55, "start", "A", 3, 107)], further(event(45, "todo.lost", "A", fence=102))),
    ),
    "two bodies in a repository at once": (
        "two at once in r",
        lambda: ([*LINES, line(35, "end", "A", 1, 101)], RECORD),
    ),
    "a body of a todo that is none": (
        "the run has no such todo",
        lambda: ([*LINES, line(35, "start", "C", 1, 111)], RECORD),
    ),
    "an undoing in the order of the doing": (
        "out of order: A",
        lambda: (
            [*LINES, *[replace(it, at_ns=it.at_ns - 60_000_000) if it.todo == "A" else it for it in UNDOING]],
            UNDONE,
        ),
    ),
    "something that is not undone": (
        "hidden: the run is rolled_back, and not undone is A",
        lambda: ([*LINES, *UNDOING[:2]], with_todo(UNDONE, "A", state="succeeded", settled_by=102)),
    ),
    "a compensation that failed and is not shown": (
        "hidden: the run is rolled_back, and not undone is A",
        lambda: ([*LINES, *UNDOING], with_todo(UNDONE, "A", state="compensation_failed")),
    ),
    "a failed rollback with nothing left to undo": (
        "everything is undone",
        lambda: ([*LINES, *UNDOING], replace(UNDONE, status="rollback_failed")),
    ),
    "an undoing that was settled by another fence": (
        "which 0 body runs bear",
        lambda: ([*LINES, *UNDOING], with_todo(UNDONE, "A", settled_by=102)),
    ),
    "an undoing twice": (
        "a second run, and nothing records",
        lambda: ([*LINES, line(135, "undo-start", "A", 2, 100), *UNDOING], UNDONE),
    ),
    "a start while the run is undone": (
        "began while the run was being undone",
        lambda: ([*LINES, *UNDOING, line(115, "start", "B", 9, 109)], UNDONE),
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_oracle_sees(wrong: str) -> None:
    words, case = WRONG[wrong]

    found = violations(*case())

    assert any(words in one for one in found), found


def test_what_was_handed_back_may_run_again_as_often_as_that_is_recorded() -> None:
    record = with_todo(without("todo.lost"), "A", handed_back=1)

    assert violations(LINES, record) == []


def test_a_compensation_that_a_person_answers_for_needs_no_body() -> None:
    record = with_todo(UNDONE, "A", accepted=True)

    assert violations([*LINES, *UNDOING[:2]], record) == []


def test_a_line_is_read_as_the_body_writes_it() -> None:
    assert parse(f"start {RUN} A 1 101 10000000\n") == [LINES[0]]
    with pytest.raises(TypeError):
        parse("start run-1 A 1")
