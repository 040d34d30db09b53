"""A run's worktree against real git: what an attempt finds, what becomes of its changes, and that the
checkout stays as it is.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from subprocess import CalledProcessError

import pytest

from coordination.errors import GitRefused
from tests.worktrees import ANN, SOON, Run, git, save
from workers.process.trouble import GitInterrupted
from workers.workspace.commit import CommitRefused
from workers.workspace.repository import tip


def test_a_todos_changes_become_one_commit_with_trailers_on_the_runs_branch(run: Run, checkout: Path):
    base = run.enter()
    run.write("one = 2\n")
    run.write("two = 2\n", "new.py")

    new = run.tree.commit("TODO-001", "Raise the\nminimum Python")
    run.tree.leave()

    assert git("rev-parse", f"{new}^", cwd=checkout) == base == git("rev-parse", "main", cwd=checkout)
    assert git("rev-parse", "coord/r1", cwd=checkout) == new
    assert git("log", "-1", "--format=%s", new, cwd=checkout) == "TODO-001: Raise the minimum Python"
    body = git("log", "-1", "--format=%B", new, cwd=checkout)
    trailers = git("interpret-trailers", "--parse", cwd=checkout, stdin=body)
    assert trailers.splitlines() == ["Coord-Run: r1", "Coord-Todo: TODO-001", "Coord-Fence: 1"]
    assert git("show", "--format=", "--name-only", new, cwd=checkout).splitlines() == ["code.py", "new.py"]
    assert git("status", "--porcelain", cwd=run.tree.path) == ""


def test_a_todo_that_changes_nothing_makes_no_commit(run: Run):
    base = run.enter()

    assert run.tree.commit("T", "look around") == base
    assert run.log() == ["first"]


def test_commits_of_the_todo_itself_are_kept_and_other_changes_are_committed_on_top(run: Run):
    run.enter()
    run.write("one = 3\n")
    save(run.tree.path, "by the todo itself")
    own = run.tree.commit("T", "all committed")
    assert run.log() == ["by the todo itself", "first"]
    run.write("one = 4\n")

    new = run.tree.commit("T", "something left")

    assert run.log() == ["T: something left", "by the todo itself", "first"]
    assert git("rev-parse", f"{new}^", cwd=run.tree.path) == own


@pytest.mark.parametrize(
    "switch", [["switch", "--quiet", "--detach"], ["switch", "--quiet", "-c", "feature"]]
)
def test_commits_that_a_todo_made_beside_the_branch_are_brought_to_it(run: Run, switch: list[str]):
    run.enter()
    git(*switch, cwd=run.tree.path)
    run.write("beside\n")
    save(run.tree.path, "beside the branch")
    run.write("more\n", "more.py")

    new = run.tree.commit("T", "rest")
    run.tree.leave()

    assert run.log() == ["T: rest", "beside the branch", "first"]
    run.enter(tip=new)
    assert git("symbolic-ref", "HEAD", cwd=run.tree.path) == "refs/heads/coord/r1"
    assert git("status", "--porcelain", cwd=run.tree.path) == ""


def test_an_attempt_begins_clean_at_the_recorded_tip_and_a_commit_whose_settle_was_lost_is_dropped(run: Run):
    base = run.enter()
    run.write("lost\n")
    lost = run.tree.commit("T", "settle gets lost")
    run.write("rubbish", "rubbish")
    run.write("ignored files stay: they are caches", "kept.cache")
    git("init", "--quiet", "cloned", cwd=run.tree.path)
    run.tree.leave()

    assert run.enter(tip=base) == base

    assert git("rev-parse", "coord/r1", cwd=run.tree.path) == base != lost
    assert sorted(p.name for p in run.tree.path.iterdir()) == [".git", ".gitignore", "code.py", "kept.cache"]
    assert (run.tree.path / "code.py").read_text() == "one = 1\n"


def test_every_attempt_before_the_first_success_begins_where_the_run_began(run: Run, checkout: Path):
    base = run.enter()
    run.tree.leave()
    (checkout / "code.py").write_text("main goes on\n")
    save(checkout, "second")

    assert run.enter() == base


def test_a_merge_and_a_rebase_in_progress_are_set_back(run: Run, checkout: Path):
    git("switch", "--quiet", "-c", "other", cwd=checkout)
    (checkout / "code.py").write_text("other\n")
    save(checkout, "other")
    git("switch", "--quiet", "main", cwd=checkout)
    base = run.enter()
    run.write("ours\n")
    save(run.tree.path, "ours")
    with pytest.raises(CalledProcessError):
        git("rebase", "other", cwd=run.tree.path, settings=ANN)
    with pytest.raises(GitRefused, match=r"left a merge with conflicts in code\.py"):
        run.tree.commit("T", "half a rebase")
    (Path(git("rev-parse", "--absolute-git-dir", cwd=run.tree.path)) / "index.lock").touch()
    run.tree.leave()

    run.enter(tip=base)

    assert "rebase" not in git("status", cwd=run.tree.path)
    assert git("status", "--porcelain", cwd=run.tree.path) == ""


def test_a_merge_that_was_prepared_but_not_committed_keeps_both_parents(run: Run, checkout: Path):
    git("switch", "--quiet", "-c", "other", cwd=checkout)
    (checkout / "other.py").write_text("other\n")
    other = save(checkout, "other")
    git("switch", "--quiet", "main", cwd=checkout)
    base = run.enter()
    git("merge", "--no-ff", "--no-commit", "--quiet", "other", cwd=run.tree.path, settings=ANN)

    new = run.tree.commit("T", "merge other")

    assert git("log", "-1", "--format=%P", new, cwd=checkout).split() == [base, other]
    assert git("status", "--porcelain", cwd=run.tree.path) == ""


def test_a_history_that_the_todo_rewrote_is_refused(run: Run):
    run.enter()
    run.write("rewritten\n")
    amend = ("commit", "--quiet", "--all", "--amend", "-m", "rewritten")
    git(*amend, cwd=run.tree.path, settings=ANN)

    with pytest.raises(GitRefused, match="history was rewritten") as refused:
        run.tree.commit("T", "amend")
    assert "revert" in refused.value.hint


def test_the_branch_moves_only_from_where_it_was_seen(run: Run, checkout: Path):
    base = run.enter()
    side = git("commit-tree", "-p", base, "-m", "side", f"{base}^{{tree}}", cwd=checkout, settings=ANN)
    hook = checkout / ".git" / "hooks" / "commit-msg"  # between git's look at the branch and its move
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ngit update-ref refs/heads/coord/r1 {side}\n")
    hook.chmod(0o755)
    run.write("one = 2\n")

    with pytest.raises(CommitRefused, match=f"from {base[:12]} to {side[:12]}"):
        run.tree.commit("T", "work")

    assert git("rev-parse", "coord/r1", cwd=checkout) == side


def test_a_branch_that_git_cannot_move_is_a_refusal_and_no_newer_attempt(run: Run):
    run.enter()
    for words in (
        "checkout --quiet --detach",
        "branch --quiet -D coord/r1",
        "branch --quiet coord/r1/in-the-way",
    ):
        git(*words.split(), cwd=run.tree.path)
    run.write("one = 2\n")

    with pytest.raises(GitRefused, match="coord/r1/in-the-way"):
        run.tree.commit("T", "work")


def test_odd_files_are_committed_and_do_not_crash(run: Run):
    run.enter()
    tree = run.tree.path
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "link").symlink_to("/nowhere/at/all")
    (tree / "spaced name é\t.txt").write_text("x")
    Path(os.fsdecode(os.fsencode(str(tree)) + b"/not-utf8-\xff")).write_text("x")
    (tree / "big.bin").write_bytes(os.urandom(1024) * 5000)
    os.mkfifo(tree / "pipe")
    (tree / ".gitignore").unlink()

    new = run.tree.commit("T", "odd files")

    listed = git("ls-tree", "-r", "-z", new, cwd=tree).split("\0")
    modes = {line.partition("\t")[2]: line.split()[0] for line in listed if line}
    assert modes["run.sh"] == "100755"
    assert modes["link"] == "120000"
    assert sorted(modes) == sorted(
        ["big.bin", "code.py", "link", "not-utf8-\udcff", "run.sh", "spaced name é\t.txt"]
    )


def test_a_changed_submodule_is_committed(run: Run, tmp_path: Path):
    library = tmp_path / "library"
    git("init", "--quiet", str(library), cwd=tmp_path)
    (library / "lib.py").write_text("x")
    save(library, "library")
    run.enter()
    add = ("submodule", "--quiet", "add", str(library), "vendored")
    git(*add, cwd=run.tree.path, settings=("protocol.file.allow=always",))

    new = run.tree.commit("T", "vendor the library")
    run.tree.leave()

    assert git("ls-tree", new, "vendored", cwd=run.tree.path).startswith("160000 commit")
    run.enter(tip=new)
    run.tree.leave()
    run.tree.remove(SOON)


def test_hooks_of_a_checkout_do_not_run_for_our_worktree_without_an_author(run: Run, checkout: Path):
    hook = checkout / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    git("config", "--global", "user.useConfigOnly", "true", cwd=checkout)
    run.enter()
    run.write("x")

    run.tree.commit("T", "by nobody")

    assert run.log("%an <%ae> %cn")[0] == "coord <coord@localhost> coord"


def test_redirecting_variables_have_no_effect(
    run: Run, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    git("init", "--quiet", str(tmp_path / "elsewhere"), cwd=tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "elsewhere" / "index"))

    base = run.enter()

    assert base == tip("widgets", checkout, "main")
    assert (run.tree.path / "code.py").exists()


DAMAGES = {
    "folder deleted": "rm -rf {tree}",
    "folder deleted, HEAD detached": "git -C {tree} checkout -q --detach && rm -rf {tree}",
    "git file deleted": "rm {tree}/.git",
    "index broken": "echo rubbish > {entry}/index",
    "index cut": "head -c 10 {entry}/index > {entry}/cut && mv {entry}/cut {entry}/index",
    "index a folder": "rm {entry}/index && mkdir {entry}/index",
    "lock of the index": ": > {entry}/index.lock",
    "lock of the index a folder": "mkdir {entry}/index.lock",
    "HEAD broken": "echo rubbish > {entry}/HEAD",
    "commondir elsewhere": "echo ../../nowhere > {entry}/commondir",
    "gitdir elsewhere": "echo /nowhere/.git > {entry}/gitdir",
    "no log": "rm -rf {entry}/logs && : > {entry}/logs",
    "entry deleted": "rm -rf {entry}",
    "emptied": "rm -rf {tree} && mkdir {tree}",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_worktree_that_was_damaged_is_made_anew(run: Run, damage: str):
    new = run.work("kept\n")
    entry = Path(git("rev-parse", "--absolute-git-dir", cwd=run.tree.path))
    command = DAMAGES[damage].format(tree=run.tree.path, entry=entry)
    subprocess.run(["sh", "-c", command], check=True)

    run.enter(tip=new)

    assert (run.tree.path / "code.py").read_text() == "kept\n"
    assert git("status", "--porcelain", "--branch", cwd=run.tree.path) == "## coord/r1"


@pytest.mark.parametrize("damage", [name for name in DAMAGES if "detached" not in name])
def test_damage_during_an_attempt_interrupts_it_at_most(run: Run, damage: str):
    new = run.work("kept\n")
    entry = Path(git("rev-parse", "--absolute-git-dir", cwd=run.tree.path))
    run.enter(tip=new)
    run.write("lost\n")
    command = DAMAGES[damage].format(tree=run.tree.path, entry=entry)
    subprocess.run(["sh", "-c", command], check=True)

    with suppress(GitInterrupted):
        run.tree.commit("T", "work")
        assert damage.startswith(("lock", "no log")), "this damage loses no files"
    run.tree.leave()

    run.enter(tip=new)
    run.write("made again\n")
    assert run.tree.commit("T", "work") != new


def test_files_that_prepare_left_are_neither_removed_nor_committed(tmp_path: Path, checkout: Path):
    (checkout / "personal").write_text("*.mine\n")
    git("config", "core.excludesFile", str(checkout / "personal"), cwd=checkout)
    run = Run(tmp_path, checkout, prepare="make venv")
    base = run.enter()
    assert run.tree.needs_prepare
    (run.tree.path / ".venv").mkdir()
    (run.tree.path / ".venv" / "made").write_text("by prepare")
    run.write("by prepare", "od[d] name")
    run.write("prepare has no business here")

    run.tree.mark_prepared()

    assert not run.tree.needs_prepare
    run.write("by the todo", "new.py")
    run.write("excluded by the user's own file", "notes.mine")
    own = subprocess.run(
        ["git", "status", "--porcelain"],
        cwd=run.tree.path,
        env=os.environ | run.tree.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert own.stdout == "?? new.py\n"
    new = run.tree.commit("T", "new file")
    assert git("diff", "--name-only", base, new, cwd=checkout) == "new.py"
    run.tree.leave()
    run.enter(tip=base)
    assert (run.tree.path / ".venv" / "made").exists()
    assert not run.tree.needs_prepare
    run.tree.leave()


def test_a_worktree_that_is_made_anew_is_prepared_anew(tmp_path: Path, checkout: Path):
    run = Run(tmp_path, checkout, prepare="make venv")
    run.enter()
    run.tree.mark_prepared()
    run.tree.leave()
    subprocess.run(["rm", "-rf", str(run.tree.path)], check=True)

    run.enter()

    assert run.tree.needs_prepare
    run.tree.leave()


def test_an_ended_run_leaves_its_branch_and_nothing_else(run: Run, checkout: Path, tmp_path: Path):
    run.enter()
    run.write("x")
    new = run.tree.commit("T", "work")
    (run.tree.path / "read-only").mkdir()
    (run.tree.path / "read-only" / "module").write_text("as in Go's cache")
    (run.tree.path / "read-only").chmod(0o500)
    run.tree.leave()

    run.tree.remove(SOON)

    assert git("rev-parse", "coord/r1", cwd=checkout) == new
    assert git("worktree", "list", cwd=checkout).count("\n") == 0
    assert list((tmp_path / "state" / "worktrees").iterdir()) == []
    assert list((tmp_path / "state" / "workspaces").iterdir()) == []


def test_a_commit_whose_settle_was_refused_is_taken_back(run: Run, checkout: Path):
    base = run.enter()
    run.write("x")
    run.tree.commit("T", "work")
    run.tree.leave()

    run.tree.take_back(run.claimant, None)

    assert git("rev-parse", "coord/r1", cwd=checkout) == base
