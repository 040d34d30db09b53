"""Artifacts of ended runs are found and removed; work of a person stays, and is named with the reason."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from coordination.errors import Conflict, NotFound
from coordination.runs.cleanup_jobs import Artifact, Kind
from coordination.runs.maintenance.cleaning import Cleaning, Survey
from coordination.runs.records import TodoState
from coordination.runs.store import RunStore
from tests.cleanup_host import FORGOTTEN_RUN, Machine
from tests.engine import BAD, Engine
from tests.testbed import git
from tests.worktrees import claimant
from workers.cleanup import artifacts


def kinds(survey: Survey) -> dict[Kind, Artifact]:
    return {remnant.kind: remnant for remnant in survey.found}


def test_a_survey_takes_nothing_and_all_that_it_found_is_removed_but_the_record_of_the_run(
    machine: Machine, cleaning: Cleaning, store: RunStore
):
    run = machine.run(TodoState.FAILED)
    before = machine.branches()

    survey = cleaning.survey([])

    found = kinds(survey)
    assert set(found) == {Kind.WORKTREE, Kind.BRANCH, Kind.LOGS}
    assert {name: one.status for name, one in survey.runs.items()} == {run: "failed"}
    assert found[Kind.WORKTREE].changed
    assert found[Kind.WORKTREE].bytes > 0
    assert not found[Kind.BRANCH].unmerged
    assert {remnant.host for remnant in survey.found} == {"h1"}
    assert (machine.path(run).exists(), machine.branches()) == (True, before)

    done = cleaning.remove(survey)

    assert all(remnant.gone for remnant in done.found)
    assert machine.branches() == {"main"}
    assert not machine.path(run).exists()
    assert git(machine.repo, "worktree", "list").count("\n") == 0
    assert not (machine.state / "workspaces" / run).exists()
    assert not (machine.state / "logs" / run).exists()
    assert store.status(run) == "failed"
    assert not store.redis.exists(store.keys.run(run).log("A"))
    assert not store.redis.keys("test:cleanup*")


def test_a_branch_with_unmerged_work_is_marked_as_unmerged(machine: Machine, cleaning: Cleaning):
    merged, squashed, not_merged = machine.run(), machine.run(), machine.run(text="other")
    git(machine.repo, "merge", "-q", f"coord/{merged}")  # and so all of the second, under another commit

    branches = {r.run: r for r in cleaning.survey([]).found if r.kind is Kind.BRANCH}

    assert not branches[merged].unmerged
    assert not branches[squashed].unmerged
    assert branches[not_merged].unmerged
    assert not branches[not_merged].stays


def test_branches_are_kept_when_they_are_to_be(machine: Machine, cleaning: Cleaning):
    run = machine.run()

    cleaning.remove(cleaning.survey([], branches=False), branches=False)

    assert machine.branches() == {"main", f"coord/{run}"}
    assert not machine.path(run).exists()


def commits_by_hand(machine: Machine, run: str) -> None:
    git(machine.path(run), "commit", "-q", "--allow-empty", "-m", "by hand")


def checks_the_branch_out(machine: Machine, run: str) -> None:
    machine.worktree(run).remove(timedelta(0))
    git(machine.repo, "switch", "-q", f"coord/{run}")


def puts_a_folder_in_place_of_the_worktree(machine: Machine, run: str) -> None:
    machine.worktree(run).remove(timedelta(0))
    machine.path(run).mkdir(parents=True)
    (machine.path(run) / "mine").touch()


@pytest.mark.parametrize(
    ("act", "kind", "reason"),
    [
        (commits_by_hand, Kind.BRANCH, "commits that no run has recorded"),
        (checks_the_branch_out, Kind.BRANCH, "it is checked out in "),
        (puts_a_folder_in_place_of_the_worktree, Kind.WORKTREE, "does not know it"),
    ],
)
def test_work_of_a_person_stays_with_the_reason(
    machine: Machine, cleaning: Cleaning, act: Callable[[Machine, str], None], kind: Kind, reason: str
):
    run = machine.run()
    act(machine, run)

    survey = cleaning.survey([run])
    done = cleaning.remove(survey)

    for found in (survey, done):
        assert reason in kinds(found)[kind].stays
        assert not kinds(found)[kind].gone
    assert (f"coord/{run}" in machine.branches()) is (kind is Kind.BRANCH)
    assert machine.path(run).exists() is (kind is Kind.WORKTREE)


def recorded_by_a_later_run(machine: Machine, run: str) -> None:
    later = machine.run()
    git(machine.path(run), "commit", "-q", "--allow-empty", "-m", "mended by hand")
    machine.store.redis.hset(
        machine.store.keys.run(later).tips, "r1", git(machine.path(run), "rev-parse", "HEAD")
    )


def recorded_but_not_here(machine: Machine, run: str) -> None:
    machine.store.redis.hset(machine.store.keys.run(machine.run()).tips, "r1", "0123456789" * 4)


def locked_by_a_killed_git(machine: Machine, run: str) -> None:
    (machine.repo / ".git" / "refs" / "heads" / "coord" / f"{run}.lock").touch()


@pytest.mark.parametrize("act", [recorded_by_a_later_run, recorded_but_not_here, locked_by_a_killed_git])
def test_a_recorded_commit_or_a_left_lock_is_no_obstacle(
    machine: Machine, cleaning: Cleaning, act: Callable[[Machine, str], None]
):
    run = machine.run(TodoState.FAILED)
    act(machine, run)

    done = cleaning.remove(cleaning.survey([run]))

    assert all(remnant.gone for remnant in done.found)
    assert f"coord/{run}" not in machine.branches()
    assert list((machine.repo / ".git" / "refs" / "heads").rglob("*.lock")) == []


def test_a_live_run_and_the_one_that_it_retries_are_left_out_and_refused_by_name(
    machine: Machine, cleaning: Cleaning, store: RunStore
):
    over, live = machine.run(), machine.run(None)
    store.redis.hset(store.keys.run(live).meta, "takes_up", over)

    for named in (live, over):
        with pytest.raises(Conflict, match=live):
            cleaning.survey([named])
    cleaning.remove(cleaning.survey([]))

    assert machine.path(live).exists()
    assert machine.branches() == {"main", f"coord/{live}", f"coord/{over}"}
    assert {(machine.state / "logs" / run).exists() for run in (live, over)} == {True}


def test_a_worktree_in_use_stays_with_its_branch(
    machine: Machine, cleaning: Cleaning, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(artifacts, "PATIENCE", timedelta(milliseconds=100))
    run = machine.run()
    inside = machine.worktree(run)
    tip = git(machine.repo, "rev-parse", f"coord/{run}")
    inside.enter(claimant(run, 2**60), tip, timedelta(0))

    done = cleaning.remove(cleaning.survey([]))
    inside.leave()

    assert "in use" in kinds(done)[Kind.WORKTREE].stays
    assert "checked out" in kinds(done)[Kind.BRANCH].stays
    assert machine.path(run).exists()


def test_a_link_in_place_of_a_folder_is_not_followed(machine: Machine, cleaning: Cleaning, tmp_path: Path):
    run = machine.run()
    (tmp_path / "precious").mkdir()
    (machine.state / "carried").mkdir()
    (machine.state / "carried" / run).symlink_to(tmp_path / "precious")

    done = cleaning.remove(cleaning.survey([]))

    assert Kind.CARRIED not in kinds(done)
    assert (tmp_path / "precious").exists()


def test_a_run_whose_rollback_failed_is_left_until_accepted(
    machine: Machine, cleaning: Cleaning, store: RunStore
):
    run = Engine(store)
    run.run_id = machine.run()
    run.follow(store.rollback(run.run_id, "lena", "why"))
    run.settle(run.take("A"), BAD)

    with pytest.raises(Conflict, match=f"run {run.run_id} has a failed rollback"):
        cleaning.survey([run.run_id])
    assert cleaning.survey([]).found == ()

    run.accept("A", "lena", "by hand")
    cleaning.remove(cleaning.survey([run.run_id]))
    assert machine.branches() == {"main"}


def test_of_a_forgotten_run_goes_what_is_nobodys_work(machine: Machine, cleaning: Cleaning, store: RunStore):
    merged, not_merged = machine.run(), machine.run()
    git(machine.repo, "merge", "-q", f"coord/{merged}")
    machine.log(FORGOTTEN_RUN)
    store.redis.flushall()
    machine.work("w2")

    survey = cleaning.survey([])
    done = cleaning.remove(survey)

    assert {one.status for one in survey.runs.values()} == {"forgotten"}
    assert machine.branches() == {"main", f"coord/{not_merged}"}
    (kept,) = (remnant for remnant in done.found if not remnant.gone)
    assert "no run has recorded" in kept.stays
    assert list((machine.state / "logs").iterdir()) == []


def test_names_that_are_no_runs_are_not_looked_at(machine: Machine, cleaning: Cleaning):
    git(machine.repo, "branch", "coord/mine")
    for folder in ("logs", "worktrees", "carried"):
        (machine.state / folder / "mine").mkdir(parents=True)

    assert cleaning.survey([]).found == ()


def test_a_run_that_nobody_knows_is_refused(machine: Machine, cleaning: Cleaning):
    with pytest.raises(NotFound):
        cleaning.survey(["nonsense"])
