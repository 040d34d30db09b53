"""A todo's commit is the user's: git hooks run, git's configuration signs it, the settings word it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from coordination.errors import UsageError
from coordination.settings import read_settings
from tests.attempts import RUN, Bench
from tests.testbed import git
from workers.outcome import OutcomeKind

EDITS = "echo two >> code; echo new > new"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "home").mkdir()
    made = Bench(tmp_path)
    made.make_repository()
    return made


def test_hooks_run_in_the_worktree_and_the_todos_environment(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COORD_REDIS_URL", "redis://:secret@host")
    ran = bench.folder / "ran"
    names = ("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit")
    for name in names:
        told = f'echo "{name} $PWD $COORD_TODO_ID [$COORD_REDIS_URL] $MINE" >> {ran}; echo told by {name}'
        bench.hook(name, told, 'echo Reviewed-by: a hook >> "$1"' if name == "commit-msg" else "")

    done = bench.attempt(EDITS, env={"MINE": "m"})

    assert done.kind is OutcomeKind.SUCCEEDED
    assert ran.read_text().splitlines() == [f"{name} {bench.tree} T [] m" for name in names]
    assert "told by pre-commit" in bench.log
    assert bench.said("%(trailers:key=Reviewed-by,valueonly)", done.tip) == "a hook"


def test_a_hook_that_refuses_fails_the_todo_and_nothing_stays_on_the_branch(bench: Bench):
    bench.hook("pre-commit", "echo line 3 is too long; exit 1")

    refused = bench.attempt(EDITS)

    assert (refused.kind, refused.exit_code, refused.blame, refused.tip) == (OutcomeKind.FAILED, 1, "", "")
    assert refused.failure is not None, "its retry policy may try it again"
    assert refused.failure.exit_code == 1
    assert "line 3 is too long" in bench.log
    assert bench.standing() == bench.standing("main")


def test_a_hook_that_hangs_is_ended_by_the_todos_timeout(bench: Bench):
    bench.hook("commit-msg", "sleep 600")

    assert bench.attempt(EDITS, timeout="1s").kind is OutcomeKind.FAILED
    assert "timeout after 1 s" in bench.log


@pytest.mark.parametrize("adds", [True, False], ids=["and adds them", "and refuses the first time"])
def test_the_changes_of_a_formatting_hook_are_in_the_commit(bench: Bench, adds: bool):
    end = "git add code" if adds else "git diff --quiet"
    bench.hook("pre-commit", "tr a-z A-Z < code > .git-code; cat .git-code > code; rm .git-code", end)

    done = bench.attempt(EDITS)

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert git(bench.checkout, "show", f"{done.tip}:code") == "ONE\nTWO"
    assert git(bench.checkout, "show", f"{done.tip}:new") == "new"
    assert git(bench.checkout, "rev-list", "--count", f"main..{done.tip}") == "1"


def test_a_hook_that_takes_the_trailers_away_is_refused(bench: Bench):
    bench.hook("commit-msg", 'echo short > "$1"')

    assert bench.attempt(EDITS).kind is OutcomeKind.REFUSED
    assert bench.standing() == bench.standing("main")


def test_the_log_says_that_hooks_are_skipped(bench: Bench):
    bench.hook("pre-commit", "exit 1")
    bench.hook("commit-msg", "exit 1")
    bench.brief = bench.brief.model_copy(update={"commit_hooks": "skip"})

    assert bench.attempt(EDITS).kind is OutcomeKind.SUCCEEDED
    assert "commit_hooks is skip" in bench.log


def test_a_commit_has_the_author_and_the_ssh_signature_of_gits_configuration(bench: Bench):
    key = bench.folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ann", "-f", key], check=True)
    allowed = bench.folder / "allowed"
    allowed.write_text(f"ann {key.with_suffix('.pub').read_text()}")
    for name, value in {
        "gpg.format": "ssh",
        "user.signingKey": str(key),
        "gpg.ssh.allowedSignersFile": str(allowed),
        "commit.gpgSign": "true",
        "user.name": "Ann",
        "user.email": "ann@example.org",
    }.items():
        git(bench.checkout, "config", name, value)

    done = bench.attempt(EDITS)

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert bench.said("%G? %GS %an %ae %cn", done.tip) == "G ann Ann ann@example.org Ann"
    key.unlink()
    unsigned = bench.attempt("echo three >> code", done.tip)
    assert unsigned.kind is OutcomeKind.FAILED


def test_the_message_follows_the_setting_and_trailers_name_the_attempt(bench: Bench):
    worded = {"commit_message": "chore({plan}): {task}\n\nDone as {todo} of {run}."}
    message = read_settings(worded, environ={}).commit_message
    bench.brief = bench.brief.model_copy(update={"commit_message": message})

    done = bench.attempt(EDITS)

    trailers = [f"Coord-Run: {RUN}", "Coord-Plan: PLAN-001", "Coord-Todo: T", "Coord-Fence: 1"]
    assert bench.said("%(trailers:only)", done.tip).splitlines() == trailers
    text = f"chore(PLAN-001): Raise the minimum\n\nDone as T of {RUN}.\n\nCoord-Run"
    assert bench.said("%B", done.tip).startswith(text)


@pytest.mark.parametrize("template", ["{hours}", "{task.upper}", "{task!r}", "{task", "{0}", ""])
def test_a_message_that_names_something_else_is_refused(template: str):
    environ = {"COORD_COMMIT_MESSAGE": template} if template else {}
    with pytest.raises(UsageError):
        read_settings({"commit_message": template}, environ=environ)


def test_a_cherry_pick_that_the_todo_left_gives_the_commit_neither_its_author_nor_its_message(bench: Bench):
    bench.fence = 4
    done = bench.attempt(
        "git switch -q -c side; echo x > side; git add side; "
        "git -c user.name=Eve -c user.email=e@x commit -q -m evil; "
        f"git switch -q coord/{RUN}; git cherry-pick --no-commit side; git update-ref CHERRY_PICK_HEAD side"
    )

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert bench.said("%an %s", done.tip) == "coord T: Raise the minimum"
    assert replace(done, tip="").began


def test_variables_of_a_todo_that_redirect_git_redirect_no_commit_of_coord(bench: Bench):
    victim = bench.folder / "victim"
    git(bench.folder, "clone", "-q", str(bench.checkout), str(victim))
    (victim / "code").write_text("staged\n")
    git(victim, "add", "code")
    before = [(victim / ".git" / name).read_bytes() for name in ("HEAD", "index")]

    for name, place in {"GIT_DIR": ".git", "GIT_INDEX_FILE": ".git/index", "GIT_WORK_TREE": ""}.items():
        action = f'echo {name} > code; [ "${name}" = {victim / place} ]'
        done = bench.attempt(action, env={name: str(victim / place)})
        assert git(bench.checkout, "show", f"{done.tip}:code") == name
    assert [(victim / ".git" / name).read_bytes() for name in ("HEAD", "index")] == before
    assert (victim / "code").read_text() == "staged\n"


@pytest.mark.parametrize(
    "command",
    [
        "echo two >> code",
        "rm code",
        "echo new > new",
        "git init -q inner",
        "echo two >> code; git -c user.name=me -c user.email=me@home commit -qam mine",
        "git checkout -q -b mine",
    ],
)
def test_a_read_only_command_that_changes_something_fails(bench: Bench, command: str):
    action = {"type": "shell", "run": command, "read_only": True}

    refused = bench.attempt(action)

    same = command.startswith("git checkout")  # a name for the same commit changes nothing
    assert refused.kind is (OutcomeKind.SUCCEEDED if same else OutcomeKind.REFUSED), bench.log
    again = bench.attempt({**action, "run": "git status"})
    assert (again.kind, again.tip) == (OutcomeKind.SUCCEEDED, bench.standing("main")), bench.log


def test_a_read_only_command_in_place_is_refused(bench: Bench):
    action = {"type": "shell", "run": "touch changed", "read_only": True}

    assert bench.attempt(action, workspace="in-place").kind is OutcomeKind.REFUSED
    assert not (bench.checkout / "changed").exists()


@pytest.mark.parametrize("end", ["true", "git add new"], ids=["unnoticed", "that the command meets"])
def test_a_damaged_index_interrupts_the_todo_and_the_next_attempt_has_a_new_one(bench: Bench, end: str):
    cut = f'{EDITS}; i=$(git rev-parse --git-dir)/index; head -c 10 "$i" > "$OUT"; cp "$OUT" "$i"; {end}'

    assert bench.attempt(cut).kind is OutcomeKind.DEFERRED
    assert bench.attempt(EDITS).kind is OutcomeKind.SUCCEEDED
