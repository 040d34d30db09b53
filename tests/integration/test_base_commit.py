"""Where a run that takes up an earlier one begins, against real git: what was mended comes along, what did
not count does not.
"""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CalledProcessError

import pytest

from coordination.errors import GitRefused
from coordination.models import Repo
from tests.worktrees import ANN, SOON, claimant, git, save
from workers.workspace import base_commit as beginning
from workers.workspace.base_commit import Carried
from workers.workspace.worktree import Worktree


class Runs:
    """Runs on one checkout, each taking up the one before."""

    def __init__(self, tmp_path: Path, checkout: Path) -> None:
        self.state, self.checkout = tmp_path / "state", checkout
        self.fence = 0
        self.before: tuple[str, ...] = ()
        self.tip: str | None = None
        self.carry_over("r1", None)

    def carry_over(self, run: str, carried: Carried | None) -> None:
        self.run = run
        self.tree = Worktree(
            state=self.state, run=run, repo=Repo(name="widgets"), checkout=self.checkout, carried=carried
        )

    def retry(self, run: str = "r2") -> str:
        """The first attempt of a run that takes up the present one; returns where it begins."""
        self.pass_over(run)
        return self.enter()

    def pass_over(self, run: str) -> None:
        """A run that takes up the present one, and ends before it comes to this repository."""
        self.before = (self.run, *self.before)
        self.carry_over(run, Carried(runs=self.before, tip=self.tip))

    def enter(self, **files: str) -> str:
        self.fence += 1
        start = self.tree.enter(claimant(self.run, self.fence), self.tip, SOON)
        for name, text in files.items():
            (self.tree.path / name).write_text(text)
        return start

    def succeed(self, **files: str) -> str:
        self.enter(**files)
        self.tip = self.tree.commit("T", "work")
        self.tree.leave()
        return self.tip

    def fail(self, **files: str) -> None:
        self.enter(**files)
        self.tree.leave()

    def show(self, name: str, at: str | None = None) -> str:
        return git("show", f"{at or self.tree.branch}:{name}", cwd=self.checkout)


@pytest.fixture
def runs(tmp_path: Path, checkout: Path) -> Runs:
    save(checkout, "the code", code="one\n\n\nend\n")
    return Runs(tmp_path, checkout)


def test_a_todo_begins_where_the_earlier_run_left_the_repository(runs: Runs):
    tip = runs.succeed(done="1")
    runs.fail(rubbish="left by what failed")

    assert runs.retry() == tip
    assert not (runs.tree.path / "rubbish").exists()
    assert git("rev-parse", "coord/r2", cwd=runs.checkout) == tip


def test_where_nothing_had_succeeded_it_begins_at_the_repositorys_branch(runs: Runs, checkout: Path):
    runs.fail(rubbish="1")
    main = save(checkout, "mended on main", code="two\n")

    assert runs.retry() == main


@pytest.mark.parametrize("succeeded", [True, False])
def test_a_mend_that_is_committed_in_the_kept_worktree_comes_along(runs: Runs, succeeded: bool):
    if succeeded:
        runs.succeed(done="1")
    runs.fail(code="broken\n")
    git("checkout", "--quiet", "--", "code", cwd=runs.tree.path)
    mend = save(runs.tree.path, "mended by hand", code="mended\n")

    assert runs.retry() == mend
    assert "with 1 commit made on coord/r1" in runs.tree.start_report
    runs.tree.leave()
    # It failed again, and nothing new was mended: the old mend is not forgotten.
    assert runs.retry("r3") == mend


@pytest.mark.parametrize("succeeded", [True, False])
@pytest.mark.parametrize("between", ["came not as far", "was killed"])
def test_a_mend_is_not_forgotten_by_a_run_in_between(runs: Runs, succeeded: bool, between: str):
    if succeeded:
        runs.succeed(done="1")
    runs.fail()
    mend = save(runs.tree.path, "mended by hand", code="mended\n")
    if between == "was killed":
        runs.retry("r2")
        save(runs.tree.path, "of somebody who was killed", half="1")
        runs.tree._workspace_lock._release()
    else:
        runs.pass_over("r2")

    assert runs.retry("r3") == mend


def test_a_run_in_between_whose_branch_was_deleted_loses_no_recorded_work(runs: Runs, checkout: Path):
    runs.succeed(done="1")
    runs.fail()
    earlier = runs.tree.path
    runs.retry("r2")
    runs.tree.leave()
    tip = runs.succeed(more="2")
    runs.tree.remove(SOON)
    git("branch", "--quiet", "-D", "coord/r2", cwd=checkout)
    save(earlier, "a mend that came too late", code="mended\n")

    assert runs.retry("r3") == tip


def test_a_mend_on_the_repositorys_branch_is_merged_in_without_a_checkout(runs: Runs, checkout: Path):
    tip = runs.succeed(done="1")
    runs.fail()
    main = save(checkout, "mended on main", code="mended\n")
    start = runs.retry()

    assert git("rev-parse", f"{start}^1", f"{start}^2", cwd=checkout).split() == [tip, main]
    assert (runs.show("code"), runs.show("done")) == ("mended", "1")
    assert git("log", "-1", "--format=%s %(trailers:key=Coord-Run,separator=)", start, cwd=checkout) == (
        "Merge main into coord/r2 Coord-Run: r2"
    )
    assert git("status", "--porcelain", cwd=checkout) == ""


def test_a_mend_on_both_branches_comes_along(runs: Runs, checkout: Path):
    runs.succeed(done="1")
    runs.fail()
    save(runs.tree.path, "by hand", hand="2")
    save(checkout, "on main", main="3")
    runs.retry()

    assert [runs.show(name) for name in ("done", "hand", "main")] == ["1", "2", "3"]


def test_every_attempt_of_the_run_begins_at_the_same_commit(runs: Runs, checkout: Path):
    runs.succeed(done="1")
    runs.fail()
    save(checkout, "on main", code="mended\n")
    start = runs.retry()
    runs.tree.leave()
    save(checkout, "once more", code="again\n")
    save(runs.state / "worktrees" / "r1" / "widgets", "late", late="1")

    assert runs.enter() == start
    runs.tree.leave()
    again = Worktree(
        state=runs.state,
        run="r2",
        repo=Repo(name="widgets"),
        checkout=checkout,
        carried=Carried(runs=("r1",), tip=runs.tip),
    )
    assert again.enter(claimant("r2", 99), runs.tip, SOON) == start
    again.leave()


def test_the_tip_of_the_run_counts_from_its_first_success_on(runs: Runs):
    runs.succeed(done="1")
    runs.fail()
    mend = save(runs.tree.path, "by hand", hand="2")
    runs.retry()
    (runs.tree.path / "more").write_text("3")
    new = runs.tree.commit("T", "more")
    runs.tree.leave()

    runs.tip = new
    assert runs.enter() == new
    assert git("rev-parse", f"{new}^", cwd=runs.checkout) == mend
    runs.tree.leave()


def test_commits_of_a_failed_attempt_are_off_the_branch_and_its_files_stay(runs: Runs):
    tip = runs.succeed(done="1")
    runs.enter()
    (runs.tree.path / "code").write_text("half\n")
    save(runs.tree.path, "my own commit", new="half")
    git("switch", "--quiet", "-c", "elsewhere", cwd=runs.tree.path)
    save(runs.tree.path, "and one elsewhere", more="half")
    runs.tree.leave()

    assert git("rev-parse", "coord/r1", "HEAD", cwd=runs.tree.path).split() == [tip, tip]
    assert git("branch", "--show-current", cwd=runs.tree.path) == "coord/r1"
    assert git("status", "--porcelain", cwd=runs.tree.path).splitlines() == [" M code", "?? more", "?? new"]
    assert runs.retry() == tip


def test_a_failed_attempt_in_the_middle_of_a_rebase_leaves_a_branch_to_commit_on(runs: Runs, checkout: Path):
    runs.enter()
    save(runs.tree.path, "mine", code="mine\n")
    save(checkout, "theirs", code="theirs\n")
    with pytest.raises(CalledProcessError):
        git("rebase", "main", cwd=runs.tree.path, settings=ANN)
    runs.tree.leave()

    mend = save(runs.tree.path, "by hand", code="mended\n")
    assert git("rev-parse", "coord/r1", cwd=checkout) == mend


def test_commits_of_an_attempt_that_was_killed_are_left_out(runs: Runs):
    tip = runs.succeed(done="1")
    runs.enter()
    save(runs.tree.path, "of somebody who was killed", half="1")
    runs.tree._workspace_lock._release()  # as the end of the process would

    assert runs.retry() == tip
    assert "coord/r1 is left out" in runs.tree.start_report


def test_a_commit_whose_settle_was_lost_with_its_run_is_left_out(runs: Runs):
    tip = runs.succeed(done="1")
    runs.succeed(done="2")
    runs.tip = tip  # the commits that Redis knows

    assert runs.retry() == tip


def test_a_branch_that_is_set_back_loses_nothing_that_was_recorded(runs: Runs):
    tip = runs.succeed(done="1")
    runs.fail()
    git("reset", "--hard", "--quiet", "main", cwd=runs.tree.path)

    assert runs.retry() == tip


def test_an_amended_and_rebased_branch_is_taken_and_has_the_recorded_work_as_history(
    runs: Runs, checkout: Path
):
    tip = runs.succeed(done="1")
    runs.fail()
    main = save(checkout, "on main", main="3")
    (runs.tree.path / "done").write_text("amended")
    git("commit", "--quiet", "--all", "--amend", "-m", "better", cwd=runs.tree.path, settings=ANN)
    git("rebase", "--quiet", "main", cwd=runs.tree.path, settings=ANN)
    start = runs.retry()

    assert (runs.show("done"), runs.show("main")) == ("amended", "3")
    for part in (tip, main):
        git("merge-base", "--is-ancestor", part, start, cwd=checkout)


REMEDIES = {
    "what was recorded": ("-C {checkout} branch -m coord/r1 mine", {"done": "1"}, "own"),
    "both": ("-C {tree} merge --no-edit {tip}", {"done": "1", "own": "2"}, "none"),
    "the branch as it is": ("-C {tree} merge --no-edit -s ours {tip}", {"own": "2"}, "done"),
}


@pytest.mark.parametrize(("words", "there", "gone"), REMEDIES.values(), ids=REMEDIES)
@pytest.mark.parametrize("how", ["reset to another branch", "an orphan", "amended without a file"])
def test_a_branch_that_lost_accepted_work_is_refused_until_a_person_decides(
    runs: Runs, checkout: Path, how: str, words: str, there: dict[str, str], gone: str
):
    tip = runs.succeed(done="1")
    runs.fail()
    tree = runs.tree.path
    if how == "reset to another branch":
        git("reset", "--quiet", "--hard", "main", cwd=tree)
        save(tree, "another way", own="2")
    elif how == "an orphan":
        git("checkout", "--quiet", "--orphan", "new", cwd=tree)
        git("rm", "-rfq", ".", cwd=tree)
        save(tree, "another history", own="2")
        git("checkout", "--quiet", "-B", "coord/r1", cwd=tree)
    else:
        (tree / "done").unlink()
        (tree / "own").write_text("2")
        git("add", "--all", cwd=tree)
        git("commit", "--quiet", "--amend", "-m", "less", cwd=tree, settings=ANN)
    with pytest.raises(
        GitRefused, match=f"coord/r1 was rewritten and lacks .*{tip[:12]}.*: .*done"
    ) as refused:
        runs.retry()

    assert f"git -C {tree} merge {tip[:12]}" in refused.value.hint
    assert f"git -C {checkout} branch -m coord/r1 NAME" in refused.value.hint
    if how == "an orphan":
        words = words.replace("merge", "merge --allow-unrelated-histories")
    git(*words.format(checkout=checkout, tree=tree, tip=tip).split(), cwd=checkout, settings=ANN)
    runs.retry("r3")
    assert {name: runs.show(name) for name in there} == there
    assert gone not in git("ls-tree", "--name-only", "coord/r3", cwd=checkout).split()


def test_a_branch_that_was_squashed_with_a_file_renamed_is_taken_as_it_is(runs: Runs):
    runs.succeed(done="1", code="one\n\n\nthe end\n")
    runs.succeed(more="2")
    runs.fail()
    git("reset", "--quiet", "--soft", "main", cwd=runs.tree.path)
    git("mv", "done", "named", cwd=runs.tree.path)
    save(runs.tree.path, "all in one", extra="3", more="2, amended")
    runs.retry()

    assert [runs.show(name) for name in ("named", "more", "extra")] == ["1", "2, amended", "3"]
    assert runs.show("code").endswith("the end")


def test_where_nothing_had_succeeded_the_branch_may_be_replaced(runs: Runs):
    runs.fail()
    git("checkout", "--quiet", "--orphan", "new", cwd=runs.tree.path)
    own = save(runs.tree.path, "another history", own="2")
    git("checkout", "--quiet", "-B", "coord/r1", cwd=runs.tree.path)
    start = runs.retry()

    git("merge-base", "--is-ancestor", own, start, cwd=runs.checkout)


def test_a_merge_conflict_is_refused_with_the_files_and_a_worktree_to_solve_it(runs: Runs, checkout: Path):
    runs.succeed(code="by the todo\n")
    runs.fail()
    save(checkout, "on main", code="on main\n")
    with pytest.raises(
        GitRefused, match=r"main has new commits that do not merge into .*: both change code"
    ) as refused:
        runs.retry()

    by_hand = f"merge it by hand: git -C {runs.tree.path} merge main; when that is committed: coord retry r2"
    assert refused.value.hint == by_hand
    with pytest.raises(CalledProcessError):
        git("merge", "main", cwd=runs.tree.path, settings=ANN)
    merged = save(runs.tree.path, "merged by hand", code="both\n")
    assert runs.retry("r3") == merged
    assert runs.show("code") == "both"


def test_a_git_without_merge_tree_is_reported(runs: Runs, checkout: Path, monkeypatch: pytest.MonkeyPatch):
    runs.succeed(done="1")
    save(checkout, "on main", code="mended\n")
    monkeypatch.setattr(beginning, "MERGE", ("--no-such-option",))  # as an older git knows none of them
    with pytest.raises(GitRefused, match=r"this git is older than 2\.38"):
        runs.retry()


def test_an_attempt_that_left_the_branch_alone_leaves_without_git(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
):
    runs.enter()
    (runs.tree.path / "code").write_text("changed\n")
    monkeypatch.setenv("PATH", "")
    runs.tree.leave()

    assert json.loads((runs.state / "workspaces/r1/widgets/occupant.json").read_text())["stood"]
