"""A base branch in a checkout of this machine: a clean one follows, and nothing of a person is ever lost.

The suite of all pushes is in test_landing_pushes.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attempts import SCRATCH
from tests.landing_checkout import LandingCheckout
from tests.testbed import FORKS
from tests.waiting import until
from tests.worktrees import ANN, git, save
from workers.landing.local import look_local, push_local
from workers.landing.records import BaseTip, Prepared, Pushed, Reason, Refused


@pytest.fixture
def landing(checkout: Path) -> LandingCheckout:
    return LandingCheckout(checkout)


def status(path: Path) -> str:
    return git("status", "--porcelain", "--ignored", cwd=path)


def test_a_clean_checkout_follows_twice_in_a_row(landing: LandingCheckout):
    config = (landing.path / ".git/config").read_text()
    first = landing.made(landing.since)
    assert look_local(landing.at) == BaseTip(commit=landing.since, checkout=landing.path)
    assert push_local(landing.at, first.commit, first.base, landing.scripts) == Pushed(base=first.commit)
    assert push_local(landing.at, first.commit, first.base, landing.scripts) == Pushed(
        base=first.commit, already=True
    )
    assert (landing.path / "new").read_text() == "new\nnewer\n"
    assert not (landing.path / "old").exists()

    git("switch", "--quiet", "coord/PLAN", cwd=landing.path)
    tip = save(landing.path, "more", more="1")
    git("switch", "--quiet", "main", cwd=landing.path)
    second = landing.made(first.commit, tip=tip)
    assert push_local(landing.at, second.commit, second.base, landing.scripts) == Pushed(base=second.commit)
    assert landing.tip_of("HEAD") == second.commit
    assert status(landing.path) == ""
    assert (landing.path / ".git/config").read_text() == config


def dirty(landing: LandingCheckout, how: str) -> str:
    """Make the checkout dirty; return the file that the refusal names."""
    path = landing.path
    file = {
        "unstaged": "code.py",
        "staged": "old",
        "hidden": "text",
        "skipped": "text",
        "ignored folder": "new/x",
    }.get(how, "new")
    if how == "ignored":
        (path / ".git/info/exclude").write_text("new\n")
    elif how == "ignored folder":
        (path / ".git/info/exclude").write_text("x\n")
        (path / "new").mkdir()
    elif how == "link":
        (path / "new").symlink_to("code.py")
        return file
    elif how in ("hidden", "skipped"):
        flag = "--assume-unchanged" if how == "hidden" else "--skip-worktree"
        git("update-index", flag, "text", cwd=path)
    (path / file).write_text("mine\n")
    if how == "staged":
        git("add", "old", cwd=path)
    return file


@pytest.mark.parametrize(
    "how", ["unstaged", "staged", "untracked", "ignored", "ignored folder", "link", "hidden", "skipped"]
)
def test_a_dirty_checkout_is_refused_by_name_and_nothing_moves(landing: LandingCheckout, how: str):
    made, file = landing.made(landing.since), dirty(landing, how)
    before = status(landing.path), git("for-each-ref", cwd=landing.path)
    found = push_local(landing.at, made.commit, made.base, landing.scripts)

    assert isinstance(found, Refused)
    assert (found.reason, found.lasting) == (Reason.DIRTY, False)
    assert file in found.error
    assert str(landing.path) in found.error
    assert (status(landing.path), git("for-each-ref", cwd=landing.path)) == before
    assert how == "link" or (landing.path / file).read_text() == "mine\n"


def test_untracked_files_elsewhere_do_not_hinder(landing: LandingCheckout):
    made = landing.made(landing.since)
    (landing.path / "notes").write_text("mine\n")

    assert isinstance(push_local(landing.at, made.commit, made.base, landing.scripts), Pushed)
    assert (landing.path / "notes").read_text() == "mine\n"


@pytest.mark.parametrize("how", ["detached", "another branch", "bare", "in a worktree"])
def test_a_branch_moves_wherever_it_is_checked_out_or_not(landing: LandingCheckout, tmp_path: Path, how: str):
    at = landing.at
    if how == "bare":
        at = landing.at_url("", path=tmp_path / "bare.git")
        git("clone", "-q", "--bare", str(landing.path), str(at.path), cwd=tmp_path)
    elif how != "worktree":
        git(
            "switch", "--quiet", *(("-c", "other") if how == "another branch" else ("--detach",)), cwd=at.path
        )
    if how == "in a worktree":
        git("worktree", "add", "-q", str(tmp_path / "w"), "main", cwd=at.path)
    (landing.path / "code.py").write_text("dirty elsewhere\n")
    made = landing.made(landing.since)
    if how == "bare":
        git("fetch", "-q", str(landing.path), made.commit, cwd=at.path)

    assert push_local(at, made.commit, made.base, landing.scripts) == Pushed(base=made.commit)
    assert git("rev-parse", "main", cwd=at.path) == made.commit
    assert (landing.path / "code.py").read_text() == "dirty elsewhere\n"
    if how == "in a worktree":
        assert status(tmp_path / "w") == ""
        assert (tmp_path / "w/new").exists()


PROGRAMS = {
    "update": "",
    "post-receive": "",
    "reference-transaction": "",
    "push-to-checkout": 'git read-tree -u -m HEAD "$1"',
    "smudge": "cat",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_the_checkout_that_makes_a_scratch_repository_touches_no_other(
    landing: LandingCheckout, tmp_path: Path, name: str
):
    made, seen = landing.made(landing.since), tmp_path / "seen"
    program = tmp_path / "program"
    redirecting = f'env | grep -E "^GIT_(DIR|WORK_TREE|INDEX_FILE|CONFIG_PARAMETERS)=" >> {seen}'
    program.write_text(f"#!/bin/sh\n{redirecting}\n({SCRATCH}) >&2\n{PROGRAMS[name]}\n")
    program.chmod(0o755)
    if name == "smudge":
        git("config", "filter.own.smudge", str(program), cwd=landing.path)
        (landing.path / ".git/info/attributes").write_text("new filter=own\n")
    else:
        (landing.path / ".git/hooks").mkdir(exist_ok=True)
        (landing.path / ".git/hooks" / name).symlink_to(program)
    config = (landing.path / ".git/config").read_text()

    pushed = push_local(landing.at, made.commit, made.base, landing.scripts)

    assert pushed == Pushed(base=made.commit)
    assert (seen.read_text(), (landing.path / ".git/config").read_text()) == ("", config)
    assert landing.tip_of("main") == made.commit
    assert status(landing.path) == ""


def test_a_setting_that_a_hook_changes_which_then_refuses_is_put_back_and_named(landing: LandingCheckout):
    """Of a hook that does not refuse, the log of the todo names it: test_land_todo.py."""
    git("branch", "other", "main~1", cwd=landing.path)
    made, hook = landing.made(landing.since), landing.path / ".git/hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ngit config core.bare true\ngit branch -q -D other >&2\nexit 1\n")
    hook.chmod(0o755)

    found = push_local(landing.at, made.commit, made.base, landing.scripts)

    assert isinstance(found, Refused)
    assert "core.bare" in found.error
    assert "refs/heads/other" in found.error
    assert status(landing.path) == ""


@pytest.mark.parametrize("operation", ["merge", "rebase", "cherry-pick"])
def test_an_operation_of_a_person_is_left_alone(landing: LandingCheckout, operation: str):
    save(landing.path, "mine", text="mine\n")
    base = landing.tip_of("main")
    tree = f"{landing.tip}^{{tree}}"
    tip = git("commit-tree", "-m", "x", "-p", base, tree, cwd=landing.path, settings=ANN)
    made = landing.made(base, tip=tip, since=base)
    subprocess.run(["git", *("-c", "user.name=A", "-c", "user.email=a@b"), operation, "coord/PLAN~1"],
        cwd=landing.path, capture_output=True, check=False)  # fmt: skip
    for found in (look_local(landing.at), push_local(landing.at, made.commit, base, landing.scripts)):
        assert isinstance(found, Refused)
        assert found.reason is Reason.OPERATION
    git(operation, "--abort", cwd=landing.path)

    assert isinstance(push_local(landing.at, made.commit, base, landing.scripts), Pushed)


def test_a_branch_that_two_worktrees_have_checked_out_stays(landing: LandingCheckout, tmp_path: Path):
    """git changes the files of one: a commit in the other one would take the landed work out again."""
    made = landing.made(landing.since)
    git("worktree", "add", "-q", "--force", str(tmp_path / "w"), "main", cwd=landing.path)
    for found in (look_local(landing.at), push_local(landing.at, made.commit, made.base, landing.scripts)):
        assert isinstance(found, Refused)
        assert found.reason is Reason.OPERATION
        assert str(tmp_path / "w") in found.error
    assert landing.tip_of("main") == landing.since


def test_a_landing_that_was_cut_off_between_files_and_branch_is_completed(landing: LandingCheckout):
    made = landing.made(landing.since)
    git("read-tree", "-u", "-m", "HEAD", made.commit, cwd=landing.path)
    assert isinstance(look_local(landing.at), Refused)
    assert look_local(landing.at, pending=made.commit) == BaseTip(commit=landing.since, checkout=landing.path)

    assert push_local(landing.at, made.commit, made.base, landing.scripts) == Pushed(base=made.commit)
    assert status(landing.path) == ""


LANDS = """
import sys
from pathlib import Path
from workers.landing.local import push_local
from workers.landing.records import BaseBranch
path, commit, base, scripts = sys.argv[1:]
push_local(BaseBranch(repo="widgets", path=Path(path), branch="main"), commit, base, Path(scripts))
"""
STOPS = """#!/bin/sh
case "$*" in *"{command}"*) touch {folder}/there; while [ ! -e {folder}/go ]; do sleep 0.02; done;; esac
exec {git} "$@"
"""
WRITES_FILES = "(writes files)"


@pytest.fixture
def worker(landing: LandingCheckout, tmp_path: Path) -> Iterator[Callable[[str], Prepared]]:
    """Land in a process that is killed as soon as its git comes to a command, or writes the file `new`.

    That git goes on when there is a file `go`.
    """
    folder = tmp_path / "bin"
    folder.mkdir()

    def land(command: str) -> Prepared:
        made = landing.made(landing.since)
        (folder / "git").write_text(STOPS.format(git=shutil.which("git"), command=command, folder=folder))
        (folder / "smudge").write_text(STOPS.format(git="cat", command="", folder=folder))
        for file in folder.iterdir():
            file.chmod(0o755)
        if command == WRITES_FILES:
            git("config", "filter.slow.smudge", f"{folder}/smudge", cwd=landing.path)
            (landing.path / ".git/info/attributes").write_text("new filter=slow\n")
        env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        words = [sys.executable, "-c", LANDS, str(landing.path), made.commit, made.base, str(landing.scripts)]
        process = FORKS.piped(words, env=env)
        until((folder / "there").exists)
        process.kill()
        process.wait()
        return made

    yield land
    (folder / "go").touch()


@pytest.mark.parametrize("command", ["push", "receive-pack", "status"])
def test_a_worker_that_is_killed_before_it_moves_anything_is_followed_by_one_that_lands(
    landing: LandingCheckout, tmp_path: Path, worker: Callable[[str], Prepared], command: str
):
    made = worker(command)

    assert isinstance(push_local(landing.at, made.commit, made.base, landing.scripts), Pushed)
    (tmp_path / "bin/go").touch()
    assert landing.tip_of("main") == made.commit
    assert status(landing.path) == ""


def test_a_git_that_still_writes_files_for_a_killed_worker_is_waited_for(
    landing: LandingCheckout, tmp_path: Path, worker: Callable[[str], Prepared]
):
    made = worker(WRITES_FILES)
    found = push_local(landing.at, made.commit, made.base, landing.scripts)
    assert isinstance(found, Refused)
    assert not found.lasting
    assert landing.tip_of("main") == landing.since
    (tmp_path / "bin/go").touch()
    until(lambda: landing.tip_of("main") == made.commit)

    assert push_local(landing.at, made.commit, made.base, landing.scripts) == Pushed(
        base=made.commit, already=True
    )
    assert status(landing.path) == ""
