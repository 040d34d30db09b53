"""The artifacts of a rolled back run are deleted from a repository, all or none; no foreign commit with them,
and main stays.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from subprocess import CalledProcessError

import pytest

from coordination.errors import GitRefused
from coordination.models import Repo
from tests.testbed import git
from tests.worktrees import claimant, run_id
from workers.cleanup import artifacts
from workers.cleanup.rollback import NotRemoved, RollbackCleanup
from workers.workspace.base_commit import Carried
from workers.workspace.lock import WorkspaceBusy
from workers.workspace.worktree import Worktree

RUN, LATER = run_id(1), run_id(3)
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
        self, tip: str | None = None, run: str = RUN, todo: str = "T", carried: Carried | None = None
    ) -> Worktree:
        self.fence += 1
        tree = Worktree(
            state=self.state, run=run, repo=Repo(name="api"), checkout=self.checkout, carried=carried
        )
        tree.enter(claimant(run, self.fence, todo), tip, AT_ONCE)
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
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(artifacts, "PATIENCE", timedelta(milliseconds=100))
    made = Site(tmp_path)
    git(tmp_path, "init", "-q", "-b", "main", str(made.checkout))
    made.committed(made.checkout, "README")
    return made


def test_worktree_and_branch_go_and_main_and_the_checkout_stay_as_they_are(site: Site):
    main = site.heads()
    (site.checkout / "README").write_text("not committed")
    tip = site.worked("a")
    (site.place() / "b").write_text("an attempt would clean that away, too")

    words = list(site.removal(tip).remove())

    assert words == [
        f"the worktree {site.place()} is removed",
        f"branch coord/{RUN} in {site.checkout} is removed; it was at {tip[:12]}",
    ]
    assert site.heads() == main
    assert (site.checkout / "README").read_text() == "not committed"
    assert not list(site.state.glob("work*/*"))
    assert list(site.removal(tip).remove()) == []


def detached_from_git(site: Site, _tip: str) -> None:
    git(site.checkout, "worktree", "remove", "--force", str(site.place()))


def alias_of_main(site: Site, tip: str) -> None:
    detached_from_git(site, tip)
    git(site.checkout, "symbolic-ref", f"refs/heads/coord/{RUN}", "refs/heads/main")


def killed_before_its_report(site: Site, tip: str) -> None:
    tree = site.enter(tip)
    (tree.path / "b").write_text("b")
    tree.commit("T", "write")
    site.killed(tree)


def killed_compensation(site: Site, tip: str, *, detached: bool = False) -> None:
    tree = site.enter(tip, todo="T/compensate")
    if detached:
        git(tree.path, "checkout", "-q", "--detach")
    site.committed(tree.path, "b")
    site.killed(tree)


@pytest.mark.parametrize(
    "left",
    [
        lambda site, _: shutil.rmtree(site.place()),
        detached_from_git,
        lambda site, _: shutil.rmtree(site.state / "workspaces"),
        lambda site, _: shutil.rmtree(site.state),
        alias_of_main,
        killed_before_its_report,
        killed_compensation,
        partial(killed_compensation, detached=True),
    ],
    ids=["no folder", "no entry", "no records", "no state", "alias of main", "unreported commit",
    "compensation", "its HEAD"],
)  # fmt: skip
def test_a_killed_cleanup_or_attempt_leaves_nothing_that_the_next_cleanup_does_not_remove(
    site: Site, left: Callable[[Site, str], object]
):
    tip = site.worked("a")
    left(site, tip)
    git(site.checkout, "worktree", "prune")

    list(site.removal(tip).remove())

    assert list(site.heads()) == ["main"]
    assert list(site.removal(tip).remove()) == []


def amended(site: Site, _tip: str) -> None:
    git(site.place(), "commit", "-q", "--amend", "--no-edit", "--date=2026-01-01T00:00:00Z")


def checked_out_elsewhere(site: Site, _tip: str) -> None:
    shutil.rmtree(site.place())
    git(site.checkout, "worktree", "prune")
    git(site.checkout, "worktree", "add", "-q", str(site.folder / "mine"), f"coord/{RUN}")


@pytest.mark.parametrize(
    ("prepare", "error", "why"),
    [
        (amended, NotRemoved, "no run has recorded"),
        (checked_out_elsewhere, NotRemoved, "it is checked out in {folder}/mine"),
        (lambda site, tip: site.enter(tip), WorkspaceBusy, "in use"),
    ],
    ids=["amended", "checked out elsewhere", "in use"],
)
def test_a_branch_in_use_or_with_other_commits_stays(
    site: Site, prepare: Callable[[Site, str], object], error: type[Exception], why: str
):
    tip = site.worked("a")
    prepare(site, tip)

    with pytest.raises(error, match=why.format(folder=site.folder)):
        list(site.removal(tip).remove())
    assert f"coord/{RUN}" in site.heads()


def test_a_branch_with_somebodys_commit_stays_with_all_the_rest_until_it_is_kept_elsewhere(site: Site):
    tip = site.worked("a")
    mine = site.committed(site.place(), "b")
    removal = site.removal(tip)

    for attempt in (lambda: removal.refuse_losses(of_all=False), lambda: list(removal.remove())):
        with pytest.raises(NotRemoved) as refused:
            attempt()
        assert refused.value.message == (
            f"api: branch coord/{RUN} in {site.checkout} stays: it has commits that no run has recorded"
        )
    assert site.heads()[f"coord/{RUN}"] == mine
    assert (site.place() / "b").exists()

    assert f"git -C {site.checkout} branch -m coord/{RUN} NAME" in refused.value.hint
    git(site.checkout, "branch", "-m", f"coord/{RUN}", "mine")
    list(removal.remove())
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
        list(site.removal(tip).remove())
    assert (site.heads(), site.place().exists()) == (before, True)

    assert f"git -C {site.place()} branch NAME" in refused.value.hint
    git(site.place(), "branch", "mine")
    list(site.removal(tip).remove())
    assert site.heads() == {"main": before["main"], "mine": mine}


@pytest.mark.parametrize("left", ["worktree", "records", "nothing"])
def test_a_lock_that_a_killed_git_left_on_the_branch_goes_with_it(site: Site, left: str):
    tip = site.worked("a")
    lock = site.checkout / ".git" / "refs" / "heads" / f"coord/{RUN}.lock"
    lock.touch()
    if left != "worktree":
        git(site.checkout, "worktree", "remove", "--force", str(site.place()))
    if left == "nothing":
        shutil.rmtree(site.state)

    list(site.removal(tip).remove())

    assert (list(site.heads()), lock.exists()) == (["main"], False)
    assert left == "records" or not list(site.state.glob("work*/*"))


def test_a_lock_on_the_branch_stays_while_somebody_is_in_the_worktree(site: Site):
    tip = site.worked("a")
    site.enter(tip)
    git(site.checkout, "worktree", "remove", "--force", str(site.place()))
    lock = site.checkout / ".git" / "refs" / "heads" / f"coord/{RUN}.lock"
    lock.touch()

    with pytest.raises(WorkspaceBusy):
        list(site.removal(tip).remove())
    assert lock.exists()


def test_a_commit_of_unknown_origin_in_the_worktree_of_a_killed_worker_stays(site: Site):
    tip = site.worked("a")
    tree = site.enter(tip)
    site.committed(tree.path, "b")
    site.killed(tree)

    with pytest.raises(NotRemoved, match="no run has recorded"):
        list(site.removal(tip).remove())

    list(replace(site.removal(tip), had_ended=False).remove())
    assert list(site.heads()) == ["main"], "a run that went on until then is nobody's place to work"


def test_what_was_merged_stays_merged_and_that_is_said(site: Site):
    tip = site.worked("a")
    git(site.checkout, "merge", "-q", "--ff-only", f"coord/{RUN}")

    *_, words = site.removal(tip).remove()

    assert words.endswith("; its commits are on another branch or tag as well, and stay there")
    assert site.heads() == {"main": tip}


def test_a_run_that_has_committed_nothing_leaves_nothing(site: Site):
    site.enter().leave()
    main = git(site.checkout, "rev-parse", "main")
    git(site.checkout, "commit", "-q", "--allow-empty", "--amend", "-m", "main is rewritten")

    *_, words = site.removal(None).remove()

    assert words == f"branch coord/{RUN} in {site.checkout} is removed; it was at {main[:12]}"
    assert list(site.heads()) == ["main"]


@pytest.mark.parametrize("began_with_it", [False, True])
def test_the_rest_of_an_earlier_run_goes_too_but_not_a_commit_by_hand(site: Site, began_with_it: bool):
    carried = Carried(runs=(RUN,), tip=site.worked("a"))
    mine = site.committed(site.place(), "mend") if began_with_it else ""
    second = site.worked("b", run=LATER, carried=carried)
    assert (mine in git(site.checkout, "rev-list", second).split()) is began_with_it
    removal = site.removal(second, LATER, carried)
    mine = mine or site.committed(site.place(), "mend")

    with pytest.raises(NotRemoved, match=f"branch coord/{RUN} in .* stays"):
        list(removal.remove())
    assert site.heads()[f"coord/{LATER}"] == second

    git(site.checkout, "branch", "-m", f"coord/{RUN}", "mine")
    list(removal.remove())
    assert site.heads() == {"main": site.heads()["main"], "mine": mine}
    assert not list(site.state.glob("work*/*"))


def test_a_repository_that_was_lost_is_no_success(site: Site):
    removal = site.removal(site.worked("a"))
    shutil.rmtree(site.checkout / ".git")
    with pytest.raises(GitRefused, match="is not a git repository, and the run has worked on a branch of it"):
        removal.refuse_lost_repository()
    replace(removal, tip=None).refuse_lost_repository()

    shutil.rmtree(site.checkout)
    with pytest.raises(GitRefused):
        list(removal.remove())
