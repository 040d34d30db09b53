"""Undoing a todo in a worker: its compensation with all that it needs, nothing committed, and never a false
success.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coordination.models import Repo, Retry, Todo
from coordination.runs.records import Grant, RunBrief, TodoSpec, TodoState, Undo
from coordination.settings import Settings
from tests.stage import git
from workers.attempt import Attempt
from workers.attempt_environment import AttemptEnvironment
from workers.logs import Log
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.transfer.bundles import NotCarried
from workers.workspace.git import git as our_git

RUN = "20260102-120000-efgh"
KEEP_ENV = "env | grep ^COORD_ | sort > $OUT; cat $COORD_TODO_OUTPUT >> $OUT"


@dataclass
class Bench:
    folder: Path
    fence: int = 0
    withdrawn: str = ""
    """Answer of the remote when published commits are withdrawn."""

    @property
    def checkout(self) -> Path:
        return self.folder / "api"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def log(self) -> str:
        return (self.folder / "state" / "log").read_text()

    def attempt(
        self, todo: dict[str, Any], undo: Undo | None = None, tip: str | None = None
    ) -> AttemptOutcome:
        self.fence += 1
        settings = Settings()
        row = {"id": "T", "task": "make a bucket", "repo": "api", "env": {"OUT": str(self.out)}, **todo}
        spec = TodoSpec(
            todo=Todo.model_validate(row), repo=Repo(name="api"), timeout=settings.todo_timeout, retry=Retry()
        )
        grant = Grant(
            run_id=RUN,
            todo_id="T",
            attempt=self.fence,
            fence=self.fence,
            spec=spec,
            tip=tip,
            tries=0,
            undo=undo,
        )
        here = AttemptEnvironment(
            brief=RunBrief(run_id=RUN, plan_id="P", agent_command=f"cat > {self.out}"),
            context=lambda: {"predecessors": []},
            state=self.folder / "state",
            checkout=self.checkout,
            output_limit_bytes=settings.output_limit_bytes,
            withdraw=self.withdraw,
        )
        log = Log(lambda _text, _skipped: None, self.folder / "state" / "log", limit_bytes=10_000)
        try:
            return Attempt(grant, here, log).run()
        finally:
            log.close()

    def withdraw(self) -> None:
        if self.withdrawn:
            raise NotCarried(self.withdrawn)

    def branches(self) -> list[str]:
        return git(self.checkout, "for-each-ref", "--format=%(refname:short)", "refs/heads").splitlines()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    git(tmp_path, "init", "-q", "-b", "main", "api")
    git(tmp_path / "api", "commit", "-q", "--allow-empty", "-m", "first")
    return Bench(tmp_path)


def undo(
    output: str = '{"bucket":"b-7"}', *, last: bool = False, was: TodoState = TodoState.SUCCEEDED
) -> Undo:
    return Undo(was=was, output=output, last=last, run="20260101-120000-abcd", had_ended=True)


def test_a_compensation_has_what_the_todo_handed_over_its_own_key_and_nothing_of_it_is_committed(
    bench: Bench,
):
    done = bench.attempt({"action": "echo x > a"})
    todo = {
        "compensate": f"{KEEP_ENV}; cat a >> $OUT; echo y > a; echo 5 > $COORD_OUTPUT; git commit -qam mine"
    }
    undone = bench.attempt(todo, undo(), done.tip)

    assert undone == AttemptOutcome(kind=OutcomeKind.SUCCEEDED, exit_code=0)
    *env, output, file = bench.out.read_text().replace("}", "}\n").splitlines()
    told = dict(line.split("=", 1) for line in env)
    assert told["COORD_IDEMPOTENCY_KEY"] == "20260101-120000-abcd/T/compensate"
    assert (told["COORD_COMPENSATES"], told["COORD_RUN_ID"], told["COORD_TODO_ID"]) == ("succeeded", RUN, "T")
    assert (told["COORD_FENCE"], told["COORD_ATTEMPT"]) == ("2", "2")
    assert {"COORD_CONTEXT", "COORD_OUTPUT", "COORD_TODO_OUTPUT"} <= set(told)
    assert (json.loads(output), file) == ({"bucket": "b-7"}, "x")
    assert git(bench.checkout, "rev-parse", f"coord/{RUN}") == done.tip
    assert "[coord] compensating it; it had ended as: succeeded\n" in bench.log


def test_with_the_last_of_a_repository_its_worktree_and_branch_go(bench: Bench):
    done = bench.attempt({"action": "echo x > a"})
    assert bench.attempt({}, undo(), done.tip).kind is OutcomeKind.SUCCEEDED
    assert bench.branches() == [f"coord/{RUN}", "main"]

    assert bench.attempt({"compensate": "cp a $OUT"}, undo(last=True), done.tip).kind is OutcomeKind.SUCCEEDED
    assert bench.out.read_text() == "x\n"
    assert bench.branches() == ["main"]
    assert (
        f"[coord] branch coord/{RUN} in {bench.checkout} is removed, it stood at {done.tip[:12]}\n"
        in bench.log
    )
    assert bench.attempt({}, undo(last=True), done.tip).kind is OutcomeKind.SUCCEEDED, "again"


def test_where_the_output_was_never_made_the_file_says_null_and_the_error_says_why(bench: Bench):
    failed = undo("", was=TodoState.FAILED)
    assert bench.attempt({"compensate": "cp $COORD_TODO_OUTPUT $OUT"}, failed).kind is OutcomeKind.SUCCEEDED
    assert json.loads(bench.out.read_text()) is None

    code = "import json, os; json.load(open(os.environ['COORD_TODO_OUTPUT']))['bucket']"
    concluded = bench.attempt({"compensate": {"type": "shell", "run": [sys.executable, "-c", code]}}, failed)

    assert (concluded.kind, concluded.exit_code) == (OutcomeKind.FAILED, 1)
    assert concluded.why == "exit code 1; T ended as failed without output"
    assert bench.attempt({"compensate": "exit 4"}, undo()).why == "exit code 4"


def test_functions_and_agents_undo_as_commands_do(bench: Bench):
    (bench.checkout / "cloud.py").write_text(
        "import json, os\n"
        "def drop(force):\n"
        "    out = json.load(open(os.environ['COORD_TODO_OUTPUT']))\n"
        "    open(os.environ['OUT'], 'w').write(f\"{out['bucket']} {force}\")\n"
        "    return 'kept by nobody'\n"
    )
    git(bench.checkout, "add", "cloud.py")
    git(bench.checkout, "commit", "-q", "-m", "cloud")
    call = {"type": "python", "call": "cloud:drop", "args": {"force": True}}
    assert bench.attempt({"compensate": call}, undo()) == AttemptOutcome(
        kind=OutcomeKind.SUCCEEDED, exit_code=0
    )
    assert bench.out.read_text() == "b-7 True"

    assert bench.attempt({"compensate": {"type": "agent"}}, undo(), None).kind is OutcomeKind.SUCCEEDED
    prompt = bench.out.read_text()
    assert prompt.startswith("Undo what this task has done outside of the repository")
    assert "ended as succeeded.\nTask T: make a bucket" in prompt
    assert "COORD_TODO_OUTPUT" in prompt
    assert "is committed for you" not in prompt

    assert (
        bench.attempt({"compensate": {"type": "agent", "prompt": "drop it"}}, undo(), None).kind
        is OutcomeKind.SUCCEEDED
    )
    assert bench.out.read_text().startswith("drop it\n\nThe output of the task is in the JSON file")


def test_what_nothing_undoes_is_refused_and_whoever_has_undone_it_says_so(bench: Bench):
    todo, why = (
        {"workspace": "in-place"},
        "it cannot be undone: it worked in {path} itself and has no `compensate`",
    )
    concluded = bench.attempt(todo, undo(last=True))

    assert concluded.kind is OutcomeKind.REFUSED
    assert (
        concluded.why
        == f"{why.format(path=bench.checkout)}\n  undo it by hand, then: coord rollback {RUN} --accept T"
        ' --reason "…"'
    )
    assert bench.attempt(todo | {"compensate": "true"}, undo(last=True)).kind is OutcomeKind.SUCCEEDED


def test_a_folder_without_git_is_undone_by_its_compensation_alone(bench: Bench):
    our_git("worktree", "prune", cwd=bench.checkout)
    (bench.checkout / ".git").rename(bench.folder / "no-git")
    there = {"workspace": "in-place"}
    assert (
        bench.attempt({"compensate": "touch undone", **there}, undo(last=True)).kind is OutcomeKind.SUCCEEDED
    )
    assert (bench.checkout / "undone").exists()
    assert bench.attempt(there, undo(last=True)).kind is OutcomeKind.REFUSED

    lost = bench.attempt({"compensate": "touch $OUT"}, undo(), tip="0" * 40)
    assert lost.kind is OutcomeKind.REFUSED
    assert "is not a git repository, and the run has worked on a branch of it" in lost.why
    assert not bench.out.exists()


def test_somebodys_commit_is_found_before_the_compensation_begins(bench: Bench):
    done = bench.attempt({"action": "echo x > a"})
    tree = bench.folder / "state" / "worktrees" / RUN / "api"
    git(tree, "commit", "-q", "--allow-empty", "-m", "mine")

    for last in (False, True):
        concluded = bench.attempt({"compensate": "touch $OUT"}, undo(last=last), done.tip)
        assert concluded.kind is OutcomeKind.REFUSED
        assert "stays: it has commits that no run has recorded" in concluded.why
    assert not bench.out.exists()
    assert git(tree, "log", "-1", "--format=%s") == "mine"


def test_what_the_remote_keeps_is_no_success_and_nothing_goes_here_before(bench: Bench):
    done = bench.attempt({"action": "echo x > a"})
    bench.withdrawn = "branch coord/x of https://there cannot be deleted: protected"

    concluded = bench.attempt({}, undo(last=True), done.tip)

    assert concluded == AttemptOutcome(kind=OutcomeKind.FAILED, why=bench.withdrawn), (
        "it may answer another time"
    )
    assert bench.branches() == [f"coord/{RUN}", "main"]
