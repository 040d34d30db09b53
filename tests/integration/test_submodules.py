"""A worktree has its repository's submodules, from the checkout's own copies; its checkout is only read."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from coordination.errors import GitRefused
from coordination.models import Repo
from coordination.runs.not_committed import NotCommittedReason
from tests.testbed import git
from tests.worktrees import claimant
from workers.workspace.submodules import submodules_of
from workers.workspace.worktree import Worktree

SOON = timedelta(seconds=10)
ALLOWED = ("-c", "protocol.file.allow=always")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a submodule `lib`, which has a submodule `deep`; and `other`, which the checkout does
    not have.
    """
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for name in ("deep", "lib", "other", "top"):
        path = tmp_path / "origin" / name
        git(tmp_path, "init", "-q", "-b", "main", str(path))
        (path / "file").write_text(f"{name}\n")
        inner = {"lib": ["deep"], "top": ["lib", "other"]}.get(name, [])
        for module in inner:
            git(path, *ALLOWED, "submodule", "--quiet", "add", str(tmp_path / "origin" / module), module)
        git(path, "add", "--all")
        git(path, "commit", "-q", "-m", "first")
    top = tmp_path / "top"
    git(tmp_path, *ALLOWED, "clone", "-q", str(tmp_path / "origin" / "top"), str(top))
    git(top, *ALLOWED, "submodule", "--quiet", "update", "--init", "--recursive", "lib")
    (tmp_path / "origin").rename(tmp_path / "away")  # commits outside the checkout are unavailable
    return top


def tree(checkout: Path, *, wanted: bool | None = None) -> Worktree:
    repo = Repo(name="top", submodules=wanted)
    return Worktree(state=checkout.parent / "state", run="r", repo=repo, checkout=checkout)


def enter(worktree: Worktree, fence: int = 1, tip: str | None = None) -> str:
    return worktree.enter(claimant("r", fence), tip, SOON)


def test_a_fresh_worktree_has_the_submodules_of_its_checkout_and_the_checkout_is_as_before(checkout: Path):
    config = (checkout / ".git" / "config").read_bytes()
    there = tree(checkout)

    enter(there)

    assert (there.path / "lib" / "file").read_text() == "lib\n"
    assert (there.path / "lib" / "deep" / "file").read_text() == "deep\n"
    assert not (there.path / "other" / "file").exists(), "the checkout has none of it"
    assert git(there.path / "lib", "remote", "get-url", "origin") == str(checkout.parent / "origin" / "lib")
    assert not there.changed
    assert (checkout / ".git" / "config").read_bytes() == config
    assert git(checkout, "status", "--porcelain") == ""
    there.leave()
    there.remove(SOON)
    assert git(checkout / "lib", "status", "--porcelain") == ""


def test_the_next_attempt_finds_submodules_at_their_recorded_commits(checkout: Path):
    there = tree(checkout)
    enter(there)
    (there.path / "lib" / "file").write_text("broken\n")
    (there.path / "lib" / "untracked").touch()
    git(there.path / "lib" / "deep", "commit", "-q", "--allow-empty", "-m", "more")
    there.leave()

    enter(there, fence=2)

    assert not there.changed
    assert not (there.path / "lib" / "untracked").exists()
    there.leave()


@pytest.mark.parametrize("damage", ["git file", "link"])
def test_a_submodule_led_elsewhere_is_made_anew_and_the_checkouts_stays(checkout: Path, damage: str):
    there = tree(checkout)
    enter(there)
    lib, theirs = there.path / "lib", checkout / "lib"
    (theirs / "file").write_text("uncommitted\n")
    (theirs / "notes").write_text("untracked\n")
    if damage == "git file":
        (lib / ".git").write_text(f"gitdir: {checkout}/.git/modules/lib\n")
    else:
        shutil.rmtree(lib)
        lib.symlink_to(theirs)
    head = (checkout / ".git" / "modules" / "lib" / "HEAD").read_bytes()
    there.leave()

    enter(there, fence=2)

    assert (lib / "file").read_text() == "lib\n"
    assert not there.changed
    assert (theirs / "file").read_text() == "uncommitted\n"
    assert (theirs / "notes").read_text() == "untracked\n"
    assert (checkout / ".git" / "modules" / "lib" / "HEAD").read_bytes() == head
    there.leave()


def test_none_are_made_where_none_are_wanted_and_all_where_all_are(checkout: Path):
    none = tree(checkout, wanted=False)
    enter(none)
    assert not (none.path / "lib" / "file").exists()
    none.leave()
    none.remove(SOON)

    with pytest.raises(GitRefused, match="other"):
        enter(tree(checkout, wanted=True), fence=2)


def test_changes_in_a_submodule_that_no_commit_carries_are_logged(checkout: Path):
    there = tree(checkout)
    since = enter(there)
    (there.path / "lib" / "file").write_text("changed\n")
    git(there.path / "lib", "commit", "-q", "-a", "-m", "only here")
    (there.path / "lib" / "file").write_text("changed again\n")

    new = there.commit("T", "raise lib")
    told = there.not_committed()

    only_here = git(there.path / "lib", "rev-parse", "HEAD")
    assert new != since
    assert [module.commit for module in submodules_of(there.path, None) if module.path == "lib"] == [
        only_here
    ]
    assert [(one.reason, one.paths, one.count) for one in told] == [
        (NotCommittedReason.SUBMODULE_CHANGES, ("lib",), 1),
        (NotCommittedReason.SUBMODULE_COMMIT, ("lib",), 1),
    ]
    assert only_here in told[1].hint
    there.leave()
    enter(there, fence=2, tip=new)
    assert git(there.path / "lib", "rev-parse", "HEAD") == only_here, (
        "the next todo of the run goes on with it"
    )
    there.leave()


def test_an_address_that_only_a_commit_of_a_todo_has_is_not_asked(checkout: Path):
    there, mark = tree(checkout, wanted=True), checkout.parent / "mark"
    git(checkout, "rm", "-q", "other")
    git(checkout, "commit", "-q", "-m", "without other")
    enter(there)
    text = (there.path / ".gitmodules").read_text()
    evil = f'[submodule "evil"]\n\tpath = evil\n\turl = ext::touch {mark}\n'
    (there.path / ".gitmodules").write_text(text + evil)
    (there.path / "evil").mkdir()
    git(there.path, "config", "protocol.ext.allow", "always")
    git(there.path, "add", ".gitmodules")
    git(there.path, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},evil")
    tip = there.commit("T", "evil")
    there.leave()

    with pytest.raises(GitRefused, match="evil has a new address"):
        enter(there, fence=2, tip=tip)

    assert not mark.exists()


@pytest.mark.parametrize("file", ["index", "HEAD"])
def test_a_damaged_submodule_is_made_anew(checkout: Path, file: str):
    there = tree(checkout)
    since = enter(there)
    (Path(git(there.path / "lib", "rev-parse", "--absolute-git-dir")) / file).write_text("rubbish")
    there.leave()

    enter(there, fence=2, tip=since)

    assert (there.path / "lib" / "file").read_text() == "lib\n"
    assert not there.changed
    there.leave()


def test_a_name_that_git_would_take_for_a_setting_is_refused(checkout: Path):
    text = (checkout / ".gitmodules").read_text()
    (checkout / ".gitmodules").write_text(text.replace('"lib"', '"lib.update=!touch owned;"'))
    git(checkout, "commit", "-q", "-am", "odd")

    with pytest.raises(GitRefused, match="takes for a setting"):
        enter(tree(checkout, wanted=True))
