"""Turn a todo's action into a command: one executor for each kind of action, `Job` → `Command`.

An executor decides which command runs and what it reads; starting, watching and ending it is the same for all
(`workers/process/child.py`). A manual todo has no executor: it waits for a person and never reaches a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from coordination.errors import PlanRefused
from workers.executors import commands
from workers.executors.seam import Command, Job

Executor = Callable[[Job], Command]

EXECUTORS: Mapping[str, Executor] = {
    "shell": commands.shell_command,
    "python": commands.python_command,
    "agent": commands.agent_command,
}
"""By the action's type, as written in ecosystem.yaml."""


def command_for(job: Job) -> Command:
    """Return the command for a job. Raises PlanRefused if there is none."""
    kind = job.action.type if job.action else "agent"
    if kind not in EXECUTORS:
        raise PlanRefused(
            f"{job.todo.id}: a worker does not execute a {kind} action",
            f"when it is done: coord complete-todo {job.todo.id}",
        )
    return EXECUTORS[kind](job)


__all__ = ["EXECUTORS", "Command", "Executor", "Job", "command_for"]
