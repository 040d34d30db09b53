"""Code of the repository that runs inside coord's git works, and cannot change what worktrees share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from coordination.git import ask_git
from tests.attempts import SCRATCH, Bench
from tests.testbed import git
from workers.outcome import OutcomeKind

EDITS = "echo two >> code; echo new > new"
MORE = 'git -c user.name=t -c user.email=t@x commit-tree -m more -p HEAD "HEAD^{tree}"'
"""A commit on top, which is in no ref."""
BOUNDED = {"kind": "bubblewrap"}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "home").mkdir()
    made = Bench(tmp_path)
    made.make_repository()
    return made


def settings(bench: Bench) -> str:
    return (bench.checkout / ".git" / "config").read_text()


@pytest.mark.parametrize("sandbox", [None, BOUNDED], ids=["free", "confined"])
@pytest.mark.parametrize("name", ["pre-commit", "commit-msg", "post-commit", "reference-transaction"])
def test_a_hook_that_makes_a_scratch_repository_touches_no_other(
    bench: Bench, name: str, sandbox: dict[str, str] | None
):
    seen = bench.tree / "seen.cache"
    git(bench.checkout, "config", "core.excludesFile", str(bench.folder / "excludes"))
    (bench.folder / "excludes").write_text("*.cache\n")
    bench.hook(name, f'env | grep -E "^GIT_(DIR|WORK_TREE|INDEX_FILE|CONFIG_PARAMETERS)=" >> {seen}', SCRATCH)
    before = settings(bench)

    done = bench.attempt(EDITS, **({"sandbox": sandbox} if sandbox else {}))

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert (settings(bench), seen.read_text()) == (before, "")
    assert git(bench.checkout, "rev-list", "--count", f"main..{done.tip}") == "1"
    assert git(bench.checkout, "ls-tree", "--name-only", done.tip).split() == ["code", "new"]


FILTERS = {
    "clean": (f"({SCRATCH}) >&2; sed s/one/1/", "sed s/1/one/"),
    "smudge": ("cat", f"({SCRATCH}) >&2; cat"),
}


@pytest.mark.parametrize("style", [{}, {"sandbox": BOUNDED}], ids=["free", "confined"])
@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_that_makes_a_scratch_repository_touches_no_other(bench: Bench, name: str, style: dict):
    clean, smudge = FILTERS[name]
    (bench.checkout / ".gitattributes").write_text("code filter=own\n")
    git(bench.checkout, "add", ".gitattributes")
    git(bench.checkout, "commit", "-q", "-m", "attributes")
    git(bench.checkout, "config", "filter.own.clean", f"pwd >> {bench.folder}/ran; {clean}")
    git(bench.checkout, "config", "filter.own.smudge", f"pwd >> {bench.folder}/ran; {smudge}")
    before = settings(bench)

    done = bench.attempt(EDITS, **style)

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert settings(bench) == before
    assert (bench.folder / "ran").exists()
    assert git(bench.checkout, "rev-list", "--count", f"main..{done.tip}") == "1"
    assert git(bench.checkout, "ls-tree", "--name-only", done.tip).split() == [
        ".gitattributes",
        "code",
        "new",
    ]


def test_a_filter_that_is_set_up_while_the_worker_runs_touches_no_other(bench: Bench):
    (bench.checkout / ".gitattributes").write_text("new filter=own\n")
    git(bench.checkout, "add", ".gitattributes")
    git(bench.checkout, "commit", "-q", "-m", "attributes")
    included, later = bench.folder / "included", bench.folder / "later"
    git(bench.checkout, "config", "include.path", str(included))
    git(bench.checkout, "config", "--file", str(later), "filter.own.clean", f"({SCRATCH}) >&2; cat")

    done = bench.attempt(f"{EDITS}; cp {later} {included}")

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert git(bench.checkout, "rev-list", "--count", f"main..{done.tip}") == "1"
    assert "user" not in settings(bench)


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="needs git-lfs")
def test_large_files_stay_pointers_in_commits_and_are_files_in_worktrees(bench: Bench):
    git(bench.checkout, "lfs", "install", "--local")
    git(bench.checkout, "lfs", "track", "*.bin")
    (bench.checkout / "old.bin").write_text("old\n" * 9)
    git(bench.checkout, "add", ".")
    git(bench.checkout, "commit", "-q", "-m", "large")

    done = bench.attempt("grep -c old old.bin; echo new > new.bin; git lfs ls-files")

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    for name in ("old.bin", "new.bin"):
        assert git(bench.checkout, "show", f"{done.tip}:{name}").startswith("version https://git-lfs"), name


def test_a_query_of_a_front_end_starts_no_hook_and_no_monitor(bench: Bench):
    ran = bench.folder / "ran"
    for name in ("reference-transaction", "post-checkout", "monitor"):
        bench.hook(name, f"echo {name} >> {ran}")
    git(bench.checkout, "config", "core.fsmonitor", ".git/hooks/monitor")

    ask_git(bench.checkout, "update-ref", "refs/coord/x", "HEAD")
    ask_git(bench.checkout, "worktree", "add", "--quiet", "--detach", str(bench.folder / "other"), "HEAD")

    assert ask_git(bench.checkout, "status", "--porcelain=v2", "--branch").startswith("# branch.oid")
    assert git(bench.folder / "other", "rev-parse", "refs/coord/x") == bench.standing("main")
    assert not ran.exists()


HARM = {
    "core.bare": "git config core.bare true",
    "core.worktree": 'git config core.worktree "$HOME"',
    "user.email": "git config user.email hook@x",
    "user.name": "git config --unset user.name",
}


@pytest.mark.parametrize("key", HARM)
def test_a_setting_that_a_hook_changes_fails_the_todo_and_is_put_back(bench: Bench, key: str):
    git(bench.checkout, "config", "user.name", "Ann")
    before = settings(bench)
    bench.hook("post-commit", HARM[key], "git config alias.kept status")

    done = bench.attempt(EDITS)

    assert done.kind is not OutcomeKind.SUCCEEDED
    assert key in done.error
    assert git(bench.checkout, "config", "alias.kept") == "status", "another key is left as it is"
    git(bench.checkout, "config", "--remove-section", "alias")
    assert settings(bench).split() == before.split()
    assert bench.standing() == bench.standing("main")


def test_a_todo_whose_own_commit_makes_the_checkout_bare_fails_and_it_is_put_back(bench: Bench):
    bench.hook("pre-commit", "git config core.bare true")

    done = bench.attempt("echo two >> code; git -c user.name=t -c user.email=t@x commit -q -a -m mine")

    assert done.kind is not OutcomeKind.SUCCEEDED
    assert "core.bare" in done.error
    assert git(bench.checkout, "status", "--porcelain") == ""


FAILS = {
    "command": ("git config core.bare true; exit 3", {}, ""),
    "prepare": ("true", {"prepare": "git config core.bare true; exit 3"}, ""),
    "hook": (EDITS, {}, "git config core.bare true; git config user.email hook@x; exit 3"),
}


@pytest.mark.parametrize("name", FAILS)
def test_a_failed_todo_keeps_its_error_and_a_setting_that_it_changed_is_put_back(bench: Bench, name: str):
    action, style, hook = FAILS[name]
    if hook:
        bench.hook("pre-commit", hook)
    before = settings(bench)

    done = bench.attempt(action, **style)

    assert done.kind is OutcomeKind.FAILED
    assert done.exit_code == (1 if hook else 3)
    assert settings(bench).split() == before.split()
    assert "core.bare" in bench.log


MOVES = (
    f"{MORE} | xargs git update-ref refs/heads/main",
    "git branch -q -D other",
    f"{MORE} | xargs git tag -f v1",
    "git switch -q -c elsewhere",
)


@pytest.mark.parametrize(
    ("hook", "command"),
    [
        *(("pre-commit", command) for command in (*MOVES, f"{MORE} | xargs git update-ref HEAD")),
        *(("post-commit", command) for command in MOVES),
    ],
)
def test_refs_that_a_hook_moves_fail_the_todo(bench: Bench, hook: str, command: str):
    git(bench.checkout, "branch", "other")
    git(bench.checkout, "tag", "v1")
    bench.hook(hook, command)

    assert bench.attempt(EDITS).kind is not OutcomeKind.SUCCEEDED, bench.log


def test_work_of_a_person_meanwhile_and_new_refs_fail_nothing(bench: Bench):
    git(bench.checkout, "branch", "other")
    person = (
        f"cd {bench.checkout}; git -c user.name=p -c user.email=p@x commit -q --allow-empty --no-verify -m p"
    )
    bench.hook("pre-commit", f"({person}); git tag by-hook; git config alias.x status; git branch by-hook")

    done = bench.attempt(EDITS)

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert bench.said("%s", "main") == "p"


def test_a_commit_of_paths_and_one_of_coord_give_their_hooks_the_right_index(bench: Bench):
    staged = bench.folder / "staged"
    bench.hook("pre-commit", f"git diff --cached --name-only | xargs >> {staged}")

    own = "git -c user.name=t -c user.email=t@x commit -q -m mine -- code"
    done = bench.attempt(f"{EDITS}; echo three > third; git add .; {own}")

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert staged.read_text().splitlines() == ["code", "new third"]


def test_hooks_of_the_folder_that_core_hookspath_names_run(bench: Bench):
    """husky's: a script that `prepare` makes finds its neighbours by its own path."""
    (bench.checkout / ".husky").mkdir()
    (bench.checkout / ".husky" / "pre-commit").write_text("echo from husky\n")
    git(bench.checkout, "add", ".husky")
    git(bench.checkout, "commit", "-q", "-m", "husky")
    git(bench.checkout, "config", "core.hooksPath", ".husky/_")
    prepare = (
        "mkdir .husky/_; echo '*' > .husky/_/.gitignore; echo '#!/bin/sh\n. \"$(dirname \"$0\")/h\"' > "
        '.husky/_/pre-commit; echo \'sh -e "$(dirname "$(dirname "$0")")/${0##*/}"\' > .husky/_/h; '
        "chmod +x .husky/_/pre-commit"
    )

    done = bench.attempt(EDITS, prepare=prepare)

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert "from husky" in bench.log


@pytest.mark.parametrize("sandbox", [None, BOUNDED], ids=["free", "confined"])
def test_hooks_that_the_worktree_lacks_are_named_in_the_log(bench: Bench, sandbox: dict[str, str] | None):
    git(bench.checkout, "config", "core.hooksPath", ".husky/_")

    done = bench.attempt(EDITS, **({"sandbox": sandbox} if sandbox else {}))

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert ".husky/_" in bench.log
    assert "prepare" in bench.log


def test_a_lock_of_git_that_another_process_holds_leaves_the_setting_and_names_it(bench: Bench):
    lock = bench.checkout / ".git" / "config.lock"
    bench.hook("post-commit", "git config core.bare true", f"touch {lock}")

    done = bench.attempt(EDITS)

    assert done.kind is not OutcomeKind.SUCCEEDED
    assert "core.bare" in done.error
    assert lock.exists()
    assert "bare = true" in settings(bench)
