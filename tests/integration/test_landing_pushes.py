"""The conformance suite of pushes to a base branch: at a remote by http or path, and in a checkout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.git_server import GitServer
from tests.landing_checkout import LandingCheckout
from tests.worktrees import ANN, git, save
from workers.landing.local import look_local, push_local
from workers.landing.records import BaseBranch, BaseTip, Pushed, Reason, Refused
from workers.landing.remote import look, push

REMOTES = ("http", "path")


class Target:
    """A change set, and the base branch to push it to."""

    def __init__(self, kind: str, landing: LandingCheckout, server: GitServer) -> None:
        self.landing, self.is_local = landing, kind == "checkout"
        self.place = landing.path if self.is_local else server.path("api")
        self.git_dir = self.place / ".git" if self.is_local else self.place
        urls = {"http": server.url("api"), "path": str(self.place), "checkout": ""}
        self.at: BaseBranch = landing.at_url(urls[kind])

    def look(self) -> BaseTip | Refused:
        return look_local(self.at) if self.is_local else look(self.at)

    def push(self, commit: str, base: str) -> Pushed | Refused:
        if self.is_local:
            return push_local(self.at, commit, base, self.landing.scripts)
        return push(self.at, commit, base)

    @property
    def tip(self) -> str:
        return git("rev-parse", "main", cwd=self.place)

    def somebody_commits(self) -> str:
        if self.is_local:
            return save(self.place, "theirs", theirs="1\n")
        clone = self.place.parent / "theirs"
        git("clone", "-q", str(self.place), str(clone), cwd=self.place.parent)
        commit = save(clone, "theirs", theirs="1\n")
        git("push", "-q", "origin", "HEAD:main", cwd=clone)
        return commit


@pytest.fixture(params=[*REMOTES, "checkout"])
def target(request: pytest.FixtureRequest, checkout: Path, tmp_path: Path) -> Iterator[Target]:
    landing = LandingCheckout(checkout)
    with GitServer(tmp_path / "remotes") as server:
        server.create("api", seed=checkout)
        yield Target(request.param, landing, server)


def refusal(found: object) -> Refused:
    assert isinstance(found, Refused), found
    assert found.error.isprintable()
    assert len(found.error) <= 1000
    return found


def test_a_push_lands_and_a_second_one_finds_it_there_also_if_somebody_has_built_on_it(target: Target):
    made = target.landing.made(target.landing.since)

    assert target.push(made.commit, made.base) == Pushed(base=made.commit)
    assert target.push(made.commit, made.base) == Pushed(base=made.commit, already=True)
    assert target.tip == made.commit
    theirs = target.somebody_commits()
    assert target.push(made.commit, made.base) == Pushed(base=theirs, already=True)


def test_a_base_that_moved_is_named_and_stays(target: Target):
    made = target.landing.made(target.landing.since)
    theirs = target.somebody_commits()
    found = refusal(target.push(made.commit, made.base))

    assert (found.reason, found.base, found.lasting) == (Reason.MOVED, theirs, False)
    assert target.tip == theirs
    seen = target.look()
    assert isinstance(seen, BaseTip)
    assert seen.commit == theirs
    again = target.landing.made(theirs)
    assert isinstance(target.push(again.commit, theirs), Pushed)


@pytest.mark.parametrize("lie", ["none", "replace", "graft", "commit-graph"])
def test_a_commit_that_does_not_contain_the_base_never_lands(target: Target, lie: str):
    path, since = target.landing.path, target.landing.since
    tree = f"{target.landing.tip}^{{tree}}"
    new = git("commit-tree", "-m", "rewind", "-p", f"{since}^", tree, cwd=path, settings=ANN)
    if lie == "replace":
        git("replace", "--graft", new, since, cwd=path)
    elif lie == "graft":
        (path / ".git/info/grafts").write_text(f"{new} {since}\n")
    elif lie == "commit-graph":  # it is written from what a replaced commit says
        (path / ".git/info/grafts").write_text(f"{new} {since}\n")
        git("branch", "lie", new, cwd=path)
        git("commit-graph", "write", "--reachable", cwd=path)
        (path / ".git/info/grafts").unlink()

    assert refusal(target.push(new, since)).reason is Reason.REWRITTEN
    assert target.tip == since


def test_a_hook_that_refuses_is_quoted_plainly_and_then_goes(target: Target):
    made, hook = target.landing.made(target.landing.since), target.git_dir / "hooks" / "pre-receive"
    lines = r"printf '\033[2J\033]0;title\007no: \342\200\256frozen\nfatal: unable to access: error: 503\n'"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{lines} >&2; exit 1\n")
    hook.chmod(0o755)
    found = refusal(target.push(made.commit, made.base))

    assert (found.reason, found.lasting) == (Reason.DECLINED, True)
    assert "hook declined" in found.error
    assert "frozen" in found.error
    assert target.tip == target.landing.since
    assert not target.is_local or git("status", "--porcelain", cwd=target.place) == ""
    hook.unlink()
    assert target.push(made.commit, made.base) == Pushed(base=made.commit)


def test_a_branch_that_was_deleted_meanwhile_is_not_made_again(target: Target):
    made = target.landing.made(target.landing.since)
    if target.is_local:
        git("switch", "--quiet", "--detach", cwd=target.place)
    git("update-ref", "-d", "refs/heads/main", cwd=target.place)

    refusal(target.push(made.commit, made.base))
    assert refusal(target.look()).reason is Reason.NO_BRANCH
    assert git("for-each-ref", "refs/heads/main", cwd=target.place) == ""


def test_a_base_branch_that_was_renamed_is_named_with_the_line_to_change(target: Target):
    if target.is_local:
        pytest.skip("a checkout has no default branch")
    git("branch", "-m", "main", "trunk", cwd=target.place)
    git("symbolic-ref", "HEAD", "refs/heads/trunk", cwd=target.place)
    found = refusal(target.look())
    assert found.reason is Reason.NO_BRANCH
    assert "branch: trunk" in found.error


def test_a_locked_branch_is_tried_again(target: Target):
    made = target.landing.made(target.landing.since)
    lock = target.git_dir / "refs/heads/main.lock"
    lock.touch()
    assert refusal(target.push(made.commit, made.base)).reason is Reason.BUSY
    lock.unlink()

    assert target.push(made.commit, made.base) == Pushed(base=made.commit)
