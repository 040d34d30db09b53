"""A todo's commit is the user's: git hooks run, git's configuration signs it, the settings word it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from coordination.errors import UsageError
from coordination.models import Repo, Retry, Todo
from coordination.runs.records import Grant, RunBrief, TodoSpec
from coordination.settings import Settings, read_settings
from tests.stage import git
from workers.attempt import Attempt
from workers.attempt_environment import AttemptEnvironment
from workers.logs import Log
from workers.outcome import AttemptOutcome, OutcomeKind

BRIEF = RunBrief(run_id="R", plan_id="PLAN-001")
EDITS = "echo two >> code; echo new > new"


@dataclass
class Bench:
    folder: Path
    brief: RunBrief = BRIEF
    fence: int = 0

    @property
    def checkout(self) -> Path:
        return self.folder / "api"

    def hook(self, name: str, *lines: str) -> None:
        path = self.checkout / ".git" / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(("#!/bin/sh", *lines, "")))
        path.chmod(0o755)

    def attempt(self, action: str = EDITS, tip: str | None = None, **todo: Any) -> AttemptOutcome:
        settings = Settings()
        row = {"id": "T", "task": "Raise the minimum", "repo": "api", "action": action, **todo}
        spec = TodoSpec(
            todo=Todo.model_validate(row),
            repo=Repo(name="api"),
            timeout=Todo.model_validate(row).timeout or settings.todo_timeout,
            retry=Retry(),
        )
        self.fence += 1
        grant = Grant(run_id="R", todo_id="T", attempt=1, fence=self.fence, spec=spec, tip=tip, tries=0)
        here = AttemptEnvironment(
            brief=self.brief,
            context=dict,
            state=self.folder / "state",
            checkout=self.checkout,
            output_limit_bytes=settings.output_limit_bytes,
        )
        log = Log(lambda text, skipped: None, self.folder / "log", limit_bytes=100_000)
        try:
            return Attempt(grant, here, log).run()
        finally:
            log.close()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def said(self, form: str, commit: str) -> str:
        return git(self.checkout, "log", "-1", f"--format={form}", commit)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "home").mkdir()
    made = Bench(tmp_path)
    git(tmp_path, "init", "-q", "-b", "main", str(made.checkout))
    (made.checkout / "code").write_text("one\n")
    git(made.checkout, "add", "code")
    git(made.checkout, "commit", "-q", "-m", "first")
    return made


def test_hooks_run_as_git_runs_them_in_the_worktree_and_in_the_todos_environment(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COORD_REDIS_URL", "redis://:secret@host")
    ran = bench.folder / "ran"
    for name in ("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit"):
        bench.hook(
            name, f'echo "{name} $PWD $COORD_TODO_ID [$COORD_REDIS_URL] $MINE" >> {ran}; echo told by {name}'
        )
    bench.hook(
        "commit-msg", f'echo "commit-msg $PWD $COORD_TODO_ID [] m" >> {ran}; echo Reviewed-by: a hook >> "$1"'
    )

    done = bench.attempt(env={"MINE": "m"})

    where = bench.folder / "state" / "worktrees" / "R" / "api"
    assert done.kind is OutcomeKind.SUCCEEDED
    names = ("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit")
    assert ran.read_text().splitlines() == [f"{name} {where} T [] m" for name in names]
    assert "told by pre-commit" in bench.log
    assert bench.said("%(trailers:key=Reviewed-by,valueonly)", done.tip) == "a hook"


def test_a_hook_that_refuses_fails_the_todo_and_nothing_stays_on_the_branch(bench: Bench):
    bench.hook("pre-commit", "echo line 3 is too long; exit 1")

    refused = bench.attempt()

    assert (refused.kind, refused.exit_code, refused.blame, refused.tip) == (OutcomeKind.FAILED, 1, "", "")
    assert refused.failure is not None, "its retry policy may try it again"
    assert refused.failure.exit_code == 1
    assert "line 3 is too long" in bench.log
    assert git(bench.checkout, "rev-parse", "coord/R") == git(bench.checkout, "rev-parse", "main")


def test_a_hook_that_hangs_is_ended_by_the_todos_timeout(bench: Bench):
    bench.hook("commit-msg", "sleep 600")

    assert bench.attempt(timeout="1s").kind is OutcomeKind.FAILED
    assert "timeout after 1 s" in bench.log


@pytest.mark.parametrize("adds", [True, False], ids=["and adds them", "and refuses the first time"])
def test_what_a_hook_has_reformatted_is_in_the_commit(bench: Bench, adds: bool):
    end = "git add code" if adds else "git diff --quiet"
    bench.hook("pre-commit", "tr a-z A-Z < code > .git-code; cat .git-code > code; rm .git-code", end)

    done = bench.attempt()

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert git(bench.checkout, "show", f"{done.tip}:code") == "ONE\nTWO"
    assert git(bench.checkout, "show", f"{done.tip}:new") == "new"
    assert git(bench.checkout, "rev-list", "--count", f"main..{done.tip}") == "1"


def test_a_hook_that_takes_the_trailers_away_is_refused(bench: Bench):
    bench.hook("commit-msg", 'echo short > "$1"')

    assert bench.attempt().kind is OutcomeKind.REFUSED
    assert git(bench.checkout, "rev-parse", "coord/R") == git(bench.checkout, "rev-parse", "main")


def test_skipped_hooks_are_told_in_the_log(bench: Bench):
    bench.hook("pre-commit", "exit 1")
    bench.hook("commit-msg", "exit 1")
    bench.brief = BRIEF.model_copy(update={"commit_hooks": "skip"})

    assert bench.attempt().kind is OutcomeKind.SUCCEEDED
    assert "commit_hooks is skip" in bench.log


def test_a_commit_is_signed_with_the_ssh_key_that_git_is_told_of(bench: Bench):
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

    done = bench.attempt()

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert bench.said("%G? %GS %an %ae %cn", done.tip) == "G ann Ann ann@example.org Ann"

    key.unlink()
    assert bench.attempt("echo three >> code", done.tip).kind is OutcomeKind.FAILED, (
        "unsigned is not what git was told"
    )


def test_the_message_is_worded_by_the_setting_and_trailers_name_what_made_it(bench: Bench):
    settings = read_settings(
        {"commit_message": "chore({plan}): {task}\n\nDone as {todo} of {run}."}, environ={}
    )
    bench.brief = BRIEF.model_copy(update={"commit_message": settings.commit_message})

    done = bench.attempt()

    trailers = ["Coord-Run: R", "Coord-Plan: PLAN-001", "Coord-Todo: T", "Coord-Fence: 1"]
    assert bench.said("%(trailers:only)", done.tip).splitlines() == trailers
    assert bench.said("%B", done.tip).startswith(
        "chore(PLAN-001): Raise the minimum\n\nDone as T of R.\n\nCoord-Run"
    )


@pytest.mark.parametrize("template", ["{hours}", "{task.upper}", "{task!r}", "{task", "{0}", ""])
def test_a_message_that_names_something_else_is_refused(template: str):
    with pytest.raises(UsageError):
        read_settings(
            {"commit_message": template}, environ={"COORD_COMMIT_MESSAGE": template} if template else {}
        )


def test_a_cherry_pick_that_the_todo_left_gives_the_commit_neither_its_author_nor_its_message(bench: Bench):
    bench.fence = 4
    pick = (
        "git switch -q -c side; echo x > side; git add side; "
        "git -c user.name=Eve -c user.email=e@x commit -q -m evil; git switch -q coord/R; "
        "git cherry-pick --no-commit side; git update-ref CHERRY_PICK_HEAD side"
    )

    done = bench.attempt(pick)

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert bench.said("%an %s", done.tip) == "coord T: Raise the minimum"
    assert replace(done, tip="").since


def test_variables_of_a_todo_that_redirect_git_redirect_no_commit_of_coord(bench: Bench):
    victim = bench.folder / "victim"
    git(bench.folder, "clone", "-q", str(bench.checkout), str(victim))
    (victim / "code").write_text("staged\n")
    git(victim, "add", "code")
    before = [(victim / ".git" / name).read_bytes() for name in ("HEAD", "index")]
    redirect = {"GIT_DIR": ".git", "GIT_INDEX_FILE": ".git/index", "GIT_WORK_TREE": ""}

    for name, place in redirect.items():
        tip = bench.attempt(
            f'echo {name} > code; [ "${name}" = {victim / place} ]', env={name: str(victim / place)}
        ).tip
        assert git(bench.checkout, "show", f"{tip}:code") == name
    assert [(victim / ".git" / name).read_bytes() for name in ("HEAD", "index")] == before
    assert (victim / "code").read_text() == "staged\n"
