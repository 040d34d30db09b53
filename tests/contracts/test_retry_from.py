"""Retries from a todo on: its dependents and the commits that stand on it are done again."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import pytest

from coordination.errors import Conflict, NotFound, UsageError
from coordination.models import Issue
from coordination.planner.graph import build
from coordination.runs.attempt_store import Grant
from coordination.runs.records import Result, RunBrief, TodoState
from coordination.runs.retrying.ended import EndedRun
from coordination.runs.retrying.retry_plan import select_reruns
from tests.contracts.test_retry_steps import left, retry
from tests.engine import BAD, OK, Engine
from tests.plans import PLAN, ecosystem, order

TODOS = {
    "A": "r1", "B": ("r1", ["A"]), "C": ("r1", ["A"]), "X": ("r2", ["B"]), "Y": ("r2", ["C"]), "Z": ("r3",
    ["X"]), "P": "r4",
}  # fmt: skip
"""In r1 and r2 also C stands on B, and Y on X, by nothing but their commits."""


def done(run: Engine, failing: Collection[str] = (), todos: object = TODOS) -> None:
    """Each todo leaves the commit that is its name, on the one before it in its repository."""
    run.begin(todos)  # type: ignore[arg-type]
    drain(run, failing)


def drain(run: Engine, failing: Collection[str] = ()) -> list[str]:
    def result(grant: Grant) -> Result:
        if grant.todo_id in failing:
            return BAD
        began = grant.tip or f"base-{grant.spec.repo.name}"
        return Result(
            outcome=TodoState.SUCCEEDED, exit_code=0, tip=grant.todo_id.lower(), began=began, output='"done"'
        )

    return run.drain(result)


@pytest.mark.parametrize(
    ("start", "again", "tips"),
    [
        ("P", "P", {"r1": "c", "r2": "y", "r3": "z", "r4": "base-r4"}),
        ("Z", "Z", {"r1": "c", "r2": "y", "r3": "base-r3", "r4": "p"}),
        ("Y", "Y", {"r1": "c", "r2": "x", "r3": "z", "r4": "p"}),
        ("X", "X Y Z", {"r1": "c", "r2": "base-r2", "r3": "base-r3", "r4": "p"}),
        ("C", "C Y", {"r1": "b", "r2": "x", "r3": "z", "r4": "p"}),
        ("B", "B C X Y Z", {"r1": "a", "r2": "base-r2", "r3": "base-r3", "r4": "p"}),
        ("A", "A B C X Y Z", {"r1": "base-r1", "r2": "base-r2", "r3": "base-r3", "r4": "p"}),
        ("P Y", "P Y", {"r1": "c", "r2": "x", "r3": "z", "r4": "base-r4"}),
    ],
)
def test_what_stands_on_it_is_done_again_too(run: Engine, start: str, again: str, tips: dict[str, str]):
    done(run)
    first, outputs = run.run_id, run.store.redis.hgetall(run.store.keys.run(run.run_id).output)
    found = retry(run, start=start.split())

    assert (set(found.again), found.set_back.todos) == (set(again.split()), set(again.split()))
    assert run.store.redis.hgetall(run.store.keys.run(run.run_id).tips) == tips
    kept = TODOS.keys() - set(again.split())
    assert {t.id for t in run.view().todos if t.run == first} == kept
    assert run.store.redis.hgetall(run.store.keys.run(run.run_id).output) == {
        todo: outputs[todo] for todo in kept
    }
    assert set(drain(run)) == set(again.split())
    assert run.view().status == "succeeded"


def test_the_unfinished_todos_of_a_failed_run_run_as_well(run: Engine):
    done(run, ["X"])
    assert run.states(["X", "Y", "Z"]) == {"X": "failed", "Y": "succeeded", "Z": "skipped"}
    found = retry(run, start=["C"])

    assert set(found.again) == {"C", "X", "Y", "Z"}
    assert (found.set_back.todos, found.set_back.repos) == ({"C", "Y"}, {"r1", "r2"})
    assert found.tips == {"r1": "b", "r2": "base-r2", "r4": "p"}
    with pytest.raises(Conflict, match="there is nothing to retry before it has ended"):
        left(run.store, run.run_id, start=["A"])


def set_back(brief: RunBrief) -> dict[str, str]:
    return {repo: start.set_back for repo, start in brief.lineage.repos.items() if start.set_back}


def test_what_an_earlier_run_did_is_set_back_too_and_its_branches_count_no_more(run: Engine):
    done(run, ["X"])
    first = run.run_id
    retry(run)
    drain(run)
    second = run.run_id
    found = retry(run, start=["B"])

    assert set(found.again) == {"B", "C", "X", "Y", "Z"}
    assert found.tips == {"r1": "a", "r2": "base-r2", "r3": "base-r3", "r4": "p"}
    brief = run.brief()
    assert brief.lineage.takes_up == (second, first)
    assert set_back(brief) == dict.fromkeys(("r1", "r2", "r3"), second)

    run.cancel("test")
    third = run.run_id
    retry(run)
    again = run.brief()
    assert (again.lineage.takes_up, set_back(again)) == ((third, second, first), set_back(brief))


def test_what_a_todo_that_succeeded_had_written_on_its_way_is_not_gone_on_from(run: Engine):
    todos = {"A": "r1", "B": "r2"}
    run.begin(todos)
    for name, result in (("A", Result(outcome=TodoState.SUCCEEDED, exit_code=0)), ("B", BAD)):
        grant = run.take(name)
        run.checkpoint(grant, f'"{name}"')
        run.settle(grant, result)
    retry(run, start=["A"])

    assert [run.take(name).checkpoint for name in "AB"] == ["", '"B"']


def test_a_host_that_is_gone_takes_more_along_or_less(run: Engine):
    done(run)
    bundles = run.store.keys.run(run.run_id).bundle
    run.store.redis.hset(
        bundles("r1"), mapping={"a": "bytes", "b elsewhere": "too large", "c elsewhere": "too large"}
    )
    for repo in ("r2", "r3", "r4"):
        run.store.redis.hset(bundles(repo), mapping=dict.fromkeys("xyzp", "bytes"))
    found = left(run.store, run.run_id, without=["h1"], start=["C"])

    assert (found.set_back.again, found.lost) == ({"C", "Y"}, ("B",))
    assert found.tips == {"r1": "a", "r2": "x", "r3": "z", "r4": "p"}


@pytest.mark.parametrize(
    ("start", "kind", "words", "hint"),
    [
        ("b", NotFound, "run {run} has no todo 'b' (did you mean 'B'?)", "its todos: A, P, B, C, X, Y, Z, O"),
        ("X", UsageError, "run {run} never began X, which was skipped",
         "a retry executes it anyway: coord retry {run}"),
        ("O", UsageError, "O was not executed in run {run}: blocked by ISSUE-001 (pending: open)",
         f"when that is done: coord sweep {PLAN}"),
    ],
)  # fmt: skip
def test_from_where_nothing_can_begin_is_refused(
    run: Engine, start: str, kind: type[UsageError], words: str, hint: str
):
    file = ecosystem(TODOS | {"O": ("r5", ["ISSUE-001"])})
    issue = Issue.model_validate({"id": "ISSUE-001", "title": "open", "status": "pending"})
    run.submit(build(file.with_coordination(issues=(issue,)), PLAN), file, order())
    drain(run, ["B"])
    with pytest.raises(kind) as refused:
        left(run.store, run.run_id, start=["A", start])
    assert (refused.value.message, refused.value.hint) == (
        words.format(run=run.run_id),
        hint.format(run=run.run_id),
    )


@pytest.mark.parametrize("hindered", [False, True])
def test_what_a_restore_undid_is_taken_back_in_the_order_in_which_it_was_done(run: Engine, hindered: bool):
    """Compensations are claimed in reverse, and again where one fails or its worker is lost."""
    chain = {"A": "r1", **{b: ("r1", [a]) for a, b in pairwise("ABCDEF")}}
    chain |= {"X": ("r2", ["B"]), "Y": ("r2", ["X"])}
    done(run, todos=chain)
    first, keys = run.run_id, run.store.keys.run(run.run_id)
    run.store.redis.hset(keys.meta, "named.x", '{"at_ms": 1, "by": "t", "succeeded": ["A", "B"]}')
    assert run.follow(run.store.restore(first, "t", "x")).word == "rolling_back"
    if hindered:
        run.take("F")
        run.lose("F")
        run.drain(lambda grant: BAD if grant.todo_id in "DX" else OK)
        assert run.view().status == "rollback_failed"
        assert run.follow(run.store.restore(first, "t", "x")).word == "rolling_back"
    run.drain()
    found = retry(run)

    assert (set(found.again), found.tips) == (set("CDEFXY"), {"r1": "b", "r2": "base-r2"})
    assert drain(run)[0] in "CX"
    assert run.view().status == "succeeded"


def test_ten_thousand_todos_of_one_repository_are_looked_through_once():
    """Each of them stands on all before it: what is looked at is each of them, and not each pair."""
    names = [f"T{i:05}" for i in range(10_000)]
    nothing: dict[str, str] = {}
    old = EndedRun(
        run_id="R",
        meta=nothing,
        spec=dict.fromkeys(names, ""),
        descriptor=dict.fromkeys(names, "0 0 r1 worktree 0"),
        children=dict(pairwise(names)),
        state=dict.fromkeys(names, "succeeded"),
        tips={"r1": "T09999"},
        output=nothing,
        checkpoint=nothing,
        facts={name: {"commit": name, "fence": str(i)} for i, name in enumerate(names)},
    )
    found = select_reruns(old, ["T00010"], (), lambda repo, commit: True)

    assert (len(found.again), found.tips) == (9_990, {"r1": "T00009"})
