"""Files of a todo that its commit would not contain: the todo fails if they would be lost, else it names
them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from coordination.runs.not_committed import LIMIT_CHARACTERS, NotCommittedReason, not_committed, read, written
from tests.attempts import Bench
from tests.testbed import git
from workers.outcome import AttemptOutcome, OutcomeKind

AS = "-c user.name=A -c user.email=a@b"
MADE = f"git init -q vendor/tmpl; cd vendor/tmpl; touch x; git add x; git {AS} commit -q -m x; cd ../.."
DEEP = """
import os
for _ in range(25):
    os.mkdir("d" * 200)
    os.chdir("d" * 200)
open("file", "w").close()
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.make_repository()
    (made.checkout / ".gitignore").write_text("ignored/\n*.cache\n")
    git(made.checkout, "add", ".gitignore")
    git(made.checkout, "commit", "-q", "-m", "ignore")
    return made


def told(outcome: AttemptOutcome) -> list[tuple[NotCommittedReason, tuple[str, ...]]]:
    return [(one.reason, one.paths) for one in outcome.not_committed]


@pytest.mark.parametrize(
    "command",
    [
        MADE,
        f"{MADE}; git add vendor/tmpl",
        f"{MADE}; git add vendor/tmpl; git {AS} commit -q -m mine",
        "git init -q vendor/tmpl; echo x > vendor/tmpl/x",
        "git worktree add -q --detach vendor/tmpl",
        "git clone -q . vendor/tmpl; echo more > more",
    ],
    ids=["with a commit", "staged", "in a commit of the todo", "empty", "a worktree", "beside other changes"],
)
def test_a_repository_inside_the_worktree_fails_the_todo(bench: Bench, command: str):
    lost = bench.attempt(command)

    assert lost.kind is OutcomeKind.REFUSED
    assert [(reason, [path.rstrip("/") for path in paths]) for reason, paths in told(lost)] == [
        (NotCommittedReason.REPOSITORY, ["vendor/tmpl"])
    ]
    assert bench.standing() == bench.standing("main")
    assert (bench.tree / "vendor" / "tmpl").is_dir(), "its files stay for people"
    assert bench.attempt("echo two >> code").kind is OutcomeKind.SUCCEEDED


def test_a_folder_that_git_cannot_read_fails_the_todo(bench: Bench):
    lost = bench.attempt(["python3", "-c", DEEP])

    assert lost.kind is OutcomeKind.REFUSED
    assert [one.reason for one in lost.not_committed] == [NotCommittedReason.UNREADABLE]
    assert bench.attempt("echo two >> code").kind is OutcomeKind.SUCCEEDED


@pytest.mark.parametrize(
    "command",
    ["git -c protocol.file.allow=always submodule --quiet add {} lib", "git init -q ignored/tmpl"],
    ids=["a submodule", "ignored"],
)
def test_a_submodule_or_an_ignored_repository_is_no_loss(bench: Bench, command: str):
    library = bench.make_repository(bench.folder / "library")

    done = bench.attempt(command.format(library))

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log


def test_ignored_files_are_named_without_those_of_prepare(bench: Bench):
    made = bench.attempt(
        "mkdir ignored; touch ignored/a ignored/b by-todo.cache; echo two >> code",
        prepare="touch by-prepare.cache by-prepare",
    )

    assert made.kind is OutcomeKind.SUCCEEDED
    assert told(made) == [(NotCommittedReason.IGNORED, ("by-todo.cache", "ignored/"))]
    again = bench.attempt("cat ignored/a by-todo.cache", made.tip, prepare="false")
    assert again.kind is OutcomeKind.SUCCEEDED, "the next todo has them"


def test_a_new_file_outside_of_a_sparse_checkout_is_committed(bench: Bench):
    for folder in ("inside", "outside"):
        (bench.checkout / folder).mkdir()
        (bench.checkout / folder / "file").write_text("x\n")
    git(bench.checkout, "add", ".")
    git(bench.checkout, "commit", "-q", "-m", "folders")
    git(bench.checkout, "sparse-checkout", "set", "inside")

    done = bench.attempt("ls; mkdir outside; echo new > outside/new; echo new > inside/new")

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    names = git(bench.checkout, "ls-tree", "-r", "--name-only", done.tip).splitlines()
    assert {"outside/file", "outside/new", "inside/new"} <= set(names)


def test_names_that_differ_by_case_are_committed_where_the_disk_tells_them_apart(bench: Bench):
    if (bench.checkout / ".GIT").exists():
        pytest.skip("this disk does not tell names by their case")
    git(bench.checkout, "config", "core.ignoreCase", "true")

    done = bench.attempt("echo other > CODE")

    names = git(bench.checkout, "ls-tree", "-r", "--name-only", done.tip).splitlines()
    assert {"code", "CODE"} <= set(names)


def test_a_list_of_any_length_can_be_read_again():
    many = [not_committed(NotCommittedReason.IGNORED, ["p" * 500] * 5000, "h" * 2000) for _ in range(50)]

    kept = read(written(many))

    assert 0 < len(written(many)) <= LIMIT_CHARACTERS
    assert kept[0] == many[0]
    assert kept[0].count == 5000
    assert read(written([])) == read(None) == ()
    with pytest.raises(ValueError, match="reason"):
        read('[{"reason": "magic", "paths": [], "count": 1}]')


@pytest.mark.parametrize("sandbox", [None, {"kind": "bubblewrap"}], ids=["free", "confined"])
@pytest.mark.parametrize("hook", ["pre-commit", "post-commit"])
def test_files_that_a_hook_leaves_are_named(bench: Bench, hook: str, sandbox: dict[str, str] | None):
    bench.hook(hook, "[ -e code.orig ] || { echo x > code.orig; echo more >> code; }")
    style = {"sandbox": sandbox} if sandbox else {}

    done = bench.attempt("echo two >> code", **style)

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert told(done) == [(NotCommittedReason.HOOKS, ("code", "code.orig"))]
    assert done.not_committed[0].reason.keeps_worktree
    assert "code.orig" in bench.log
    assert "more" not in git(bench.checkout, "show", f"{done.tip}:code").split()
