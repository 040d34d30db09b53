"""A run moves its change set with each settle, alone in its repositories, and takes its own part back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from coordination.errors import Conflict, Unreadable
from coordination.events.records import Event
from coordination.events.stream import EventStream
from coordination.runs.change_sets.records import ChangeSet, Landed, RecordedCheck, RepoChange, Reverted
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.control.steering import refuse_within_change_set
from coordination.runs.records import Result, TodoState
from coordination.runs.store import RunStore
from coordination.runs.submission.draft import RunDraft, new_run_id
from tests.engine import OK, Engine
from tests.plans import PLAN

BEGAN, FIRST, SECOND, MOVED_BASE = ("0" * 40, "1" * 40, "2" * 40, "3" * 40)
LANDED = Landed(commit=MOVED_BASE, tree_before=BEGAN, method="squash", via="push", at="now", run="L")


class Writer(Engine):
    """A run of two todos, A in r1 and B in r2 behind it, that writes the change set."""

    def start(self, *, redoes: str = "", carried: str = "", **tips: str) -> str:
        """Seal the run; return the reply. `tips`: repository → the tip from which it is made. `carried`: the
        tip that it takes up instead in r1.
        """
        draft = RunDraft(self.store, new_run_id())
        self.run_id = draft.run_id
        facts = {f"before.{repo}": tip for repo, tip in tips.items()} | {"redoes": redoes}
        draft.meta(
            {
                "plan_id": PLAN,
                "strategy": "dataflow",
                "max_parallel": 0,
                "levels": 0,
                "actor": "lena",
                "on_failure": "continue",
                "change_set": PLAN,
                "writes": "r1 r2",
                **{k: v for k, v in facts.items() if v},
            }
        )
        wants = "1/1 slot:{}"
        draft.todo("A", TodoState.WAITING, f"0 0 r1 worktree 0 {wants.format('r1')}", {"attempt": 1},
                   spec="{}", children=["B"])  # fmt: skip
        draft.todo("B", TodoState.WAITING, f"1 0 r2 worktree 0 {wants.format('r2')}", {"attempt": 1},
                   spec="{}", pending=1)  # fmt: skip
        known = {repo: tip for repo, tip in (tips | ({"r1": carried} if carried else {})).items() if tip}
        draft.set(draft.keys.tips, known)
        draft.set(draft.keys.results, {f"before {repo}": f"signed {tip}" for repo, tip in known.items()})
        writes = [(repo, f"coord/{repo}", tips.get(repo, "")) for repo in ("r1", "r2")]
        return self.follow(draft.seal(writes)).word

    def commit(self, todo: str, tip: str, began: str = BEGAN, figures: str = "") -> None:
        made = Result(
            outcome=TodoState.SUCCEEDED, tip=tip, began=began, signed=f"signed {tip}", figures=figures
        )
        assert self.settle(self.take(todo), made) == "settled"


@pytest.fixture
def sets(store: RunStore) -> Iterator[ChangeSets]:
    return ChangeSets(store)


def land(store: RunStore, sets: ChangeSets) -> None:
    run = Engine(store).begin({"L": "r1"})
    grant = run.take("L")
    assert sets.note_landed(grant, PLAN, "r1", LANDED)
    run.settle(grant, OK)


def read(sets: ChangeSets) -> ChangeSet:
    found = sets.read(PLAN)
    assert found is not None
    return found


def events_of(store: RunStore) -> list[Event]:
    """Return the events of change sets."""
    events = EventStream(store.redis, "test").read().events
    return [event for event in events if event.kind.startswith("change_set.")]


def done(store: RunStore, tip: str = FIRST, **how: str) -> Writer:
    """Return an ended run whose A moved r1 to `tip`; B changed nothing in r2."""
    run = Writer(store)
    assert run.start(**how) == "sealed"
    run.commit("A", tip, figures=f"{BEGAN} 1 2 3 4")
    run.commit("B", BEGAN)
    assert run.status() == "succeeded"
    return run


def test_a_settle_moves_the_tip_with_its_result_and_figures(store: RunStore, sets: ChangeSets):
    run = done(store)

    assert read(sets).repos == {
        "r1": RepoChange(
            repo="r1", branch="coord/r1", base=BEGAN, tip=FIRST, host="h1", run=run.run_id,
            runs=(run.run_id,), todos=("A",), commits=1, files=2, added=3, removed=4,
            signed=f"signed {FIRST}",
        )
    }  # fmt: skip
    assert read(sets).source == {"A": run.run_id, "B": run.run_id}
    assert read(sets).writers == {}
    assert sets.list() == (PLAN,)


def test_a_check_is_recorded_with_the_tip_that_it_judged(store: RunStore, sets: ChangeSets):
    run = Writer(store)
    assert run.start() == "sealed"
    green = Result(outcome=TodoState.SUCCEEDED, tip=FIRST, began=BEGAN, check=f"unit green {FIRST}")
    run.settle(run.take("A"), green)
    run.settle(run.take("B"), Result(outcome=TodoState.FAILED, check=f"unit red {BEGAN}"))

    found = read(sets).repos
    assert found["r1"].checks == (RecordedCheck(name="unit", verdict="green", tip=FIRST, run=run.run_id),)
    assert "r2" not in found, "a check makes no change set"


def test_one_run_at_a_time_writes_and_only_from_the_tip_that_it_knows(store: RunStore, sets: ChangeSets):
    first, second = Writer(store), Writer(store)
    assert first.start() == "sealed"
    assert second.start() == "busy"
    assert read(sets).writers == {"r1": first.run_id, "r2": first.run_id}
    first.commit("A", FIRST)
    first.commit("B", BEGAN)

    assert second.start() == "moved", "it was made from an older tip"
    assert second.start(r1=SECOND) == "moved"
    assert second.status() == "draft", "it has started nothing"
    assert second.start(r1=FIRST) == "sealed"
    second.commit("A", SECOND, began=FIRST)

    assert read(sets).repos["r1"].tip == SECOND
    assert read(sets).repos["r1"].runs == (first.run_id, second.run_id)
    assert read(sets).source == {"A": second.run_id, "B": first.run_id}


def test_the_writer_of_a_run_that_is_gone_counts_no_more(store: RunStore, sets: ChangeSets):
    lost, after = Writer(store), Writer(store)
    lost.start()
    store.redis.zrem(store.keys.live, lost.run_id)

    assert after.start() == "sealed"
    assert set(read(sets).writers.values()) == {after.run_id}


def test_a_run_that_changes_nothing_leaves_no_change_set_of_repositories(store: RunStore, sets: ChangeSets):
    run = Writer(store)
    run.start()
    run.settle(run.take("A"), Result(outcome=TodoState.FAILED, exit_code=1, error="broken"))

    assert run.status() == "failed"
    assert sets.read(PLAN) is None
    assert sets.list() == ()


def test_a_rollback_takes_the_run_back_from_the_end(store: RunStore, sets: ChangeSets):
    first = done(store)
    second = done(store, tip=SECOND, r1=FIRST)
    assert second.roll_back() == "rolling_back"
    assert set(read(sets).writers.values()) == {second.run_id}, "nobody else writes meanwhile"
    second.drain()

    change = read(sets).repos["r1"]
    assert (change.tip, change.signed, change.runs) == (FIRST, f"signed {FIRST}", (first.run_id,))
    assert (change.run, change.base, change.commits) == (first.run_id, BEGAN, None)
    assert read(sets).source == {}, "the results of the second run had replaced those of the first"
    assert first.roll_back() == "rolling_back"
    first.drain()
    assert sets.read(PLAN) is None


def test_a_retry_that_does_work_again_takes_it_back_at_its_start(store: RunStore, sets: ChangeSets):
    done(store)
    again = Writer(store)
    assert again.start(r1=FIRST, carried=BEGAN, redoes="A B") == "sealed"

    change = read(sets).repos["r1"]
    assert change.tip == BEGAN
    assert [change.commits, change.files, change.added, change.removed] == [None] * 4, "of the tip before"
    assert read(sets).source == {}


def test_a_run_behind_a_landing_begins_anew(store: RunStore, sets: ChangeSets):
    first = done(store)
    land(store, sets)
    after = Writer(store)
    assert after.start(r1=FIRST) == "moved"
    assert after.start() == "sealed"
    after.commit("A", MOVED_BASE, began=MOVED_BASE)
    assert read(sets).repos["r1"].landed == LANDED, "it has changed nothing yet"
    after.commit("B", SECOND)

    assert read(sets).repos["r2"].tip == SECOND
    assert read(sets).repos["r1"].runs == (first.run_id,)


def test_a_run_without_a_change_set_records_none(run: Engine, store: RunStore):
    run.begin({"A": "r1"}).drain(lambda _: replace(OK, tip=FIRST, began=BEGAN))

    assert run.status() == "succeeded"
    assert ChangeSets(store).list() == ()
    assert store.redis.keys(store.keys.changes("*")) == []


def test_only_the_last_run_is_taken_back_and_none_that_has_landed(store: RunStore, sets: ChangeSets):
    first = done(store)
    second = done(store, tip=SECOND, r1=FIRST)
    with pytest.raises(Conflict) as refused:
        refuse_within_change_set(store, first.run_id)
    assert f"coord rollback {second.run_id}" in refused.value.hint
    refuse_within_change_set(store, second.run_id)

    third = Writer(store)
    third.start(r1=SECOND)
    with pytest.raises(Conflict, match=third.run_id):
        refuse_within_change_set(store, second.run_id)
    third.settle(third.take("A"), Result(outcome=TodoState.FAILED, exit_code=1, error="broken"))
    refuse_within_change_set(store, second.run_id)
    land(store, sets)
    with pytest.raises(Conflict) as refused:
        refuse_within_change_set(store, second.run_id)
    assert f"coord revert {PLAN}" in refused.value.hint


def test_a_reverted_landing_is_one_of_the_runs_that_made_it(store: RunStore, sets: ChangeSets):
    first = done(store)
    grant = Engine(store).begin({"L": "r1"}).take("L")
    other = replace(grant, fence=grant.fence + 1)
    facts = {"tip": SECOND, "base": MOVED_BASE, "signed": "signed"}
    assert sets.note_landed(grant, PLAN, "r1", LANDED)
    assert not sets.note_reverted(other, PLAN, "r1", **facts), "another attempt holds the todo"
    assert read(sets).repos["r1"].landed == LANDED
    assert sets.note_reverted(grant, PLAN, "r1", **facts)
    assert not sets.note_landed(other, PLAN, "r1", LANDED)

    change = read(sets).repos["r1"]
    assert (change.tip, change.base, change.landed) == (SECOND, MOVED_BASE, None)
    assert change.runs == (first.run_id, grant.run_id)
    assert set(read(sets).runs) == {first.run_id, grant.run_id}


REVERTED = Reverted(commit=MOVED_BASE, by="4" * 40, via="push", at="later", run="R", request="https://f/2")


def test_landing_and_revert_have_one_event_each_that_says_what_was_done(store: RunStore, sets: ChangeSets):
    """The page of the request of a revert is written into the record of the landing: no other landing."""
    done(store)
    grant = Engine(store).begin({"L": "r1"}).take("L")
    asked = LANDED.model_copy(update={"revert": "https://f/2"})
    for landed in (LANDED, LANDED, asked):
        assert sets.note_landed(grant, PLAN, "r1", landed)
    for _ in range(2):
        facts = {"tip": SECOND, "base": MOVED_BASE, "signed": ""}
        assert sets.note_reverted(grant, PLAN, "r1", **facts, reverted=REVERTED)

    landed, reverted = events_of(store)
    assert (landed.kind, reverted.kind) == ("change_set.landed", "change_set.reverted")
    assert {(one.subject, one.run, one.actor, one.repos) for one in (landed, reverted)} == {
        (PLAN, grant.run_id, "test", ("r1",))
    }
    assert landed.data == {
        "branch": "coord/r1", "tip": FIRST, "base": BEGAN, "commit": MOVED_BASE, "via": "push",
        "method": "squash",
    }  # fmt: skip
    assert reverted.data == {
        "branch": "coord/r1", "tip": SECOND, "base": MOVED_BASE, "commit": MOVED_BASE, "by": REVERTED.by,
        "via": "push",
    }  # fmt: skip
    assert read(sets).repos["r1"].reverted == REVERTED
    assert sets.note_landed(grant, PLAN, "r1", LANDED)
    assert read(sets).repos["r1"].reverted is None


def test_a_rollback_that_adds_an_inverse_commit_is_no_revert(store: RunStore, sets: ChangeSets):
    done(store)
    grant = Engine(store).begin({"L": "r1"}).take("L")
    assert sets.note_reverted(grant, PLAN, "r1", tip=SECOND, base=BEGAN, signed="")
    assert events_of(store) == []
    assert read(sets).repos["r1"].reverted is None


def test_an_adopted_and_a_discarded_change_set_name_their_commits(store: RunStore, sets: ChangeSets):
    done(store)
    facts = {"branch": "coord/r1", "tip": SECOND, "base": BEGAN, "run": "R"}
    sets.adopt(PLAN, "r1", facts, {})
    sets.discard(PLAN, "r1")
    adopted, discarded = events_of(store)
    assert (adopted.kind, discarded.kind) == ("change_set.adopted", "change_set.discarded")
    for one in (adopted, discarded):
        assert one.actor
        assert one.data == {"branch": "coord/r1", "tip": SECOND, "base": BEGAN}


@pytest.mark.parametrize("branch", ["main", "release", "refs/heads/main"])
def test_a_change_set_that_is_said_to_be_on_another_branch_is_not_read(
    store: RunStore, sets: ChangeSets, branch: str
):
    """Or the owner of Redis would have its tip pushed to the base branch."""
    done(store)
    store.redis.hset(store.keys.changes(PLAN), "branch r1", branch)
    with pytest.raises(Unreadable):
        sets.read(PLAN)
    assert sets.read_all([PLAN]) == {}
