"""The library under the names of the original specification, which awaits its operations."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from coordination import (
    CoordinationExecutor,
    CoordinationManager,
    CoordinationManagerWithMemory,
    CoordinationMemory,
    NotFound,
    NotSupported,
)
from tests.testbed import PLAN, Testbed

TODOS = [
    {"id": "A", "repo": "api", "task": "write", "action": "echo made > file; echo said"},
    {"id": "B", "repo": "api", "task": "fail", "action": "false"},
    {"id": "C", "repo": "api", "task": "follow", "action": "true", "blocked_by": ["B"]},
]


@pytest.fixture
def written(testbed: Testbed, monkeypatch: pytest.MonkeyPatch) -> Testbed:
    testbed.write(TODOS)
    monkeypatch.chdir(testbed.folder)
    return testbed


def test_an_executor_runs_todos_and_plans_on_the_workers(written: Testbed) -> None:
    async def story() -> list[dict[str, Any]]:
        executor = CoordinationExecutor(CoordinationManager(written.file))
        return [
            await executor.execute_todo("A", pool_type="mahavishnu", timeout=60),
            await executor.execute_todo("C"),
            await executor.sweep_plan(PLAN, parallel=False),
            await executor.validate_plan_completion(PLAN),
        ]

    one, blocked, sweep, standing = asyncio.run(story())

    assert (one["success"], one["todo_id"], one["repo"], one["error"]) == (True, "A", "api", None)
    assert "said" in one["output"]
    assert one["duration_seconds"] > 0
    assert one["worker"]
    assert (blocked["success"], blocked["start_time"], "B" in blocked["error"]) == (False, None, True)
    assert blocked.keys() == one.keys()
    assert {one["todo_id"]: one["success"] for one in sweep["results"]} == {"A": True, "B": False, "C": False}
    assert [sweep[name] for name in ("success", "total_todos", "successful", "failed", "skipped")] == [
        False, 3, 1, 1, 1,
    ]  # fmt: skip
    assert standing["valid"] is False


def test_other_pools_are_refused_by_name(written: Testbed) -> None:
    executor = CoordinationExecutor()
    with pytest.raises(NotSupported, match="kubernetes"):
        asyncio.run(executor.execute_todo("A", pool_type="kubernetes"))
    with pytest.raises(NotSupported, match="round_robin"):
        asyncio.run(executor.sweep_plan(PLAN, pool_selector="round_robin"))
    with pytest.raises(NotSupported, match="dict"):
        CoordinationExecutor(None, {})
    with pytest.raises(NotFound):
        asyncio.run(executor.execute_todo("Z"))


def test_the_memory_is_awaited_or_not(written: Testbed) -> None:
    async def story() -> None:
        manager = CoordinationManagerWithMemory(str(written.file))
        made = await manager.create_issue_with_memory(title="a memory leak", repos=["api"])
        await manager.check_dependencies_with_memory()
        assert await manager.memory.store_issue_event("updated", made.record, changes={"status": "resolved"})
        found = await manager.memory.search_coordination_history("leak", entity_type="issue", repo="api")
        assert {one.subject for one in found} == {made.record.id}
        assert len(await manager.memory.get_coordination_trends(repo="api", days=30)) == 3
        manager.close()
        memory = CoordinationMemory(str(written.file))
        assert await memory.search_coordination_history("leak") == found
        await memory.close()

    asyncio.run(story())
