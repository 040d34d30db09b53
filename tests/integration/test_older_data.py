"""Redis came back with older data while a worker held a claim: nothing begins with what that data does not know yet."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from coordination.models import Repo
from coordination.runs.submission.submit import submit
from coordination.settings import Settings
from tests.integration.conftest import MakeWorker
from tests.plans import ecosystem, graph, order
from tests.stage import git
from tests.waiting import until
from workers.app import Container
from workers.outcome import TaskResult, TaskResultKind

TODOS = {"A": "r1", "B": ("r2", ["A"])}


@pytest.fixture
def parts(make_worker: MakeWorker, tmp_path: Path) -> Container:
    repos = {name: tmp_path / name for name in ("r1", "r2")}
    for path in repos.values():
        git(tmp_path, "init", "-q", "-b", "main", str(path))
        git(path, "commit", "-q", "--allow-empty", "-m", "first")
    return make_worker(**repos)


def test_a_todo_claimed_before_older_data_came_back_begins_with_its_predecessors(
    parts: Container, tmp_path: Path
):
    seen, go, prepared = tmp_path / "seen", tmp_path / "go", tmp_path / "prepared"
    action: dict[str, Any] = {
        "A": {"action": 'echo "{\\"x\\": 1}" > "$COORD_OUTPUT"'},
        "B": {"action": f'cat "$COORD_CONTEXT" > {seen}'},
    }
    # `prepare` stands between B's claim and the reading of what A left.
    waits = f"touch {prepared}; while [ ! -e {go} ]; do sleep 0.02; done"
    declared = ecosystem(TODOS, **action)
    declared = declared.model_copy(update={"repos": (Repo(name="r1"), Repo(name="r2", prepare=waits))})
    run_id, _ = submit(parts.store, graph(TODOS, **action), declared, Settings(), order())
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
    claimed.join(30)

    assert [verdict.kind for verdict in verdicts] == [TaskResultKind.LATER]
    assert not seen.exists(), seen.read_text()
    for todo, repo in (("A", "r1"), ("B", "r2")):
        assert parts.deliveries.handle(run_id, todo, 1, repo) == TaskResult(TaskResultKind.DONE)
    assert [one["output"] for one in json.loads(seen.read_text())["predecessors"]] == [{"x": 1}]
