"""Completed todos written back: the meant characters change, every other byte stays."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordination.ecosystem.changes import RunOutcome
from coordination.ecosystem.editing import exclusive
from coordination.ecosystem.journal import Journal
from coordination.ecosystem.writeback import Written, write_back
from coordination.ecosystem.yaml_text.lines import BREAK, BREAKS, alone_before, line_stop, next_line
from coordination.errors import EditConflict, InvalidFile

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def complete_todos(path: Path, hours: Mapping[str, float | None], now: datetime) -> tuple[str, ...]:
    return write_back(path, lambda: RunOutcome(plan="", succeeded=hours, undone={}), now).completed


def reopen_todos(
    path: Path, hours: Mapping[str, float | None], now: datetime
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    written = write_back(path, lambda: RunOutcome(plan="", succeeded={}, undone=hours), now)
    return written.reopened, written.left


def written(tmp_path: Path, before: str, hours: float | None = 0.5) -> str:
    path = tmp_path / "ecosystem.yaml"
    path.write_bytes(before.encode())
    complete_todos(path, {"T": hours}, NOW)
    return path.read_bytes().decode()


HEAD = "coordination:\n  todos:\n"
ITEMS = {
    "fields beside their siblings, after the comments of these": (
    "  - id: T\n    status: pending   # why\n    # own line\n\n    task: t\n    estimated_hours: 2\n"
    "    repo: r\n",
     "  - id: T\n    status: completed   # why\n    updated: 2026-03-04\n    # own line\n\n    task: t\n"
     "    estimated_hours: 2\n    actual_hours: 0.5\n    repo: r\n"),
    "no line end at the end": ("  - id: T\n    task: t\n    repo: r\n    status: pending",
    "  - id: T\n    task: t\n    repo: r\n    status: completed\n    updated: 2026-03-04\n"
    "    actual_hours: 0.5"),
    "times where there are times": (
     "  - {id: T, task: t, repo: r, created: 2026-01-01T00:00:00Z, status: pending}\n",
     "  - {id: T, task: t, repo: r, created: 2026-01-01T00:00:00Z, updated: 2026-03-04T05:06:07Z, "
     "actual_hours: 0.5, status: completed}\n"),
    "flow style over several lines": (
     "  - {\n    id: T, # c\n    task: t, repo: r,\n    status: pending, # d\n    }\n",
    "  - {\n    id: T, # c\n    task: t, repo: r,\n    status: completed, # d\n    updated: 2026-03-04,\n"
    "    actual_hours: 0.5,\n    }\n"),
    "merged from another": ("  - &x {id: X, task: t, repo: r, status: cancelled}\n  - <<: *x\n    id: T\n",
     "  - &x {id: X, task: t, repo: r, status: cancelled}\n  - <<: *x\n    id: T\n    status: completed\n"
     "    updated: 2026-03-04\n    actual_hours: 0.5\n"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), ITEMS.values(), ids=ITEMS.keys())
@pytest.mark.parametrize("style", ["\n", "\r\n", "BOM"])
def test_only_the_meant_values_change(tmp_path: Path, before: str, after: str, style: str):
    mark, line_end = ("\ufeff", "\n") if style == "BOM" else ("", style)
    head = mark + "# Größe 😀\n" + HEAD

    changed = written(tmp_path, (head + before).replace("\n", line_end))

    assert changed == (head + after).replace("\n", line_end)


CANNOT = {
    "other todos take it over": "  - &x {id: T, task: t, repo: r, status: pending}\n  - {<<: *x, id: Y}\n",
    "names with question marks": "  - ? id\n    : T\n    ? task\n    : t\n    ? repo\n    : r\n",
}


@pytest.mark.parametrize("item", CANNOT.values(), ids=CANNOT.keys())
def test_what_cannot_be_edited_safely_is_refused_and_the_file_stays(tmp_path: Path, item: str):
    path = tmp_path / "ecosystem.yaml"
    path.write_text(HEAD + item)

    with pytest.raises(EditConflict) as caught:
        complete_todos(path, {"T": 0.5}, NOW)

    assert caught.value.hint
    assert path.read_text() == HEAD + item


def test_todos_that_come_through_an_alias_are_refused(tmp_path: Path):
    path = tmp_path / "ecosystem.yaml"
    path.write_text("settings: {}\nrepos: []\n<<: {coordination: {todos: [{id: T, task: t, repo: r}]}}\n")

    with pytest.raises(EditConflict, match="alias"):
        complete_todos(path, {"T": 0.5}, NOW)


def test_a_broken_file_is_not_touched(tmp_path: Path):
    path = tmp_path / "ecosystem.yaml"
    path.write_text(HEAD + "  - {id: T, task: t}\n")

    with pytest.raises(InvalidFile, match="repo"):
        complete_todos(path, {"T": 0.5}, NOW)

    assert path.read_text() == HEAD + "  - {id: T, task: t}\n"


def test_completed_and_forgotten_todos_are_left_alone(tmp_path: Path):
    path = tmp_path / "ecosystem.yaml"
    path.write_text(
        HEAD + "  - {id: T, task: t, repo: r, status: completed}\n  - {id: U, task: t, repo: r}\n"
    )
    first = path.stat().st_ino

    nothing = complete_todos(path, {"T": 1, "GONE": 1}, NOW)
    untouched = path.stat().st_ino == first
    one = complete_todos(path, {"U": None, "T": 1}, NOW)

    assert (nothing, untouched, one) == ((), True, ("U",))
    assert path.read_text() == HEAD + (
        "  - {id: T, task: t, repo: r, status: completed}\n"
        "  - {id: U, task: t, repo: r, status: completed, updated: 2026-03-04}\n"
    )


def test_what_a_run_had_completed_is_pending_again_and_what_a_person_completed_stays(tmp_path: Path):
    path = tmp_path / "ecosystem.yaml"
    before = HEAD + (
        "  - id: T # this\n    task: t\n    repo: r\n    status: pending # why\n\n"
        "    # own line\n    labels: [a]\n"
        "  - {id: U, task: t, repo: r, status: completed, actual_hours: 3} # by hand, with hours\n"
        "  - {id: V, task: t, repo: r, status: completed} # by hand\n"
        "  - {id: W, task: t, repo: r}\n"
    )
    path.write_text(before)
    hours = {"T": 0.0163456, "U": 0.5, "V": 0.0, "W": 0.5}
    complete_todos(path, {"T": hours["T"]}, NOW)

    reopened = reopen_todos(path, hours, NOW)
    again = reopen_todos(path, hours, NOW)

    assert (reopened, again) == ((("T",), ("U", "V")), ((), ("U", "V")))
    assert path.read_text() == before.replace("pending # why\n", "pending # why\n    updated: 2026-03-04\n")


def test_what_a_run_is_known_to_have_completed_is_pending_again_though_a_person_changed_its_hours(
    tmp_path: Path,
):
    path = tmp_path / "ecosystem.yaml"
    path.write_text(HEAD + "  - {id: T, task: t, repo: r, status: completed, actual_hours: 2}\n")
    undone = RunOutcome(plan="PLAN-001", succeeded={}, undone={"T": 0.5})

    assert write_back(path, lambda: undone, NOW).left == ("T",)
    assert write_back(path, lambda: replace(undone, reopened=frozenset({"T"})), NOW) == Written()
    assert write_back(path, lambda: replace(undone, filed=frozenset({"T"})), NOW).reopened == ("T",)


@pytest.mark.parametrize("hours", [0.0, 1 / 3, 2.0, 0.0123456, 0.0000471, 123.456])
def test_the_hours_that_a_run_wrote_are_known_again_however_long_it_took(tmp_path: Path, hours: float):
    path = tmp_path / "ecosystem.yaml"
    path.write_text(HEAD + "  - {id: T, task: t, repo: r}\n")

    assert complete_todos(path, {"T": hours}, NOW) == ("T",)
    assert reopen_todos(path, {"T": hours}, NOW) == (("T",), ())


@pytest.mark.parametrize(
    ("hours", "rounded"),
    [
        (0, "0"),
        (2, "2"),
        (100, "100"),
        (1.2345, "1.23"),
        (0.1, "0.1"),
        (0.0123456, "0.01"),
        (0.00987, "0.0099"),
        (0.001, "0.001"),
        (0.2 / 3600, "0.000056"),
        (1e-9, "0"),
        (10.0, "10"),
    ],
)
def test_hours_are_rounded_to_what_people_care_about(tmp_path: Path, hours: float, rounded: str):
    text = written(tmp_path, HEAD + "  - {actual_hours: 7, id: T, task: t, repo: r}\n", hours)

    assert f"actual_hours: {rounded}," in text


PLANS = """\
coordination:
  plans:
    - id: PLAN-002
      title: another
      milestones:
        - {id: M1, name: the same name}
    - id: PLAN-001
      title: a plan
      updated: 2026-01-01   # c
      milestones:
        - {id: M1, name: reviewed, status: pending, gate: true}   # why
        - {id: M2, name: shipped, status: cancelled}
"""


def test_an_approved_milestone_is_completed_in_its_plan_and_open_again_when_it_was_undone(tmp_path: Path):
    path = tmp_path / "ecosystem.yaml"
    path.write_text(PLANS)
    approved = RunOutcome(plan="PLAN-001", succeeded={}, undone={}, reached=frozenset({"M1", "M2", "GONE"}))
    undone = replace(approved, reached=frozenset(), lost=approved.reached)

    first = write_back(path, lambda: approved, NOW)
    reached = path.read_text()
    again = write_back(path, lambda: approved, NOW)
    back = write_back(path, lambda: undone, NOW)

    assert (first.reached, again.all, back.lost) == (("M1",), (), ("M1",))
    assert reached == PLANS.replace("status: pending", "status: completed").replace(
        "2026-01-01   # c", "2026-03-04   # c"
    )
    assert path.read_text() == PLANS.replace("2026-01-01   # c", "2026-03-04   # c")


def _todos(count: int) -> list[dict[str, str]]:
    return [{"id": f"T{i}", "task": f"do {i}", "repo": "r"} for i in range(count)]


LAYOUTS: dict[str, Callable[[int], str]] = {
    "one line of json.dump": lambda n: json.dumps({"coordination": {"todos": _todos(n)}}),
    "json.dump with indent": lambda n: json.dumps({"coordination": {"todos": _todos(n)}}, indent=2),
    "one line in braces": lambda n: (
        "coordination: {todos: [" + ", ".join(f"{{id: T{i}, task: t, repo: r}}" for i in range(n)) + "]}\n"
    ),
    "a line each, CRLF": lambda n: (
        "coordination:\r\n  todos:\r\n" + "".join(f"  - {{id: T{i}, task: t, repo: r}}\r\n" for i in range(n))
    ),
    "block and rows mixed": lambda n: (
        "coordination:\n  todos:\n"
        + "".join(
            f"  - id: T{i}\n    task: t\n    repo: r\n  - {{id: U{i}, task: t, repo: r}}\n" for i in range(n)
        )
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_writing_results_back_costs_in_proportion_to_the_todos_in_every_layout(
    layout: Callable[[int], str], tmp_path: Path
):
    def cost(count: int) -> float:
        path = tmp_path / f"{count}.yaml"
        path.write_bytes(layout(count).encode())
        before = time.process_time()
        assert len(complete_todos(path, {f"T{i}": 0.5 for i in range(count)}, NOW)) == count
        return time.process_time() - before

    few, many = (min(cost(count), cost(count)) for count in (40, 240))

    assert many < 16 * few  # 6 times as many; a quadratic cost is 36 times as high


@given(text=st.text(alphabet="ab \n\r\x85\u2028"), where=st.integers(0, 30))
def test_lines_begin_and_end_where_yaml_says(text: str, where: int):
    at = min(where, len(text))
    ends = [*BREAK.finditer(text, at)]

    assert line_stop(text, at) == (ends[0].start() if ends else len(text))
    assert next_line(text, at) == (ends[0].end() if ends else len(text))
    assert alone_before(text, at) == (not re.split(f"[{BREAKS}]", text[:at])[-1].strip(" \t"))


def test_the_outcome_is_read_while_nobody_else_can_edit(tmp_path: Path):
    """Else a process could write what a rollback has undone meanwhile."""
    path = tmp_path / "ecosystem.yaml"
    path.write_text(HEAD + "  - {id: T, task: t, repo: r}\n")

    def read() -> RunOutcome:
        with pytest.raises(EditConflict), exclusive(path, timedelta(0)):
            pass
        return RunOutcome(plan="P", succeeded={"T": None}, undone={})

    assert write_back(path, read, NOW, "RUN-1").completed == ("T",)
    assert [entry.cause for entry in Journal(path).entries()] == ["", "RUN-1"]
