"""Deliveries to a worker: retries of failures, checkpoints, data older than a claim, and waits."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from coordination.landing.graph import landing_graph
from coordination.landing.records import Landing, RepoLanding
from coordination.models import Ecosystem, Repo, Via
from coordination.runs.change_sets.records import RepoChange
from coordination.runs.views.records import TodoView
from coordination.settings import Settings
from tests.acceptance.gate import Gate
from tests.engine import submit, view_of
from tests.integration.conftest import MakeWorker
from tests.plans import ecosystem, graph, order
from tests.testbed import git
from tests.waiting import until
from tests.worktrees import claimant, make_checkout, save
from workers.attempt import attempt, output
from workers.attempt.output import KEPT_BYTES
from workers.container import Container
from workers.task_result import TaskResult, TaskResultKind
from workers.workspace.base import InPlace

SLOW = {"delay": "1h", "max_delay": "1h", "jitter": "none"}
NOISE = f"head -c {2 * KEPT_BYTES} /dev/zero | tr '\\0' '.' | fold; "


@pytest.fixture
def parts(make_worker: MakeWorker) -> Container:
    return make_worker("r1")


def first_attempt(
    parts: Container, command: str, retry: dict[str, Any], **fields: Any
) -> tuple[TodoView, str]:
    """Return the todo after its first attempt, and its log."""
    more = {"T": {"action": command, "workspace": "in-place", "retry": SLOW | retry, **fields}}
    run_id, _ = submit(
        parts.store, graph({"T": "r1"}, **more), ecosystem({"T": "r1"}, **more), Settings(), order()
    )
    parts.deliveries.handle(run_id, "T", 1, "r1")
    view = view_of(parts.store, run_id)
    log = parts.store.redis.xrange(parts.store.keys.run(run_id).log("T"))
    return view.todos[0], "".join(piece["text"] for _, piece in log)


@pytest.mark.parametrize(
    ("command", "sign", "fields"),
    [
        pytest.param("exit 75", 75, {}, id="an exit code"),
        pytest.param("kill -9 $$", 137, {}, id="a signal, as a shell shows it"),
        pytest.param("no-such-command", 127, {}, id="a command that is not there"),
        pytest.param("trap 'exit 3' TERM; sleep 60 & wait", "timeout", {"timeout": "300ms"},
        id="the end of its time"),
        pytest.param("echo; echo database is locked; exit 1", {"output": r"\blocked$"}, {}, id="a line"),
        pytest.param(f"{NOISE}echo; echo locked; {NOISE[:-2]} | head -c {KEPT_BYTES // 2}; exit 1",
        {"output": "^locked$"}, {},
                     id="a line in the last 64 KiB"),
    ],
)  # fmt: skip
def test_a_failure_with_a_sign_to_retry_on_is_tried_again_and_with_one_to_stop_on_is_not(
    parts: Container, command: str, sign: Any, fields: dict[str, Any]
):
    again, _ = first_attempt(parts, command, {"retry_on": [sign]}, **fields)
    stopped, log = first_attempt(parts, command, {"stop_on": [sign]}, **fields)

    assert again.state == "retrying"
    assert stopped.state == "failed"
    assert "not tried again: " in (stopped.error or "")
    assert "[coord] not tried again: " in log


@pytest.mark.parametrize(
    ("command", "sign", "fields"),
    [
        pytest.param("exit 1", 75, {}, id="another exit code"),
        pytest.param(
            "trap 'exit 75' TERM; sleep 60 & wait", 75, {"timeout": "300ms"}, id="a code left under our TERM"
        ),
        pytest.param("echo unlocked; exit 1", {"output": "^locked"}, {}, id="another line"),
        pytest.param(
            f"echo locked; {NOISE}exit 1", {"output": "locked"}, {}, id="a line before the last 64 KiB"
        ),
        pytest.param("exit 3", {"output": "exit code 3"}, {}, id="a line of coord in the log"),
    ],
)
def test_a_failure_without_such_a_sign_is_final(
    parts: Container, command: str, sign: Any, fields: dict[str, Any]
):
    todo, _ = first_attempt(parts, command, {"retry_on": [sign]}, **fields)

    assert todo.state == "failed"
    assert "it shows nothing that is in its retry_on" in (todo.error or "")


def test_a_search_that_takes_too_long_is_given_up_and_logged(
    parts: Container, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(output, "SEARCH_S", 0.3)
    endless = {"output": "(x+x+)+y"}
    todo, log = first_attempt(parts, "printf 'x%.0s' $(seq 60); exit 1", {"stop_on": [endless]})

    assert todo.state == "retrying"
    assert "the search for '(x+x+)+y' in the output takes too long: make the pattern simpler" in log


def test_a_refused_output_is_never_tried_again(parts: Container):
    todo, _ = first_attempt(
        parts, "echo locked; echo '{' > $COORD_OUTPUT", {"retry_on": [{"output": "locked"}]}
    )

    assert todo.state == "failed"
    assert "COORD_OUTPUT is not JSON" in (todo.error or "")


def test_a_checkpoint_is_sent_by_heartbeats_and_at_the_end_of_the_attempt(parts: Container, tmp_path: Path):
    whole, half, ended = (Gate(tmp_path, name) for name in ("whole", "half", "ended"))
    action = (
        'cat "$COORD_CHECKPOINT"; echo; case $COORD_ATTEMPT in 3) cp "$COORD_CHECKPOINT" "$COORD_OUTPUT"; '
        "exit;; 2) exit 1;; esac; "
        f"""echo '{{"n": 1}}' > "$COORD_OUTPUT"; {whole.action}; """
        f"""printf '{{"n": ' > "$COORD_OUTPUT"; {half.action}; """
        f"""echo '{{"n": 2}}' > "$COORD_OUTPUT"; {ended.action}; exit 1"""
    )
    more = {"A": {"workspace": "in-place", "action": action, "retry": {"delay": "1ms"}}}
    run_id, _ = submit(
        parts.store, graph({"A": "r1"}, **more), ecosystem({"A": "r1"}, **more), Settings(), order()
    )
    keys = parts.keys.run(run_id)

    def known() -> str | None:
        found: str | None = parts.redis.hget(keys.checkpoint, "A")
        return found

    with ThreadPoolExecutor() as pool:
        first = pool.submit(parts.deliveries.handle, run_id, "A", 1, "r1")
        whole.wait()
        assert known() is None
        parts.leases.run_once()
        assert known() == '{"n":1}'
        whole.open()
        half.wait()
        parts.leases.run_once()
        assert known() == '{"n":1}', "half of it is none"
        half.open()
        ended.wait()
        ended.open()
        first.result()
    assert known() == '{"n":2}'

    parts.store.fire(run_id, "A")
    parts.deliveries.handle(run_id, "A", 2, "r1")
    assert known() == '{"n":2}', "the second attempt wrote nothing"
    parts.store.fire(run_id, "A")
    parts.deliveries.handle(run_id, "A", 3, "r1")

    assert parts.store.status(run_id) == "succeeded"
    assert parts.redis.hgetall(keys.output) == {"A": '{"n":2}'}
    seen = [
        line
        for line in (tmp_path / ".coord" / "logs" / run_id / "A.log").read_text().splitlines()
        if line[:1] in "{n"
    ]
    assert seen == ["null", '{"n":2}', '{"n":2}']


def test_an_agents_check_that_runs_when_the_lease_is_lost_is_ended_and_nothing_is_committed(
    make_worker: MakeWorker, tmp_path: Path
):
    checkout, begun = make_checkout(tmp_path / "r1"), tmp_path / "begun"
    parts = make_worker(r1=checkout)
    settings = Settings(
        agents=[{"name": "a", "kind": "command", "command": ["sh", "-c", "echo two > code"]}], agent="a"
    )
    check = f"touch {begun}; exec flock {begun} sh -c 'while :; do :; done'"
    action = {"type": "agent", "prompt": "Make it two.", "verify": [check]}
    more = {"T": {"action": action, "sandbox": "off"}}
    todos = {"T": "r1"}
    run_id, _ = submit(parts.store, graph(todos, **more), ecosystem(todos, **more), settings, order())

    with ThreadPoolExecutor() as pool:
        attempt = pool.submit(parts.deliveries.handle, run_id, "T", 1, "r1")
        until(begun.exists)
        parts.store.redis.zadd(parts.keys.leases, {f"{run_id} T": 1})
        assert parts.store.lose(run_id, "T", 1).word == "settled"
        parts.leases.run_once()
        result = attempt.result()

    assert result == TaskResult(TaskResultKind.LATER, "its lease was lost")
    assert git(checkout, "rev-parse", f"coord/{run_id}") == git(checkout, "rev-parse", "main")
    subprocess.run(["flock", "-n", begun, "true"], check=True)


@pytest.fixture
def two_repos(make_worker: MakeWorker, tmp_path: Path) -> Container:
    repos = {name: tmp_path / name for name in ("r1", "r2")}
    for path in repos.values():
        git(tmp_path, "init", "-q", "-b", "main", str(path))
        git(path, "commit", "-q", "--allow-empty", "-m", "first")
    return make_worker(**repos)


def test_a_todo_claimed_before_older_data_came_back_begins_with_its_predecessors(
    two_repos: Container, tmp_path: Path
):
    seen, go, prepared = tmp_path / "seen", tmp_path / "go", tmp_path / "prepared"
    parts, todos = two_repos, {"A": "r1", "B": ("r2", ["A"])}
    action: dict[str, Any] = {
        "A": {"action": 'echo "{\\"x\\": 1}" > "$COORD_OUTPUT"'},
        "B": {"action": f'cat "$COORD_CONTEXT" > {seen}'},
    }
    # `prepare` runs between B's claim and the reading of A's output.
    waits = f"touch {prepared}; while [ ! -e {go} ]; do sleep 0.02; done"
    declared = ecosystem(todos, **action)
    declared = declared.model_copy(update={"repos": (Repo(name="r1"), Repo(name="r2", prepare=waits))})
    run_id, _ = submit(parts.store, graph(todos, **action), declared, Settings(), order())
    redis = parts.bundle_redis  # not decoded
    older = {key: redis.dump(key) for key in redis.scan_iter()}
    assert parts.deliveries.handle(run_id, "A", 1, "r1") == TaskResult(TaskResultKind.DONE)

    verdicts: list[TaskResult] = []
    claimed = threading.Thread(target=lambda: verdicts.append(parts.deliveries.handle(run_id, "B", 1, "r2")))
    claimed.start()
    until(prepared.exists)
    redis.flushall()
    for key, value in older.items():
        redis.restore(key, 0, value)
    go.touch()
    claimed.join(60)

    assert [verdict.kind for verdict in verdicts] == [TaskResultKind.LATER]
    assert not seen.exists(), seen.read_text()
    log = (parts.config.state / "logs" / run_id / "B.log").read_text()
    assert "[coord] stopped: the lease of this attempt was lost: Redis does not know the claim of B" in log
    assert "[coord] next: " in log
    for todo, repo in (("A", "r1"), ("B", "r2")):
        assert parts.deliveries.handle(run_id, todo, 1, repo) == TaskResult(TaskResultKind.DONE)
    assert [one["output"] for one in json.loads(seen.read_text())["predecessors"]] == [{"x": 1}]


def submitted(parts: Container, **fields: Any) -> str:
    more = {"T": {"action": "true", **fields}}
    run_id, _ = submit(
        parts.store, graph({"T": "r1"}, **more), ecosystem({"T": "r1"}, **more), Settings(), order()
    )
    return run_id


def delivered_again(parts: Container, run_id: str) -> str:
    """Deliver the todo twice; return its log."""
    parts.deliveries.handle(run_id, "T", 1, "r1")
    parts.store.fire(run_id, "T")
    parts.deliveries.handle(run_id, "T", 1, "r1")
    return (parts.config.state / "logs" / run_id / "T.log").read_text()


def test_a_wait_for_a_secret_is_logged_once(parts: Container):
    log = delivered_again(parts, submitted(parts, workspace="in-place", secrets=["token"]))

    assert log.count("[coord] waits for ") == 1
    assert "token" in log


def test_a_wait_for_a_workspace_names_its_holder_once(parts: Container, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attempt, "BUSY_PATIENCE", timedelta(0))
    holder = InPlace(state=parts.config.state, path=parts.served["r1"])
    holder.enter(claimant("other", 1), None, timedelta(0))
    try:
        log = delivered_again(parts, submitted(parts, workspace="in-place"))
    finally:
        holder.leave()

    assert log.count("[coord] waits: ") == 1
    assert f"worker {os.getpid()}" in log


def test_a_wait_of_a_landing_for_a_dirty_checkout_is_logged_once(make_worker: MakeWorker, tmp_path: Path):
    checkout = make_checkout(tmp_path / "r1")
    base = git(checkout, "rev-parse", "HEAD")
    tip = save(checkout, "work", work="done\n")
    git(checkout, "reset", "-q", "--hard", base)
    parts = make_worker(r1=checkout)
    change = RepoChange(repo="r1", branch="coord/P", base=base, tip=tip, run="R")
    facts = {"tip r1": tip, "base r1": base, "branch r1": "coord/P", "run r1": "R"}
    parts.redis.hset(parts.store.keys.changes("P"), mapping=facts)
    landing = Landing(
        change_set="P",
        title="a change",
        patience=timedelta(hours=1),
        repos=(RepoLanding(repo="r1", branch="main", via=Via.LOCAL, change=change),),
    )
    records, todos = landing_graph(Ecosystem(repos=(Repo(name="r1"),)), landing)
    run_id, reply = submit(parts.store, todos, records, Settings(), replace(order(), operation="land"))
    parts.dispatcher.follow(reply)
    for todo in ("P.check.r1", "P.locks"):
        assert parts.deliveries.handle(run_id, todo, 1, "r1").kind is TaskResultKind.DONE
    (checkout / "code.py").write_text("in the middle\n")

    for _ in range(2):
        assert parts.deliveries.handle(run_id, "P.land.r1", 1, "r1").kind is TaskResultKind.LATER
        parts.store.fire(run_id, "P.land.r1")

    (line,) = (parts.config.state / "logs" / run_id / "P.land.r1.log").read_text().splitlines()
    assert line.startswith("[coord] waits for the base branch: ")
    assert "uncommitted changes in code.py: commit or stash them" in line
