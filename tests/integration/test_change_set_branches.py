"""A run of a change set begins at its tip, with the base merged in; its branch is a copy that coord leaves to
people who moved it.
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest

from coordination.errors import GitRefused
from coordination.files import loose
from coordination.models import Repo
from coordination.runs.records import RunBrief, WaitReason
from tests.attempts import RUN, Bench
from tests.worktrees import ANN, SOON, claimant, save
from workers.cleanup.artifacts import RunArtifacts
from workers.cleanup.landed import has_landed
from workers.landing.remote import base_at_remote
from workers.outcome import OutcomeKind
from workers.workspace.base_commit import Carried, Unmergeable
from workers.workspace.change_set import BranchCopy, GitSessions
from workers.workspace.git import ask, git
from workers.workspace.lock import Superseded
from workers.workspace.worktree import Worktree

BRANCH = "coord/PLAN"


class Sweeps:
    """Runs of one change set on one checkout, one behind the other."""

    def __init__(self, tmp_path: Path, checkout: Path, url: str = "") -> None:
        self.state, self.checkout = tmp_path / "state", checkout
        self.repo = Repo(name="widgets", url=url or None)
        self.sessions = GitSessions()
        self.tip: str | None = None
        self.number = self.fence = 0
        self.copy = BranchCopy(checkout=checkout, common_dir=checkout / ".git", branch=BRANCH)
        self.next()

    def next(self, tip: str | None = None, again: str = "") -> None:
        """Make the next run, from this tip or from that of the last one."""
        self.number += 1
        self.tip = tip or self.tip
        self.run, self.at = f"20260101-000000-aaa{self.number}", self.tip
        base = (
            partial(base_at_remote, self.repo, self.checkout, lambda: nullcontext({}))
            if self.repo.url
            else None
        )
        carried = Carried(
            runs=(), tip=self.tip, change_set="PLAN", branch=BRANCH, base=base, again=again,
            has_landed=partial(has_landed, self.checkout),
        )  # fmt: skip
        self.tree = Worktree(
            state=self.state, run=self.run, repo=self.repo, checkout=self.checkout, carried=carried,
            common_dir=self.checkout / ".git", sessions=self.sessions,
        )  # fmt: skip

    def begin(self) -> str:
        self.fence += 1
        return self.tree.enter(claimant(self.run, self.fence), self.at, SOON)

    def work(self, **files: str) -> str:
        """Execute a todo that succeeds; return its commit."""
        self.begin()
        for name, text in files.items():
            (self.tree.path / name).write_text(text)
        before, self.tip = self.at, self.tree.commit("T", "work")
        self.figures = self.tree.figures(self.tip)
        self.why = self.tree.move_change_set(self.tip, before)
        self.tree.leave()
        self.at = self.tip
        return self.tip

    def git(self, *args: str) -> str:
        return git(*args, cwd=self.checkout)

    @property
    def branch(self) -> str:
        return self.copy.read().head

    def commit_on_branch(self, name: str, place: Path | None = None) -> str:
        """A person's commit, in a worktree of its own that goes again."""
        folder = place or self.state.parent / f"person-{name}"
        self.git("worktree", "add", "--quiet", str(folder), BRANCH)
        commit = save(folder, f"by hand: {name}", **{name: "1\n"})
        if place is None:
            self.git("worktree", "remove", str(folder))
        return commit


@pytest.fixture
def sweeps(tmp_path: Path, checkout: Path) -> Sweeps:
    save(checkout, "the code", code="one\n\n\nend\n")
    return Sweeps(tmp_path, checkout)


def test_the_branch_follows_each_todo_with_figures_and_trailers(sweeps: Sweeps):
    base = sweeps.git("rev-parse", "main")
    first = sweeps.work(one="1\n2\n")
    assert sweeps.branch == first
    assert sweeps.figures == f"{base} 1 1 2 0"
    assert [path for path in loose(sweeps.state) if path.name == "commits"] == []
    second = sweeps.work(two="1\n", code="one\n")

    assert sweeps.branch == second
    assert sweeps.figures == f"{base} 2 3 3 3"
    assert f"Coord-Base: {base}" in sweeps.git("log", "-1", "--format=%B", second)
    assert git("status", "--porcelain", cwd=sweeps.checkout) == ""


def test_the_next_run_begins_at_the_tip_and_merges_a_base_that_moved(sweeps: Sweeps):
    tip = sweeps.work(one="1\n")
    main = save(sweeps.checkout, "meanwhile", other="1\n")
    sweeps.next()
    began = sweeps.begin()

    assert sweeps.git("log", "-1", "--format=%P", began).split() == [tip, main]
    sweeps.tree.leave()
    sweeps.work(two="2\n")
    assert sweeps.figures == f"{main} 3 2 2 0"
    assert sweeps.branch == sweeps.tip


def test_commits_of_a_person_on_the_branch_are_kept_also_when_a_run_comes_to_nothing(sweeps: Sweeps):
    sweeps.work(one="1\n")
    added = sweeps.commit_on_branch("mine")
    for _ in range(2):
        sweeps.next()
        assert sweeps.begin() == added
        sweeps.tree.leave()
    last = sweeps.work(two="2\n")

    assert sweeps.branch == last
    assert sweeps.git("show", f"{BRANCH}:mine") == "1"


def test_a_branch_without_our_work_is_refused_and_stays(sweeps: Sweeps):
    tip = sweeps.work(one="1\n")
    sweeps.git("branch", "--force", BRANCH, "main~1")
    sweeps.next()
    assert sweeps.begin() == tip, "it was set back: there is nothing of a person on it"
    sweeps.tree.leave()
    sweeps.work(two="2\n")
    assert "a person has moved it" in sweeps.why
    assert sweeps.branch == sweeps.git("rev-parse", "main~1")

    added = sweeps.commit_on_branch("mine")
    sweeps.next()
    with pytest.raises(GitRefused) as refused:
        sweeps.begin()
    assert "coord plan adopt PLAN" in refused.value.hint
    assert sweeps.branch == added


def test_a_foreign_branch_of_that_name_is_refused_before_anything_is_made(sweeps: Sweeps):
    sweeps.git("branch", BRANCH, "main")
    theirs = sweeps.commit_on_branch("theirs")
    with pytest.raises(GitRefused, match="coord plan adopt PLAN"):
        sweeps.begin()
    assert sweeps.branch == theirs


def test_commits_on_top_of_work_that_was_taken_back_are_refused(sweeps: Sweeps):
    first = sweeps.work(one="1\n")
    sweeps.work(two="2\n")
    sweeps.commit_on_branch("mine")
    sweeps.next(first)
    with pytest.raises(GitRefused, match="taken back"):
        sweeps.begin()


def test_the_next_run_mends_a_branch_that_is_gone_or_behind_or_ahead(sweeps: Sweeps):
    first = sweeps.work(one="1\n")
    second = sweeps.work(two="2\n")
    sweeps.git("branch", "--quiet", "-D", BRANCH)
    sweeps.next()
    assert sweeps.begin() == second
    assert sweeps.branch == second
    assert "deleted" in sweeps.tree.start_report
    sweeps.tree.leave()

    sweeps.next(first)  # the last run was taken back
    assert sweeps.begin() == first
    assert sweeps.branch == first
    assert sweeps.copy.move("") == ""
    assert sweeps.branch == ""


@pytest.mark.parametrize("is_moved", [False, True])
def test_work_of_which_no_record_is_left_is_refused_and_stays(sweeps: Sweeps, is_moved: bool):
    head = sweeps.work(one="1\n")
    if is_moved:
        head = sweeps.commit_on_branch("mine")
    sweeps.tip = None  # Redis was lost
    sweeps.next()
    with pytest.raises(GitRefused) as refused:
        sweeps.begin()
    assert "coord plan adopt PLAN" in refused.value.hint
    assert sweeps.branch == head


@pytest.mark.parametrize("how", ["landed", "reverted", "killed"])
def test_work_that_landed_or_never_counted_goes_and_its_commit_is_kept(sweeps: Sweeps, how: str):
    """The branch of an earlier change set, of which Redis has no tip any more."""
    left = sweeps.work(one="1\n")
    if how == "killed":
        record = sweeps.state / "workspaces" / sweeps.run / "widgets" / "occupant.json"
        record.write_text(record.read_text().replace('"left":true', '"left":false'))
    else:
        sweeps.git("merge", "--quiet", "--squash", BRANCH)
        squashed = save(sweeps.checkout, "squashed", one="1\n")
        if how == "reverted":
            git("revert", "--no-edit", squashed, cwd=sweeps.checkout, settings=ANN)
    sweeps.tip = None
    sweeps.next()
    assert sweeps.begin() == sweeps.git("rev-parse", "main")
    sweeps.tree.leave()
    last = sweeps.work(two="2\n")
    assert sweeps.branch == last
    kept = sweeps.git("for-each-ref", "--format=%(objectname)", "refs/coord/discarded/").split()
    assert left in kept


@pytest.mark.parametrize("at_the_end", [True, False])
def test_commits_of_people_that_a_run_does_again_without_them_are_kept_and_named(
    sweeps: Sweeps, at_the_end: bool
):
    first = sweeps.work(one="1\n")
    mine = sweeps.commit_on_branch("mine")
    sweeps.next()
    left = sweeps.work(two="2\n")
    if at_the_end:
        mine = save(sweeps.tree.path, "by hand", more="1\n")
    sweeps.next(first, again=sweeps.run)  # as `coord retry --from` orders
    assert sweeps.begin() == first

    assert mine[:12] in sweeps.tree.start_report
    assert sweeps.branch == first
    listing = sweeps.git("for-each-ref", "--format=%(objectname) %(refname)", "refs/coord/discarded/")
    kept = dict(line.split() for line in listing.splitlines())
    assert kept.keys() == {left, mine if at_the_end else left}
    assert kept[mine if at_the_end else left] in sweeps.tree.start_report
    sweeps.tree.leave()
    sweeps.next()
    assert "discarded" not in (sweeps.begin() and sweeps.tree.start_report), "it is told once"


def test_a_checkout_of_the_branch_goes_along_unless_it_has_uncommitted_work(sweeps: Sweeps, tmp_path: Path):
    first = sweeps.work(one="1\n")
    place = tmp_path / "mine"
    sweeps.git("worktree", "add", "--quiet", str(place), BRANCH)
    second = sweeps.work(two="2\n")
    assert sweeps.branch == second
    assert (place / "two").read_text() == "2\n"
    assert git("status", "--porcelain", cwd=place) == ""

    (place / "one").write_text("in the middle of something")
    third = sweeps.work(three="3\n")
    assert str(place) in sweeps.why
    assert (sweeps.branch, (place / "one").read_text()) == (second, "in the middle of something")
    git("checkout", "--quiet", "one", cwd=place)
    sweeps.next()
    assert sweeps.begin() == third
    assert (sweeps.branch, (place / "three").read_text()) == (third, "3\n")
    assert first != third


@pytest.mark.parametrize("file", ["x.env", "folder/x.env", "folder.env"])
def test_a_checkout_of_the_branch_stays_where_a_todo_brings_a_file_that_git_ignores_there(
    sweeps: Sweeps, tmp_path: Path, file: str
):
    """git replaces ignored files without a word; nobody else has them."""
    save(sweeps.checkout, "ignores", **{".gitignore": "*.env\n"})
    sweeps.next()
    first = sweeps.work(one="1\n")
    place = tmp_path / "mine"
    sweeps.git("worktree", "add", "--quiet", str(place), BRANCH)
    mine = place / file / "x" if file == "folder.env" else place / file
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine\n")

    sweeps.begin()
    made = sweeps.tree.path / file
    made.parent.mkdir(exist_ok=True)
    made.write_text("of the todo\n")
    git("add", "--force", file, cwd=sweeps.tree.path)
    second = sweeps.tree.commit("T", "work")
    why = sweeps.tree.move_change_set(second, first)
    sweeps.tree.leave()

    assert str(place) in why
    assert file in why
    assert (sweeps.branch, mine.read_text()) == (first, "mine\n")


@pytest.mark.parametrize("how", ["rebased", "twice"])
def test_the_branch_stays_where_a_person_rebases_it_or_has_it_checked_out_twice(
    sweeps: Sweeps, tmp_path: Path, how: str
):
    first, place = sweeps.work(code="two\n"), tmp_path / "mine"
    sweeps.git("worktree", "add", "--quiet", str(place), BRANCH)
    if how == "twice":
        sweeps.git("worktree", "add", "--quiet", "--force", str(tmp_path / "again"), BRANCH)
    else:
        upstream = save(sweeps.checkout, "moved", code="three\n")
        stopped = ask("rebase", upstream, cwd=place, settings=ANN)
        assert stopped.returncode == 1

    second = sweeps.work(two="2\n")

    assert str(place) in sweeps.why
    assert (sweeps.branch, first != second) == (first, True)
    if how == "rebased":
        git("rebase", "--abort", cwd=place)
        assert git("rev-parse", "HEAD", cwd=place) == first


def test_an_attempt_that_does_not_count_moves_the_branch_back(sweeps: Sweeps):
    sweeps.work(one="1\n")
    sweeps.at = None  # as if its settle was refused
    request = claimant(sweeps.run, sweeps.fence)
    sweeps.tree.take_back(request, None)
    assert sweeps.branch == "", "the change set had nothing before"

    first = sweeps.work(one="1\n")
    second = sweeps.work(two="2\n")
    record = sweeps.state / "workspaces" / sweeps.run / "widgets" / "occupant.json"
    record.write_text(record.read_text().replace('"left":true', '"left":false'))  # it was killed
    assert sweeps.branch == second
    sweeps.at = first
    assert sweeps.begin() == first
    assert sweeps.branch == first


def test_the_branch_of_a_run_goes_when_that_of_the_change_set_has_all_of_it(sweeps: Sweeps):
    sweeps.work(one="1\n")
    last = sweeps.work(two="2\n")
    sweeps.tree.remove(SOON)
    sweeps.git("branch", "--force", BRANCH, "main")
    for _ in range(2):
        RunArtifacts(sweeps.state, {"widgets": sweeps.checkout}).remove_contained(
            sweeps.run, "widgets", BRANCH
        )
        assert (sweeps.git("branch", "--list", f"coord/{sweeps.run}") == "") == (sweeps.branch == last)
        sweeps.git("branch", "--force", BRANCH, last)

    sweeps.number, sweeps.tip, sweeps.fence = 0, None, 0
    sweeps.next()  # an attempt of this run that slept since
    with pytest.raises(Superseded):
        sweeps.begin()


def test_a_base_that_conflicts_waits_for_a_merge_by_hand_and_goes_on_from_it(sweeps: Sweeps):
    tip = sweeps.work(code="ours\n")
    main = save(sweeps.checkout, "meanwhile", code="theirs\n")
    sweeps.next()
    for _ in range(2):  # the second look must not touch a merge that has been begun
        with pytest.raises(Unmergeable) as refused:
            sweeps.begin()
        assert refused.value.waits
        assert "code" in refused.value.message
        if not (sweeps.tree.path / "half").exists():
            assert git("rev-parse", "HEAD", cwd=sweeps.tree.path) == tip
            (sweeps.tree.path / "half").write_text("of the merge")
    save(sweeps.checkout, "and again", code="theirs again\n")
    git("merge", "--no-commit", "-s", "ours", main, cwd=sweeps.tree.path, settings=ANN)
    merged = save(sweeps.tree.path, "merged by hand", code="both\n")

    assert sweeps.begin() == merged, "the base that moved once more comes with the next run"
    sweeps.tree.leave()
    sweeps.work(two="2\n")
    assert sweeps.figures.startswith(main)


@pytest.fixture
def pushed(tmp_path: Path, checkout: Path) -> Sweeps:
    """A checkout whose main has been pushed."""
    git("init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "remote.git"), cwd=tmp_path)
    made = Sweeps(tmp_path, checkout, url=str(tmp_path / "remote.git"))
    made.git("push", "--quiet", made.repo.url or "", "main")
    return made


def test_a_run_begins_at_the_remotes_base_and_names_local_commits_that_it_lacks(pushed: Sweeps):
    remote = pushed.git("rev-parse", "main")
    local = save(pushed.checkout, "not pushed yet", mine="1\n")

    assert pushed.begin() == remote
    assert f"{local[:7]} not pushed yet" in pushed.tree.start_report


def test_without_the_remote_a_run_begins_at_the_tip_that_was_last_seen(pushed: Sweeps, tmp_path: Path):
    local = pushed.git("rev-parse", "main")
    shutil.move(tmp_path / "remote.git", tmp_path / "away")
    assert pushed.begin() == local, "it was never seen"
    assert "cannot be read" in pushed.tree.start_report
    pushed.tree.leave()

    shutil.move(tmp_path / "away", tmp_path / "remote.git")
    pushed.next()
    seen = pushed.begin()
    pushed.tree.leave()
    save(pushed.checkout, "only here", mine="1\n")
    shutil.move(tmp_path / "remote.git", tmp_path / "away")
    pushed.next()
    assert pushed.begin() == seen
    assert "last seen" in pushed.tree.start_report
    assert "left out" in pushed.tree.start_report


def test_a_remote_without_the_branch_or_a_detached_checkout_loses_nothing(pushed: Sweeps):
    tip = pushed.work(one="1\n")
    git("branch", "-m", "main", "trunk", cwd=Path(pushed.repo.url or ""))
    pushed.git("checkout", "--quiet", "--detach", "main")
    pushed.next()

    assert pushed.begin() == tip
    assert pushed.git("rev-parse", "HEAD") == pushed.git("rev-parse", "main")


def test_a_shallow_clone_is_named_as_the_reason(tmp_path: Path, sweeps: Sweeps):
    sweeps.work(one="1\n")
    for number in range(3):
        save(sweeps.checkout, f"more {number}", more=str(number))
    clone = tmp_path / "clone"
    git("clone", "--quiet", "--depth=1", f"file://{sweeps.checkout}", str(clone), cwd=tmp_path)
    git("fetch", "--quiet", "--depth=1", "origin", f"{BRANCH}:{BRANCH}", cwd=clone)
    other = Sweeps(tmp_path / "other", clone)
    other.next(sweeps.tip)

    with pytest.raises(Unmergeable, match="unshallow") as refused:
        other.begin()
    assert refused.value.waits


def test_an_attempt_waits_for_a_merge_by_hand_and_hands_its_figures_over(tmp_path: Path, checkout: Path):
    bench = Bench(tmp_path)
    base = git("rev-parse", "HEAD", cwd=bench.make_repository())
    told = {"run_id": RUN, "plan_id": "PLAN", "change_set": "PLAN"}
    bench.brief = RunBrief(**told, lineage={"repos": {"api": {"branch": BRANCH}}})
    done = bench.attempt("echo two > code")
    assert (done.kind, done.figures) == (OutcomeKind.SUCCEEDED, f"{base} 1 1 1 1")
    assert bench.standing(BRANCH) == done.tip, "before the settle: who sees the end of the run sees it"

    save(bench.checkout, "meanwhile", code="three\n")
    shutil.rmtree(bench.state)
    git("worktree", "prune", cwd=bench.checkout)
    bench.brief = RunBrief(**told, lineage={"repos": {"api": {"branch": BRANCH, "tip": done.tip}}})
    waits = bench.attempt("true", done.tip)
    assert (waits.kind, waits.reason) == (OutcomeKind.DEFERRED, WaitReason.BASE)
    assert "code" in waits.error
    assert f"git -C {bench.tree} merge" in waits.error
    wait, hint = bench.log.splitlines()[-2:]
    assert "waits for a merge: " in wait
    assert "code" in wait
    assert hint.startswith(f"[coord] next: merge it by hand: git -C {bench.tree} merge")


def test_no_branch_but_those_of_change_sets_is_moved_as_a_copy(checkout: Path):
    """Also where the owner of Redis says that the change set is on the base branch."""
    before = git("rev-parse", "main", cwd=checkout).strip()
    git("checkout", "-q", "--detach", cwd=checkout)
    tip = save(checkout, "more", more="x\n")
    copy = BranchCopy(checkout=checkout, common_dir=checkout / ".git", branch="main")

    assert "stays" in copy.move(tip)
    assert git("rev-parse", "main", cwd=checkout).strip() == before


def test_still_possible_the_branch_of_a_change_set_is_moved_to_a_commit_that_is_there(sweeps: Sweeps):
    """As docs/trust.md says: the owner of Redis names an older commit as the tip."""
    first = sweeps.work(one="1\n")
    second = sweeps.work(two="2\n")
    assert sweeps.branch == second
    sweeps.copy.move(first)
    assert sweeps.branch == first
