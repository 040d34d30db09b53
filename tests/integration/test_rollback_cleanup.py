"""What a rolled back run leaves of a repository goes, whole or not at all; nobody's own commit with it, and main stays where it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from subprocess import CalledProcessError

import pytest

from coordination.errors import GitRefused
from coordination.models import Repo
from tests.stage import git
from workers.cleanup.rollback_cleanup import NotRemoved, RollbackCleanup
from workers.workspace.base_commit import Carried
from workers.workspace.lock import LockRequest, WorkspaceBusy
from workers.workspace.repository import branch_of
from workers.workspace.worktree import Worktree

RUN, LATER = "20260101-120000-abcd", "20260102-120000-efgh"
AT_ONCE = timedelta(0)


@dataclass
class Site:
    folder: Path
    fence: int = 0
    open: list[Worktree] = field(default_factory=list)

    @property
    def checkout(self) -> Path:
        return self.folder / "api"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def place(self, run: str = RUN) -> Path:
        return self.state / "worktrees" / run / "api"

    def enter(
        self, tip: str | None = None, run: str = RUN, key: str = "", carried: Carried | None = None
    ) -> Worktree:
        self.fence += 1
        tree = Worktree(
            state=self.state, run=run, repo=Repo(name="api"), checkout=self.checkout, carried=carried
        )
        tree.enter(LockRequest(run_id=run, key=key or f"{run}/T", fence=self.fence), tip, AT_ONCE)
        self.open.append(tree)
        return tree

    def worked(
        self, file: str, tip: str | None = None, run: str = RUN, carried: Carried | None = None
    ) -> str:
        """A todo that writes this file, and succeeds."""
        tree = self.enter(tip, run, carried=carried)
        (tree.path / file).write_text(run)
        made = tree.commit("T", "write")
        tree.leave()
        return made

    def killed(self, tree: Worktree) -> None:
        """Its worker is gone, and its lock with it."""
        os.close(tree.hold.fd)
        self.open.remove(tree)

    def removal(self, tip: str | None, run: str = RUN, carried: Carried | None = None) -> RollbackCleanup:
        return RollbackCleanup(
            state=self.state,
            repo="api",
            checkout=self.checkout,
            run_id=run,
            tip=tip,
            carried=carried,
            had_ended=True,
        )

    def heads(self) -> dict[str, str]:
        listing = git(self.checkout, "for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads")
        return dict(line.split() for line in listing.splitlines())

    def committed(self, where: Path, file: str) -> str:
        """By a person."""
        (where / file).write_text("mine")
        git(where, "add", file)
        git(where, "commit", "-q", "-m", "mine")
        return git(where, "rev-parse", "HEAD")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    git(tmp_path, "init", "-q", "-b", "main", str(made.checkout))
    made.committed(made.checkout, "README")
    return made


def test_worktree_and_branch_go_and_main_and_the_checkout_stay_as_they_are(site: Site):
    main = site.heads()
    (site.checkout / "README").write_text("not committed")
    tip = site.worked("a")
    (site.place() / "b").write_text("an attempt would clean that away, too")

    words = list(site.removal(tip).carry_out())

    assert words == [
        f"the worktree {site.place()} is removed",
        f"branch {branch_of(RUN)} in {site.checkout} is removed, it stood at {tip[:12]}",
    ]
    assert site.heads() == main
    assert (site.checkout / "README").read_text() == "not committed"
    assert not list(site.state.glob("work*/*"))
    assert list(site.removal(tip).carry_out()) == []


@pytest.mark.parametrize(
    "left",
    [
        lambda site: shutil.rmtree(site.place()),
        lambda site: git(site.checkout, "worktree", "remove", "--force", str(site.place())),
        lambda site: shutil.rmtree(site.state / "workspaces"),
        lambda site: shutil.rmtree(site.state),
    ],
    ids=["no folder", "no entry", "no records", "no state"],
)
def test_a_cleanup_that_was_killed_is_finished_by_the_next(site: Site, left: Callable[[Site], object]):
    tip = site.worked("a")
    left(site)
    git(site.checkout, "worktree", "prune")

    list(site.removal(tip).carry_out())

    assert list(site.heads()) == ["main"]
    assert list(site.removal(tip).carry_out()) == []


def test_a_branch_with_somebodys_commit_stays_with_all_the_rest_until_it_is_kept_elsewhere(site: Site):
    tip = site.worked("a")
    mine = site.committed(site.place(), "b")
    removal = site.removal(tip)

    for attempt in (lambda: removal.refuse_losses(of_all=False), lambda: list(removal.carry_out())):
        with pytest.raises(NotRemoved) as refused:
            attempt()
        assert refused.value.message == (
            f"api: branch {branch_of(RUN)} in {site.checkout} stays: it has commits that no run has recorded"
        )
    assert site.heads()[branch_of(RUN)] == mine
    assert (site.place() / "b").exists()

    assert f"git -C {site.checkout} branch -m {branch_of(RUN)} NAME" in refused.value.hint
    git(site.checkout, "branch", "-m", branch_of(RUN), "mine")
    list(removal.carry_out())
    assert site.heads() == {"main": site.heads()["main"], "mine": mine}


@pytest.mark.parametrize("stopped", [False, True], ids=["detached", "in a rebase"])
def test_a_worktree_whose_head_alone_has_somebodys_commit_stays_with_all_the_rest(site: Site, stopped: bool):
    tip = site.worked("a")
    if stopped:
        site.committed(site.checkout, "c")
        with pytest.raises(CalledProcessError):
            git(site.place(), "rebase", "-q", "--exec", "false", "main")
        mine = git(site.place(), "rev-parse", "HEAD")
    else:
        git(site.place(), "checkout", "-q", "--detach")
        mine = site.committed(site.place(), "b")
    before = site.heads()

    with pytest.raises(NotRemoved, match=f"{site.place()} stays: its HEAD is at {mine[:12]}") as refused:
        list(site.removal(tip).carry_out())
    assert (site.heads(), site.place().exists()) == (before, True)

    assert f"git -C {site.place()} branch NAME" in refused.value.hint
    git(site.place(), "branch", "mine")
    list(site.removal(tip).carry_out())
    assert site.heads() == {"main": before["main"], "mine": mine}


@pytest.mark.parametrize("left", ["worktree", "records", "nothing"])
def test_a_lock_that_a_killed_git_left_on_the_branch_goes_with_it(site: Site, left: str):
    tip = site.worked("a")
    lock = site.checkout / ".git" / "refs" / "heads" / f"{branch_of(RUN)}.lock"
    lock.touch()
    if left != "worktree":
        git(site.checkout, "worktree", "remove", "--force", str(site.place()))
    if left == "nothing":
        shutil.rmtree(site.state)

    list(site.removal(tip).carry_out())

    assert (list(site.heads()), lock.exists()) == (["main"], False)
    assert left == "records" or not list(site.state.glob("work*/*"))


def test_a_lock_on_the_branch_stays_while_somebody_is_in_the_worktree(site: Site):
    tip = site.worked("a")
    site.enter(tip)
    git(site.checkout, "worktree", "remove", "--force", str(site.place()))
    lock = site.checkout / ".git" / "refs" / "heads" / f"{branch_of(RUN)}.lock"
    lock.touch()

    with pytest.raises(WorkspaceBusy):
        list(site.removal(tip).carry_out())
    assert lock.exists()


def test_a_branch_that_somebody_made_another_name_of_main_goes_without_it(site: Site):
    tip = site.worked("a")
    git(site.checkout, "worktree", "remove", "--force", str(site.place()))
    git(site.checkout, "symbolic-ref", f"refs/heads/{branch_of(RUN)}", "refs/heads/main")

    list(site.removal(tip).carry_out())

    assert list(site.heads()) == ["main"]


def test_a_commit_of_the_runs_that_somebody_has_amended_is_somebodys(site: Site):
    tip = site.worked("a")
    git(site.place(), "commit", "-q", "--amend", "--no-edit", "--date=2026-01-01T00:00:00Z")

    with pytest.raises(NotRemoved, match="no run has recorded"):
        list(site.removal(tip).carry_out())


def test_what_an_attempt_committed_and_did_not_live_to_report_is_the_runs(site: Site):
    tip = site.worked("a")
    tree = site.enter(tip)
    (tree.path / "b").write_text("b")
    tree.commit("T", "write")
    site.killed(tree)

    list(site.removal(tip).carry_out())
    assert list(site.heads()) == ["main"]


@pytest.mark.parametrize("detached", [False, True])
def test_commits_of_a_killed_compensation_are_nobodys(site: Site, detached: bool):
    tip = site.worked("a")
    tree = site.enter(tip, key=f"{RUN}/T/compensate")
    if detached:
        git(tree.path, "checkout", "-q", "--detach")
    site.committed(tree.path, "b")
    site.killed(tree)

    list(site.removal(tip).carry_out())
    assert list(site.heads()) == ["main"]


def test_whose_a_commit_is_that_was_made_where_somebody_was_killed_is_in_doubt_and_it_stays(site: Site):
    tip = site.worked("a")
    tree = site.enter(tip)
    site.committed(tree.path, "b")
    site.killed(tree)

    with pytest.raises(NotRemoved, match="no run has recorded"):
        list(site.removal(tip).carry_out())

    list(replace(site.removal(tip), had_ended=False).carry_out())
    assert list(site.heads()) == ["main"], "a run that went on until then is nobody's place to work"


def test_a_branch_that_is_checked_out_elsewhere_stays_with_the_place(site: Site, tmp_path: Path):
    tip = site.worked("a")
    shutil.rmtree(site.place())
    git(site.checkout, "worktree", "prune")
    git(site.checkout, "worktree", "add", "-q", str(tmp_path / "mine"), branch_of(RUN))

    with pytest.raises(NotRemoved, match=f"it is checked out in {tmp_path / 'mine'}"):
        list(site.removal(tip).carry_out())


def test_while_somebody_is_in_the_worktree_it_stays(site: Site):
    tip = site.worked("a")
    site.enter(tip)

    with pytest.raises(WorkspaceBusy):
        list(site.removal(tip).carry_out())
    assert branch_of(RUN) in site.heads()


def test_what_was_merged_stays_merged_and_that_is_said(site: Site):
    tip = site.worked("a")
    git(site.checkout, "merge", "-q", "--ff-only", branch_of(RUN))

    *_, words = site.removal(tip).carry_out()

    assert words.endswith("; its commits are on another branch or tag as well, and stay there")
    assert site.heads() == {"main": tip}


def test_a_run_that_has_committed_nothing_leaves_nothing(site: Site):
    site.enter().leave()
    main = git(site.checkout, "rev-parse", "main")
    git(site.checkout, "commit", "-q", "--allow-empty", "--amend", "-m", "main is rewritten")

    *_, words = site.removal(None).carry_out()

    assert words == f"branch {branch_of(RUN)} in {site.checkout} is removed, it stood at {main[:12]}"
    assert list(site.heads()) == ["main"]


def test_what_an_earlier_run_left_goes_too_but_not_what_was_mended_there(site: Site):
    first = site.worked("a")
    carried = Carried(runs=(RUN,), tip=first)
    second = site.worked("b", run=LATER, carried=carried)
    removal = site.removal(second, LATER, carried)
    mine = site.committed(site.place(), "mend")

    with pytest.raises(NotRemoved, match=f"branch {branch_of(RUN)} in .* stays"):
        list(removal.carry_out())
    assert site.heads()[branch_of(LATER)] == second

    git(site.checkout, "branch", "-m", branch_of(RUN), "mine")
    list(removal.carry_out())
    assert site.heads() == {"main": site.heads()["main"], "mine": mine}
    assert not list(site.state.glob("work*/*"))


def test_a_mend_that_the_later_run_began_with_stays_on_the_earlier_ones_branch(site: Site):
    first = site.worked("a")
    mine = site.committed(site.place(), "mend")
    carried = Carried(runs=(RUN,), tip=first)
    second = site.worked("b", run=LATER, carried=carried)
    assert mine in git(site.checkout, "rev-list", second).split()

    with pytest.raises(NotRemoved, match=f"branch {branch_of(RUN)} in .* stays"):
        list(site.removal(second, LATER, carried).carry_out())


def test_a_repository_that_was_lost_is_no_success(site: Site):
    removal = site.removal(site.worked("a"))
    shutil.rmtree(site.checkout / ".git")
    with pytest.raises(GitRefused, match="is not a git repository, and the run has worked on a branch of it"):
        removal.refuse_lost_repository()
    replace(removal, tip=None).refuse_lost_repository()

    shutil.rmtree(site.checkout)
    with pytest.raises(GitRefused):
        list(removal.carry_out())
