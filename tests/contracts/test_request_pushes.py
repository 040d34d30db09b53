"""The branch of a change set at a remote moves only over commits of coord."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from coordination.changes.requests.push import PushTarget, push_branch
from coordination.errors import Conflict, GitRefused
from tests.landing_checkout import POINTER, fake_git_lfs
from tests.testbed import git

BRANCH = "coord/P"


@pytest.fixture
def target(tmp_path: Path) -> PushTarget:
    checkout, remote = tmp_path / "r", tmp_path / "r.git"
    git(tmp_path, "init", "-q", "-b", "main", str(checkout))
    git(tmp_path, "init", "-q", "--bare", str(remote))
    commit(checkout, "first")
    hook = checkout / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    return PushTarget(
        repo="r", checkout=checkout, url=str(remote), branch=BRANCH, base_branch="main", plan="P"
    )


def commit(folder: Path, words: str) -> str:
    git(folder, "commit", "-q", "--allow-empty", "-m", words)
    return git(folder, "rev-parse", "HEAD")


def there(target: PushTarget) -> str:
    return git(Path(target.url), "rev-parse", f"refs/heads/{BRANCH}")


def test_a_branch_is_made_moved_forward_and_left_alone(target: PushTarget):
    first = git(target.checkout, "rev-parse", "HEAD")
    assert push_branch(target, first)
    assert not push_branch(target, first)
    second = commit(target.checkout, "second")
    assert push_branch(target, second)
    assert there(target) == second


def test_a_commit_of_somebody_else_stays_whether_it_is_known_here_or_not(target: PushTarget, tmp_path: Path):
    push_branch(target, git(target.checkout, "rev-parse", "HEAD"))
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", "-b", BRANCH, target.url, str(other))
    theirs = commit(other, "theirs")
    git(other, "push", "-q", target.url, f"HEAD:{BRANCH}")
    ours = commit(target.checkout, "ours")
    with pytest.raises(Conflict) as refused:
        push_branch(target, ours)
    fetch, adopt = refused.value.hint.removeprefix("fetch and adopt it: ").split("; ")
    assert adopt == f"coord plan adopt P r {BRANCH}-theirs"
    subprocess.run(shlex.split(fetch), check=True, capture_output=True)
    assert git(target.checkout, "rev-parse", f"{BRANCH}-theirs") == theirs
    with pytest.raises(Conflict):
        push_branch(target, ours)
    assert there(target) == theirs


def test_a_rewritten_tip_replaces_only_what_this_checkout_pushed(target: PushTarget, tmp_path: Path):
    base = git(target.checkout, "rev-parse", "HEAD")
    first = commit(target.checkout, "taken back later")
    push_branch(target, first)
    git(target.checkout, "reset", "-q", "--hard", base)
    again = commit(target.checkout, "again")
    with pytest.raises(Conflict):
        push_branch(target, again)  # Redis has lost the record of the request
    assert there(target) == first
    assert push_branch(replace(target, recorded=first), again)
    assert there(target) == again

    git(target.checkout, "update-ref", f"refs/coord/discarded/P/{again[:12]}", again)
    git(target.checkout, "reset", "-q", "--hard", base)
    anew = commit(target.checkout, "after a discard")
    assert push_branch(target, anew)
    assert there(target) == anew

    git(target.checkout, "update-ref", "-d", target.pushed_ref)
    git(target.checkout, "reset", "-q", "--hard", base)
    with pytest.raises(Conflict):
        push_branch(target, commit(target.checkout, "from a checkout that did not push it"))


def test_a_remote_that_runs_a_command_or_is_not_there_is_refused(target: PushTarget, tmp_path: Path):
    tip = git(target.checkout, "rev-parse", "HEAD")
    for url in (f"ext::sh -c touch% {tmp_path}/run", str(tmp_path / "none"), "--upload-pack=x"):
        with pytest.raises(GitRefused):
            push_branch(replace(target, url=url), tip)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("refused", [False, True])
def test_files_of_git_lfs_are_uploaded_before_a_push_or_nothing_is_pushed(
    target: PushTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
):
    base = git(target.checkout, "rev-parse", "main")
    git(target.checkout, "push", "-q", "--no-verify", target.url, "main")
    called = fake_git_lfs(tmp_path, monkeypatch, says="it cannot" if refused else "")
    push_branch(target, commit(target.checkout, "without large files"))
    assert not called.exists()

    (target.checkout / "large").write_text(POINTER)
    git(target.checkout, "add", "large")
    before, tip = there(target), commit(target.checkout, "a large file")
    if refused:
        with pytest.raises(GitRefused, match="it cannot"):
            push_branch(target, tip)
    else:
        assert push_branch(target, tip)
    assert there(target) == (before if refused else tip)
    url, ref = f"file://{target.url}", target.ref
    assert called.read_text().splitlines() == [f"pre-push {url} {url}", f"{ref} {tip} {ref} {base}"]
