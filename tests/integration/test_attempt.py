"""The outcome of an attempt whose todo leaves odd outputs, conflicts, damage or secrets."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from coordination.settings import Settings
from tests.attempts import Bench
from tests.engine import submit
from tests.integration.conftest import MakeWorker
from tests.plans import ecosystem, graph, order
from tests.testbed import git
from workers.celery_worker import task_result
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.task_result import TaskResult, TaskResultKind

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
def bench(tmp_path: Path) -> Bench:
    """A folder that is no repository yet."""
    made = Bench(tmp_path)
    made.checkout.mkdir()
    return made


def python(code: str) -> dict[str, Any]:
    return {"type": "shell", "run": [sys.executable, "-c", code]}


@pytest.mark.parametrize(
    "leave",
    [
        "open(path, 'w').write('[' * 60_000)",
        "open(path, 'w').write('[' * 200 + ']' * 200)",
        "os.unlink(path) if os.path.exists(path) else None; os.mkdir(path)",
    ],
)
def test_an_output_that_cannot_be_read_is_refused_with_the_reason(bench: Bench, leave: str):
    code = f"import os; path = os.environ['COORD_OUTPUT']; {leave}"
    outcome = bench.attempt(python(code), workspace="in-place")

    assert outcome.kind is OutcomeKind.REFUSED
    assert "COORD_OUTPUT" in outcome.error


def test_a_context_with_any_text_of_json_reaches_the_command(bench: Bench):
    read = "import json, os; assert json.load(open(os.environ['COORD_CONTEXT'])) == {'output': '\\ud800 é'}"
    bench.context = {"output": "\ud800 é"}

    outcome = bench.attempt(python(read), workspace="in-place")
    assert outcome == AttemptOutcome(kind=OutcomeKind.SUCCEEDED, exit_code=0)


def test_a_state_folder_that_cannot_be_written_is_the_workers_failure(bench: Bench):
    bench.state.mkdir()
    (bench.state / "tmp").write_text("a file where the folder should be")
    outcome = bench.attempt("true", workspace="in-place")

    assert (outcome.kind, outcome.blame) == (OutcomeKind.FAILED, "worker")
    assert str(bench.state / "tmp") in outcome.error


def test_a_conflict_in_a_file_whose_name_is_not_utf8_is_reported(bench: Bench):
    bench.make_repository()
    outcome = bench.attempt(CONFLICT)

    assert (outcome.kind, outcome.blame) == (OutcomeKind.REFUSED, "")
    assert "a merge with conflicts in f?" in outcome.error


def test_the_worker_is_to_blame_for_a_failure_until_the_todos_command_has_begun(bench: Bench):
    bench.make_repository()

    assert bench.attempt("exit 7").blame == ""
    prepared = bench.attempt("true", prepare="exit 3")
    told = (prepared.kind, prepared.error, prepared.blame)
    assert told == (OutcomeKind.FAILED, "prepare: exit code 3", "worker")

    (bench.checkout / ".git" / "config").write_text("[no configuration")
    refused = bench.attempt("true")
    assert (refused.kind, refused.blame) == (OutcomeKind.REFUSED, "worker")


def test_a_prepare_that_deletes_the_git_file_resets_no_repository_above_and_is_limited(bench: Bench):
    for path in (bench.folder, bench.checkout):
        bench.make_repository(path)
    (bench.folder / "code").write_text("uncommitted")

    outcome = bench.attempt("true", prepare="rm .git")

    assert (outcome.kind, outcome.limited) == (OutcomeKind.DEFERRED, True)
    assert (bench.folder / "code").read_text() == "uncommitted"


def test_the_error_of_a_missing_command_hides_the_secrets_in_it(bench: Bench):
    missing = {"type": "shell", "run": ["/no/such/S3CRET"]}
    bench.attempt(missing, secrets=("S3CRET",), workspace="in-place")

    assert bench.log.count("not found") == 1
    assert "S3CRET" not in bench.log


def test_a_todo_that_lost_its_lease_leaves_no_commit(redis_url: str, bench: Bench, make_worker: MakeWorker):
    checkout = bench.make_repository()
    parts = make_worker(r1=checkout)
    code = textwrap.dedent(
        f"""
        import os
        from coordination.runs.store import RunStore
        from coordination.backend.client import Profile, connect
        open("work", "w").close()
        store, run = RunStore(connect({redis_url!r}, Profile.COMMAND), "coord"), os.environ["COORD_RUN_ID"]
        store.redis.zadd(store.keys.leases, {{f"{{run}} T": 1}})
        assert store.lose(run, "T", 1).word == "settled"
        """
    )
    todos, action = {"T": "r1"}, {"T": {"action": python(code)}}
    run_id, _ = submit(parts.store, graph(todos, **action), ecosystem(todos, **action), Settings(), order())

    result = parts.deliveries.handle(run_id, "T", 1, "r1")

    assert result == TaskResult(TaskResultKind.LATER, "its lease was lost")
    assert git(checkout, "rev-parse", f"coord/{run_id}") == git(checkout, "rev-parse", "main")


def test_a_todo_with_damaged_records_is_logged_and_waits_for_the_end_of_its_lease(
    make_worker: MakeWorker, caplog: pytest.LogCaptureFixture
):
    parts = make_worker("r1")
    run_id, _ = submit(parts.store, graph({"T": "r1"}), ecosystem({"T": "r1"}), Settings(), order())
    state = parts.store.keys.run(run_id).state
    parts.redis.delete(state)
    parts.redis.set(state, "no hash")

    assert task_result(lambda: parts.deliveries, run_id, "T", 1, "r1").kind is TaskResultKind.LATER

    (told,) = [record for record in caplog.records if record.name == "workers.celery_worker"]
    assert told.exc_info is None
    assert "T of run" in told.getMessage()
    assert "\n" not in told.getMessage()
