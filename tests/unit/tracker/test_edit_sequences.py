"""Random sequences of edits leave a valid file, in which no record waits for itself or for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from managers import NOW

from coordination.ecosystem.document import load
from coordination.errors import CoordinationError, EditConflict
from coordination.models import IssueStatus, PlanStatus, TodoStatus
from coordination.text import cycle_through
from coordination.tracker.kinds import OPEN
from coordination.tracker.manager import CoordinationManager
from coordination.tracker.relations import Relations
from tests.examples import examples

BEGINNING = """\
# kept by hand
repos: [{name: r}]
coordination:
  issues:
    - id: I-1
      title: t   # why
  plans:
    - {id: P-1, title: t, milestones: [{id: M1, name: n}]}
  todos:
    - id: T-1
      task: t
      repo: r

    - {id: T-2, task: t, repo: r, status: blocked, blocked_by: [T-1], plan: P-1}
    # the last one
    - id: T-3
      task: |
        lines
      repo: r
      blocked_by:
        - T-2   # after it
"""

work = st.sampled_from(["I-1", "I-2", "P-1", "P-2", "T-1", "T-2", "T-3", "T-4", "M1"])
names = st.lists(work, max_size=2, unique=True)
todo_changes = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(list(TodoStatus)),
        "blocked_by": names,
        "blocking": names,
        "plan": st.sampled_from(["P-1", "P-2", None]),
        "description": st.sampled_from(["", "two\nlines", None]),
    },
)
issue_changes = st.fixed_dictionaries(
    {}, optional={"status": st.sampled_from(list(IssueStatus)), "dependencies": names, "blocking": names}
)
operations = st.one_of(
    st.tuples(st.just("create_todo"),
        st.fixed_dictionaries({"task": st.just("t"), "repo": st.just("r")},
        optional={"blocked_by": names, "blocking": names, "plan": st.just("P-1")})),
    st.tuples(st.just("create_issue"),
        st.fixed_dictionaries({"title": st.just("t")}, optional={"dependencies": names, "blocking": names})),
    st.tuples(st.just("create_plan"), st.just({"title": "t"})),
    st.tuples(st.just("update_todo"), work, todo_changes),
    st.tuples(st.just("update_issue"), work, issue_changes),
    st.tuples(st.just("update_plan"), work,
        st.fixed_dictionaries({"status": st.sampled_from(list(PlanStatus))})),
    st.tuples(st.sampled_from(["complete_todo", "close_issue"]), work),
    st.tuples(st.sampled_from(["delete_todo", "delete_issue", "delete_plan"]), work, st.booleans()),
    st.tuples(st.just("complete_milestone"), st.just("P-1"), st.just("M1")),
)  # fmt: skip


def do(manager: CoordinationManager, operation: str, *words: Any) -> None:
    if isinstance(words[0], Mapping):
        getattr(manager, operation)(**words[0])
    else:
        getattr(manager, operation)(*words)


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(operations, min_size=1, max_size=8))
def test_after_any_edits_the_file_is_whole(tmp_path: Path, history: list[tuple[Any, ...]]):
    path = tmp_path / "ecosystem.yaml"
    path.write_text(BEGINNING)
    manager = CoordinationManager(load(path), now=lambda: NOW)
    for operation in history:
        before, waited = path.read_bytes(), held(manager)

        try:
            do(manager, *operation)
        except EditConflict:
            raise
        except CoordinationError:
            assert path.read_bytes() == before

        assert manager.document == load(path)
        assert not [w for w in manager.document.warnings if "M1" not in (w.value, w.message)]
        check_waits(manager, waited, explicit=str(operation))
    assert path.read_text().startswith("# kept by hand\nrepos: [{name: r}]\n")


def held(manager: CoordinationManager) -> dict[str, tuple[str, ...]]:
    ties = Relations(manager.ecosystem)
    return {name: ties.held_by(name) for name in ties.items}


def check_waits(manager: CoordinationManager, waited: Mapping[str, tuple[str, ...]], explicit: str) -> None:
    """No record waits for itself; one that lost its last blocker is not blocked, unless that was set
    explicitly.
    """
    ties = Relations(manager.ecosystem)
    for name, item in ties.items.items():
        if item.status in OPEN:
            assert not cycle_through(name, ties.trace(name))
        lost = waited.get(name) and not ties.held_by(name)
        if lost and item.status == "blocked" and name != "M1":
            assert name in explicit
