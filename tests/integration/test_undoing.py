"""Compensations as attempts: given all that they need, committing nothing, and never a false success."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from coordination.runs.records import TodoState
from coordination.runs.replies import Undo
from tests.attempts import RUN, Bench
from tests.testbed import git
from workers.outcome import AttemptOutcome, OutcomeKind

SUCCEEDED = AttemptOutcome(kind=OutcomeKind.SUCCEEDED, exit_code=0)
WORK = "echo x > a"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path, context={"predecessors": []})
    made.brief = made.brief.model_copy(update={"agent_command": f"cat > {made.out}"})
    made.make_repository()
    return made


def undo(
    output: str = '{"bucket":"b-7"}', *, last: bool = False, was: TodoState = TodoState.SUCCEEDED
) -> Undo:
    return Undo(was=was, output=output, last=last, run="20260101-120000-abcd", had_ended=True)


def test_a_compensation_has_the_todos_output_a_key_of_its_own_and_commits_nothing(bench: Bench):
    done = bench.attempt(WORK)
    shows = "env | grep ^COORD_ | sort > $OUT; cat $COORD_TODO_OUTPUT >> $OUT; cat a >> $OUT"
    changes = "echo y > a; echo 5 > $COORD_OUTPUT; git commit -qam mine"

    assert bench.attempt(tip=done.tip, undo=undo(), compensate=f"{shows}; {changes}") == SUCCEEDED

    *env, output, file = bench.out.read_text().replace("}", "}\n").splitlines()
    told = dict(line.split("=", 1) for line in env)
    assert told["COORD_IDEMPOTENCY_KEY"] == "20260101-120000-abcd/T/compensate"
    assert (told["COORD_COMPENSATES"], told["COORD_RUN_ID"], told["COORD_TODO_ID"]) == ("succeeded", RUN, "T")
    assert (told["COORD_FENCE"], told["COORD_ATTEMPT"]) == ("2", "2")
    assert {"COORD_CONTEXT", "COORD_OUTPUT", "COORD_TODO_OUTPUT"} <= set(told)
    assert (json.loads(output), file) == ({"bucket": "b-7"}, "x")
    assert bench.standing() == done.tip
    assert "[coord] compensating it; it had ended as: succeeded\n" in bench.log


def test_with_the_last_of_a_repository_its_worktree_and_branch_go(bench: Bench):
    tip = bench.attempt(WORK).tip
    assert bench.attempt(tip=tip, undo=undo()).kind is OutcomeKind.SUCCEEDED
    assert bench.branches() == [f"coord/{RUN}", "main"]

    last = undo(last=True)
    assert bench.attempt(tip=tip, undo=last, compensate="cp a $OUT").kind is OutcomeKind.SUCCEEDED
    assert bench.out.read_text() == "x\n"
    assert bench.branches() == ["main"]
    where = f"branch coord/{RUN} in {bench.checkout}"
    assert f"[coord] {where} is removed, it stood at {tip[:12]}\n" in bench.log
    assert bench.attempt(tip=tip, undo=last).kind is OutcomeKind.SUCCEEDED, "again"


def test_where_the_output_was_never_made_the_file_says_null_and_the_error_says_why(bench: Bench):
    failed = undo("", was=TodoState.FAILED)
    assert bench.attempt(undo=failed, compensate="cp $COORD_TODO_OUTPUT $OUT") == SUCCEEDED
    assert json.loads(bench.out.read_text()) is None

    code = "import json, os; json.load(open(os.environ['COORD_TODO_OUTPUT']))['bucket']"
    concluded = bench.attempt(undo=failed, compensate={"type": "shell", "run": [sys.executable, "-c", code]})

    assert (concluded.kind, concluded.exit_code) == (OutcomeKind.FAILED, 1)
    assert concluded.error == "exit code 1; T ended as failed without output"
    assert bench.attempt(undo=undo(), compensate="exit 4").error == "exit code 4"


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
    assert bench.attempt(undo=undo(), compensate=call) == SUCCEEDED
    assert bench.out.read_text() == "b-7 True"

    undone = bench.attempt(undo=undo(), compensate={"type": "agent"}, sandbox="off")
    assert undone.kind is OutcomeKind.SUCCEEDED
    prompt = bench.out.read_text()
    assert prompt.startswith("Undo what this task has done outside of the repository")
    assert "ended as succeeded.\nTask T: Raise the minimum" in prompt
    assert "COORD_TODO_OUTPUT" in prompt
    assert "is committed for you" not in prompt

    own = {"type": "agent", "prompt": "drop it"}
    assert bench.attempt(undo=undo(), compensate=own, sandbox="off").kind is OutcomeKind.SUCCEEDED
    assert bench.out.read_text().startswith("drop it\n\nThe output of the task is in the JSON file")


def test_a_todo_in_place_without_compensation_is_refused_with_the_way_to_accept_it(bench: Bench):
    last = undo(last=True)
    concluded = bench.attempt(undo=last, workspace="in-place")

    assert concluded.kind is OutcomeKind.REFUSED
    assert concluded.error == (
        f"it cannot be undone: it worked in {bench.checkout} itself and has no `compensate`\n"
        f'  undo it by hand, then: coord rollback {RUN} --accept T --reason "…"'
    )
    undone = bench.attempt(undo=last, workspace="in-place", compensate="true")
    assert undone.kind is OutcomeKind.SUCCEEDED


def test_a_folder_without_git_is_undone_by_its_compensation_alone(bench: Bench):
    (bench.checkout / ".git").rename(bench.folder / "no-git")
    last, there = undo(last=True), {"workspace": "in-place"}
    assert bench.attempt(undo=last, compensate="touch undone", **there).kind is OutcomeKind.SUCCEEDED
    assert (bench.checkout / "undone").exists()
    assert bench.attempt(undo=last, **there).kind is OutcomeKind.REFUSED

    lost = bench.attempt(tip="0" * 40, undo=undo(), compensate="touch $OUT")
    assert lost.kind is OutcomeKind.REFUSED
    assert "is not a git repository, and the run has worked on a branch of it" in lost.error
    assert not bench.out.exists()


def test_a_commit_by_hand_is_found_before_the_compensation_begins(bench: Bench):
    done = bench.attempt(WORK)
    git(bench.tree, "commit", "-q", "--allow-empty", "-m", "mine")

    for last in (False, True):
        concluded = bench.attempt(tip=done.tip, undo=undo(last=last), compensate="touch $OUT")
        assert concluded.kind is OutcomeKind.REFUSED
        assert "stays: it has commits that no run has recorded" in concluded.error
    assert not bench.out.exists()
    assert git(bench.tree, "log", "-1", "--format=%s") == "mine"


def test_a_branch_that_the_remote_keeps_is_no_success_and_stays_here_as_well(bench: Bench):
    done = bench.attempt(WORK)
    bench.withdrawn = "branch coord/x of https://there cannot be deleted: protected"

    concluded = bench.attempt(tip=done.tip, undo=undo(last=True))

    assert concluded == AttemptOutcome(kind=OutcomeKind.FAILED, error=bench.withdrawn), (
        "it may go another time"
    )
    assert bench.branches() == [f"coord/{RUN}", "main"]
