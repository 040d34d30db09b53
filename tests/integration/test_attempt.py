"""Whatever a todo leaves behind, its attempt comes to a conclusion that Redis can be told; nothing is left to
the reaper.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from coordination.models import Repo, Retry, Todo
from coordination.runs.records import Grant, RunBrief, TodoSpec
from coordination.runs.submission.submit import submit
from coordination.settings import Settings
from tests.plans import ecosystem, graph, order
from workers.app import Container
from workers.attempt import Attempt
from workers.attempt_environment import AttemptEnvironment
from workers.config import WorkerConfig
from workers.logs import Log
from workers.outcome import AttemptOutcome, OutcomeKind, TaskResult, TaskResultKind
from workers.tasks import task_result
from workers.workspace.git import git

ANN = ("user.name=Ann", "user.email=ann@example.org")

CONFLICT = r"""
git config user.name Ann && git config user.email a@b
name=$(printf 'f\377')
echo 1 > "$name" && git add . && git commit --quiet -m 1
git switch --quiet -c side && echo 2 > "$name" && git commit --quiet -am 2
git switch --quiet - && echo 3 > "$name" && git commit --quiet -am 3
git merge side
true
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def attempt(
    state: Path,
    run: Any,
    context: dict[str, Any] | None = None,
    prepare: str | None = None,
    secrets: tuple[str, ...] = (),
) -> AttemptOutcome:
    """One attempt in the folder r1, in place where it is no repository."""
    checkout = state.parent / "r1"
    checkout.mkdir(exist_ok=True)
    workspace = "worktree" if (checkout / ".git").exists() else "in-place"
    settings = Settings()
    spec = TodoSpec(
        todo=Todo.model_validate(
            {"id": "T", "task": "t", "repo": "r1", "action": run, "workspace": workspace}
        ),
        repo=Repo(name="r1", prepare=prepare),
        timeout=settings.todo_timeout,
        retry=Retry(),
    )
    grant = Grant(run_id="R", todo_id="T", attempt=1, fence=1, spec=spec, tip=None, tries=0)
    here = AttemptEnvironment(
        brief=RunBrief(run_id="R", plan_id="P"),
        context=lambda: context or {},
        state=state,
        checkout=checkout,
        output_limit_bytes=settings.output_limit_bytes,
    )
    log = Log(lambda text, skipped: None, state / "log", limit_bytes=10_000, secrets=secrets)
    try:
        return Attempt(grant, here, log).run()
    finally:
        log.close()


@pytest.mark.parametrize(
    "leave",
    [
        "open(path, 'w').write('[' * 60_000)",
        "open(path, 'w').write('[' * 200 + ']' * 200)",
        "os.unlink(path) if os.path.exists(path) else None; os.mkdir(path)",
    ],
)
def test_an_output_that_cannot_be_read_is_refused_with_the_reason(state: Path, leave: str):
    code = f"import os; path = os.environ['COORD_OUTPUT']; {leave}"
    concluded = attempt(state, {"type": "shell", "run": [sys.executable, "-c", code]})

    assert concluded.kind is OutcomeKind.REFUSED
    assert "COORD_OUTPUT" in concluded.why


def test_a_context_of_any_text_that_json_can_say_is_handed_on(state: Path):
    read = "import json, os; assert json.load(open(os.environ['COORD_CONTEXT'])) == {'output': '\\ud800 é'}"
    concluded = attempt(state, {"type": "shell", "run": [sys.executable, "-c", read]}, {"output": "\ud800 é"})

    assert concluded == AttemptOutcome(kind=OutcomeKind.SUCCEEDED, exit_code=0)


def test_a_folder_that_cannot_be_written_is_the_todos_own_failure_and_tried_again(state: Path):
    state.mkdir()
    (state / "tmp").write_text("a file where the folder should be")
    concluded = attempt(state, "true")

    assert (concluded.kind, concluded.blame) == (OutcomeKind.FAILED, "worker")
    assert str(state / "tmp") in concluded.why


def test_what_git_says_of_a_file_whose_name_is_no_utf8_is_told_all_the_same(state: Path):
    checkout = state.parent / "r1"
    checkout.mkdir()
    git("init", "--quiet", "--initial-branch=main", cwd=checkout)
    git("commit", "--quiet", "--allow-empty", "-m", "1", cwd=checkout, settings=ANN)
    concluded = attempt(state, CONFLICT)

    assert (concluded.kind, concluded.blame) == (OutcomeKind.REFUSED, "")
    assert "a merge with conflicts in f?" in concluded.why


def test_who_is_to_blame_for_a_failure_is_the_worker_until_the_todos_command_has_begun(state: Path):
    checkout = state.parent / "r1"
    checkout.mkdir()
    git("init", "--quiet", "--initial-branch=main", cwd=checkout)
    git("commit", "--quiet", "--allow-empty", "-m", "1", cwd=checkout, settings=ANN)

    assert attempt(state, "exit 7").blame == ""
    prepared = attempt(state, "true", prepare="exit 3")
    assert (prepared.kind, prepared.why, prepared.blame) == (
        OutcomeKind.FAILED,
        "prepare: exit code 3",
        "worker",
    )

    (checkout / ".git" / "config").write_text("[no configuration")
    refused = attempt(state, "true")
    assert (refused.kind, refused.blame) == (OutcomeKind.REFUSED, "worker")


def test_a_prepare_that_deletes_the_git_file_resets_no_repository_above_and_is_not_repeated_for_ever(
    state: Path,
):
    checkout = state.parent / "r1"
    checkout.mkdir()
    for path in (state.parent, checkout):
        git("init", "--quiet", "--initial-branch=main", cwd=path)
        (path / "file").write_text("first")
        git("add", "file", cwd=path)
        git("commit", "--quiet", "-m", "1", cwd=path, settings=ANN)
    (state.parent / "file").write_text("uncommitted")

    concluded = attempt(state, "true", prepare="rm .git")

    assert (concluded.kind, concluded.limited) == (OutcomeKind.HINDERED, True)
    assert (state.parent / "file").read_text() == "uncommitted"


def test_a_command_that_does_not_exist_is_told_without_the_secrets_in_it(state: Path):
    attempt(state, {"type": "shell", "run": ["/no/such/S3CRET"]}, secrets=("S3CRET",))

    told = (state / "log").read_text()
    assert "not found" in told
    assert "S3CRET" not in told


def test_a_todo_that_lost_its_lease_while_it_worked_leaves_no_commit(redis_url: str, tmp_path: Path):
    checkout = tmp_path / "r1"
    checkout.mkdir()
    git("init", "--quiet", "--initial-branch=main", cwd=checkout)
    git("commit", "--quiet", "--allow-empty", "-m", "1", cwd=checkout, settings=ANN)
    parts = Container(
        WorkerConfig(
            redis_url=redis_url,
            settings=Settings(),
            places={"r1": checkout},
            jobs=1,
            state=tmp_path / "state",
        )
    )
    todos, code = (
        {"T": "r1"},
        textwrap.dedent(
            f"""
        import os
        from coordination.runs.store import RunStore
        from coordination.backend.client import Profile, connect
        open("work", "w").close()
        store, run = RunStore(connect({redis_url!r}, Profile.COMMAND), "coord"), os.environ["COORD_RUN_ID"]
        store.redis.zadd(store.keys.leases, {{f"{{run}} T": 1}})
        assert store.lose(run, "T", 1).word == "settled"
        """
        ),
    )
    action = {"T": {"action": {"type": "shell", "run": [sys.executable, "-c", code]}}}
    run_id, _ = submit(parts.store, graph(todos, **action), ecosystem(todos, **action), Settings(), order())

    assert parts.deliveries.handle(run_id, "T", 1, "r1") == TaskResult(
        TaskResultKind.LATER, "its lease was lost"
    )
    parts.close()

    assert git("rev-parse", f"coord/{run_id}", cwd=checkout) == git("rev-parse", "main", cwd=checkout)


def test_a_todo_whose_records_are_damaged_is_left_to_the_reaper_and_named_in_one_line(
    redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    parts = Container(
        WorkerConfig(
            redis_url=redis_url,
            settings=Settings(),
            places={"r1": tmp_path},
            jobs=1,
            state=tmp_path / "state",
        )
    )
    run_id, _ = submit(parts.store, graph({"T": "r1"}), ecosystem({"T": "r1"}), Settings(), order())
    state = parts.store.keys.run(run_id).state
    parts.redis.delete(state)
    parts.redis.set(state, "no hash")

    assert task_result(parts.deliveries, run_id, "T", 1, "r1").kind is TaskResultKind.LATER
    parts.close()

    told = [record for record in caplog.records if record.name == "workers.tasks"]
    assert len(told) == 1
    assert told[0].exc_info is None
    assert "T of run" in told[0].getMessage()
    assert "\n" not in told[0].getMessage()
