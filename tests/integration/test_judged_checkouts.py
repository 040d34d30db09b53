"""A check, and a todo behind a gate, find the commit, the files of `prepare`, and nothing of other todos."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from coordination.models import Gate, Todo
from coordination.planner.gates import behind_gates
from tests.attempts import Bench
from tests.sandboxes import needs_bubblewrap
from tests.testbed import git
from workers.outcome import AttemptOutcome, OutcomeKind

LISTING = "find . ! -type d ! -path './.git' | sort | xargs sha256sum"
PREPARE = """\
mkdir -p node_modules/.bin .venv/bin
printf '#!/bin/sh\\ngrep -q one code\\n' > node_modules/.bin/jest; chmod +x node_modules/.bin/jest
cp node_modules/.bin/jest .venv/bin/python; echo made > untracked-by-prepare; ln -s ../code .venv/code
"""
FAKE = "printf '#!/bin/sh\\nexit 0\\n'"
LEFT: Mapping[str, str] = {
    "a program of prepare": f"{FAKE} > node_modules/.bin/jest",
    "a file beside those of prepare": f"{FAKE} > node_modules/.bin/new",
    "an environment": f"{FAKE} > .venv/bin/python",
    "an ignored file": "echo left > some.cache",
    "an ignored folder": "mkdir build; echo left > build/it.cache; echo '*' > build/.gitignore",
    "excluded by git": 'echo hidden >> "$(git rev-parse --git-path info/exclude)"; echo x > hidden',
    "a hard link to a program": f"ln node_modules/.bin/jest kept.cache; {FAKE} > kept.cache",
    "a link to a folder": 'rm -r node_modules; ln -s "$OUT.d" node_modules; mkdir -p "$OUT.d/.bin"; '
    f'{FAKE} > "$OUT.d/.bin/jest"',
    "hidden in the index": "git update-index --skip-worktree code; echo bad > code",
    "assumed unchanged": "git update-index --assume-unchanged code; echo bad > code",
    "a replaced object": 'git replace HEAD:code "$(echo bad | git hash-object -w --stdin)"',
    "a sparse checkout": "git sparse-checkout set --no-cone /code; rm -f other",
    "a repository within": "git init -q nested.cache; echo left > nested.cache/file",
    "no right to remove": "mkdir -p shut.cache/in; echo left > shut.cache/in/file; chmod 500 shut.cache/in",
    "a pipe": "mkfifo pipe.cache",
    "a file that prepare left": "echo changed > untracked-by-prepare",
    "an ignored folder of bytecode": "mkdir __pycache__; touch -r code __pycache__/code.pyc; "
    "echo '*' > __pycache__/.gitignore",
    "a process that writes on": "setsid sh -c 'for n in $(seq 100); do for d in ../*/ ../../*/*/; do "
    'echo x > "$d/raced.cache"; done; sleep 0.1; done\' > /dev/null 2>&1 < /dev/null &',
    "a cache of the index": "git config core.untrackedCache true; git update-index --force-untracked-cache; "
    "git status > /dev/null; echo x > late.cache",
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    checkout = bench.make_repository()
    (checkout / ".gitignore").write_text("node_modules\n.venv/\n*.cache\n")
    (checkout / "other").write_text("tracked\n")
    git(checkout, "add", ".gitignore", "other")
    git(checkout, "commit", "-q", "-m", "second")
    return bench


def check(command: str) -> dict[str, Any]:
    return {"type": "qa", "run": command, "check": "unit"}


def listing(bench: Bench, action: Any, **fields: Any) -> str:
    assert bench.attempt(action, prepare=PREPARE, **fields).kind is OutcomeKind.SUCCEEDED, bench.log
    return bench.out.read_text()


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("judge", ["check", "read_only", "gate"])
def test_what_a_todo_has_left_beside_its_commit_is_not_there(bench: Bench, left: str, judge: str):
    command = f"{LISTING} > $OUT"
    action = {"check": check(command), "gate": command}.get(
        judge, {"type": "shell", "run": command, "read_only": True}
    )
    behind = "G" if judge == "gate" else ""
    alone = listing(bench, action, behind=behind)
    assert "node_modules/.bin/jest" in alone

    todo = bench.attempt(LEFT[left], prepare=PREPARE)
    assert todo.kind is OutcomeKind.SUCCEEDED, bench.log

    assert listing(bench, action, tip=todo.tip, behind=behind) == alone


def test_todos_of_a_run_keep_a_build_although_checks_come_between(bench: Bench):
    first = bench.attempt("echo built > build.cache; echo two > code", prepare=PREPARE)
    assert bench.attempt(check("! test -e build.cache"), first.tip, prepare=PREPARE).kind is (
        OutcomeKind.SUCCEEDED
    )
    assert bench.attempt("cat build.cache > $OUT", first.tip, prepare=PREPARE).tip == first.tip

    assert bench.out.read_text() == "built\n"
    assert bench.log.count("prepare: mkdir") == 2  # of the worktree, and of the checks


def test_a_check_does_not_find_what_the_check_before_it_left(bench: Bench):
    assert bench.attempt(check(f"{LEFT['a program of prepare']}; false"), prepare=PREPARE).kind is (
        OutcomeKind.FAILED
    )
    bad = bench.attempt("echo bad > code", prepare=PREPARE)
    red = bench.attempt(check("node_modules/.bin/jest"), bad.tip, prepare=PREPARE)

    assert red.kind is OutcomeKind.FAILED
    assert bench.log.count("prepare: mkdir") == 2  # once for both checks


def test_prepare_of_a_check_runs_on_the_tree_with_which_the_run_began(bench: Bench):
    setup = "cp tool build.cache"
    (bench.checkout / "tool").write_text("exit 1\n")
    git(bench.checkout, "add", "tool")
    git(bench.checkout, "commit", "-q", "-m", "third")
    new = bench.attempt("echo exit 0 > tool; git rm -q other", prepare=setup)
    red = bench.attempt(check("sh build.cache"), new.tip, prepare=setup)
    there = bench.attempt(check("grep 0 tool && ! test -e other"), new.tip, prepare=setup)

    assert (red.kind, there.kind) == (OutcomeKind.FAILED, OutcomeKind.SUCCEEDED)


@pytest.mark.parametrize("runs", [1, 2])
def test_files_of_prepare_follow_no_link_of_the_commit(bench: Bench, runs: int):
    victim = bench.folder / "victim"
    victim.mkdir()
    linked = "git rm -q -r node_modules other; rm -rf node_modules; "
    linked += f"ln -s {victim} node_modules; ln -s {victim} other"
    (bench.checkout / "node_modules").mkdir()
    (bench.checkout / "node_modules" / "kept").write_text("")
    git(bench.checkout, "add", "--force", "node_modules")
    git(bench.checkout, "commit", "-q", "-m", "third")
    new = bench.attempt(f"{linked}; git add --force node_modules other", prepare=PREPARE)
    for _ in range(runs):
        done = bench.attempt(check("test -L node_modules && test -L other"), new.tip, prepare=PREPARE)

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert list(victim.iterdir()) == []


def test_a_check_leaves_the_branch_of_the_run_and_its_worktree_alone(bench: Bench):
    new = bench.attempt("echo two > code; echo built > build.cache")
    done = bench.attempt(check("echo three > code; git commit -qam mine; git rev-parse HEAD"), new.tip)

    assert (done.kind, done.tip) == (OutcomeKind.SUCCEEDED, new.tip)
    assert bench.standing() == new.tip
    assert (bench.tree / "build.cache").exists()
    assert "it has left changes" in bench.log


@needs_bubblewrap
@pytest.mark.parametrize("confined_first", [True, False])
def test_a_todo_in_a_sandbox_and_one_outside_share_no_files(bench: Bench, confined_first: bool):
    def attempt(command: str, tip: str | None, *, confined: bool) -> AttemptOutcome:
        sandbox = {"kind": "bubblewrap" if confined else "off"}
        return bench.attempt(command, tip, prepare=PREPARE, sandbox=sandbox)

    bad = attempt(f"{LEFT['a program of prepare']}; echo bad > code", None, confined=confined_first)
    red = attempt("node_modules/.bin/jest", bad.tip, confined=not confined_first)

    assert (bad.kind, red.kind) == (OutcomeKind.SUCCEEDED, OutcomeKind.FAILED)


@needs_bubblewrap
def test_a_check_in_a_sandbox_has_its_own_folder_only(bench: Bench):
    new = bench.attempt("echo two > code; echo left > build.cache")
    seen = bench.attempt(
        check(f"test -e code && ! test -e {bench.tree}/build.cache"), new.tip, sandbox={"kind": "bubblewrap"}
    )

    assert seen.kind is OutcomeKind.SUCCEEDED, bench.log


def test_a_commit_of_a_submodule_that_only_the_worktree_has_is_not_removed(bench: Bench, tmp_path: Path):
    library = bench.make_repository(tmp_path / "library")
    allowed = ("-c", "protocol.file.allow=always")
    git(bench.checkout, *allowed, "submodule", "--quiet", "add", str(library), "library")
    git(bench.checkout, "commit", "-q", "-m", "third")
    new = bench.attempt("cd library; echo two > code; git -c user.name=a -c user.email=a@x commit -qam two")
    refused = bench.attempt("true", new.tip, behind="G")

    assert (refused.kind, "library" in refused.error) == (OutcomeKind.REFUSED, True)
    assert (bench.tree / "library" / "code").read_text() == "two\n"


def test_a_todo_is_behind_all_gates_before_it():
    gated = Todo(id="G", task="t", repo="api", gate=Gate())
    plain = Todo(id="T", task="t", repo="api")
    one, other = behind_gates(gated, []), behind_gates(gated.model_copy(update={"id": "H"}), [])

    assert behind_gates(plain, ["", ""]) == ""
    assert behind_gates(plain, ["", one, one]) == one
    assert behind_gates(plain, [one, other]) == behind_gates(plain, [other, one])
    assert len({"", one, other, behind_gates(plain, [one, other]), behind_gates(gated, [other])}) == 5
