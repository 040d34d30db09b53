"""Names of the original specification that have no other place: each passes its call on to `Coord`.

Operations of coord are synchronous. Results of `coord.memory` and of the methods `*_with_memory` can be
awaited as well; the methods of `CoordinationExecutor` are awaited only, and work in a thread.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordination.api.coord import Coord
from coordination.errors import CoordinationError, NotSupported
from coordination.runs.records import TodoState
from coordination.tracker.manager import CoordinationManager

if TYPE_CHECKING:
    from coordination.api.run import Run
    from coordination.history.memory import Memory
    from coordination.models import Todo
    from coordination.runs.views.records import TodoView

WORKERS = "mahavishnu"
"""The kind of pool that coord has: workers, with a queue for each repository."""
LEAST_LOADED = "least_loaded"


class CoordinationManagerWithMemory:
    """`CoordinationManager`, whose edits the history keeps, and `memory`, which searches it."""

    def __init__(self, ecosystem_path: str | Path | None = None) -> None:
        self._coord = Coord(ecosystem_path)

    @property
    def memory(self) -> Memory:
        return self._coord.memory

    def close(self) -> None:
        self._coord.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coord.manager, name)


class CoordinationMemory:
    """`coord.memory` of a file."""

    def __init__(self, ecosystem_path: str | Path | None = None) -> None:
        self._coord = Coord(ecosystem_path)

    async def close(self) -> None:
        self._coord.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coord.memory, name)


class CoordinationExecutor:
    """Executes todos and plans of a manager's file on the workers that serve its repositories."""

    def __init__(
        self, coordination_manager: CoordinationManager | None = None, pool_manager: object = None
    ) -> None:
        """Raises NotSupported for a `pool_manager`: workers find their work themselves."""
        if pool_manager is not None:
            raise NotSupported(
                f"a pool manager ({type(pool_manager).__name__}) is not supported: workers find their work "
                "themselves",
                "leave it out, and start workers: coord up, or coord worker --all",
            )
        self.coordination = coordination_manager or CoordinationManager()

    async def execute_todo(
        self,
        todo_id: str,
        pool_type: str = WORKERS,
        pool_selector: str = LEAST_LOADED,
        timeout: int = 3600,
    ) -> dict[str, Any]:
        """Run one todo to its end. `timeout`: seconds.

        The result has success, todo_id, task, repo, duration_seconds, output, error, start_time, end_time,
        pool and worker, also where the todo could not start: then `error` says why.

        Raises NotFound, NotSupported.
        """
        _refuse_other_pools(pool_type, pool_selector)
        return await asyncio.to_thread(self._execute, todo_id, timedelta(seconds=timeout))

    async def sweep_plan(
        self,
        plan_id: str,
        pool_type: str = WORKERS,
        pool_selector: str = LEAST_LOADED,
        parallel: bool = True,
    ) -> dict[str, Any]:
        """Run a plan to its end. Without `parallel`, one todo at a time.

        The result has success, plan_id, total_todos, successful, failed, skipped, error and results: a result
        for each todo, as `execute_todo` returns it.

        Raises NotFound, NotSupported.
        """
        _refuse_other_pools(pool_type, pool_selector)
        return await asyncio.to_thread(self._sweep, plan_id, parallel=parallel)

    async def validate_plan_completion(self, plan_id: str) -> dict[str, Any]:
        """Check whether a plan is complete: `valid`, and the fields of PlanCompletion. Raises NotFound."""
        found = await asyncio.to_thread(self.coordination.validate_plan_completion, plan_id)
        return {"valid": found.complete, **found.model_dump(mode="json")}

    def _execute(self, todo_id: str, timeout: timedelta) -> dict[str, Any]:
        with Coord(self.coordination.document.path) as coord:
            todo = coord.manager.get_todo(todo_id)
            try:
                run = coord.runs.execute(todo_id, timeout=timeout)
                view = next(one for one in run.wait().todos if one.id == todo_id)
            except CoordinationError as error:
                return _result(todo, error=str(error))
            return _result(todo, view, run)

    def _sweep(self, plan_id: str, *, parallel: bool) -> dict[str, Any]:
        with Coord(self.coordination.document.path) as coord:
            coord.manager.get_plan(plan_id)
            error, results = "", list[dict[str, Any]]()
            states = list[TodoState]()
            try:
                run = coord.runs.sweep(plan_id, max_parallel=None if parallel else 1)
                todos = {todo.id: todo for todo in coord.manager.list_todos()}
                for view in run.wait().todos:
                    if view.id in todos:
                        results.append(_result(todos[view.id], view, run))
                        states.append(view.state)
            except CoordinationError as refused:
                error = str(refused)
            succeeded = states.count(TodoState.SUCCEEDED)
            skipped = sum(one in (TodoState.SKIPPED, TodoState.CANCELLED) for one in states)
            return {
                "success": not error and succeeded == len(states),
                "plan_id": plan_id,
                "total_todos": len(states),
                "successful": succeeded,
                "failed": len(states) - succeeded - skipped,
                "skipped": skipped,
                "error": error or None,
                "results": results,
            }


def _refuse_other_pools(pool_type: str, pool_selector: str) -> None:
    if pool_type != WORKERS:
        raise NotSupported(
            f"pool_type {pool_type!r} is not supported: coord has workers only",
            f"leave it out, or name the workers: pool_type={WORKERS!r}",
        )
    if pool_selector != LEAST_LOADED:
        raise NotSupported(
            f"pool_selector {pool_selector!r} is not supported: a free worker of the repository takes a todo",
            f"leave it out, or name that: pool_selector={LEAST_LOADED!r}",
        )


def _result(
    todo: Todo, view: TodoView | None = None, run: Run | None = None, error: str | None = None
) -> dict[str, Any]:
    """Return the result of a todo; without a view it has not started."""
    return {
        "success": view is not None and view.state is TodoState.SUCCEEDED,
        "todo_id": todo.id,
        "task": todo.task,
        "repo": todo.repo,
        "duration_seconds": view.duration_s if view else None,
        "output": run.log_tail(todo.id) if run and view and view.started_at else None,
        "error": view.error or view.waits_for if view else error,
        "start_time": view.started_at if view else None,
        "end_time": view.finished_at if view else None,
        "pool": WORKERS,
        "worker": view.worker if view else None,
    }
