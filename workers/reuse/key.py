"""What makes two attempts the same: one digest of all that decides what comes of them, as far as it is known.

It is the action as a worker would run it, in its repository, from a git tree (not a commit: that has a date), with what its
predecessors handed over and the git tree at which each left its repository: all of them, for it is told of all (COORD_CONTEXT), by
the names under which it finds them there; and the shared context as it is told it. Not: its own id and words where no agent is told these, timeouts, retries, resources, gates, the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from coordination.models import AgentAction, Command
from coordination.runs.records import TodoSpec
from workers.reuse.inputs import Found

FORMAT = 2
"""Of keys and results: another one finds none of the former."""


def key_of(
    spec: TodoSpec,
    agent_command: Command | None,
    tree: str,
    inputs: Found,
    context: Mapping[str, Any],
    trees: Mapping[str, str],
) -> str:
    """Return SHA-256 over canonical JSON; `context`: as COORD_CONTEXT has it; `trees`: of each predecessor that left a commit."""
    parts = {
        "format": FORMAT,
        "repo": spec.repo.name,
        "prepare": spec.repo.prepare,
        "action": _action(spec, agent_command),
        "env": {name: str(value) for name, value in spec.todo.env.items()},
        "tree": tree,
        "inputs": inputs,
        "predecessors": [
            [one["todo"], one["output"], trees.get(one["todo"])] for one in context.get("predecessors", ())
        ],
        "context": [context.get("context"), context.get("context_omitted")],
    }
    return sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _action(spec: TodoSpec, agent_command: Command | None) -> object:
    todo = spec.todo
    if todo.action is not None and not isinstance(todo.action, AgentAction):
        return todo.action.model_dump(mode="json")
    words = [todo.action.prompt] if todo.action and todo.action.prompt else _in_words(spec)
    return {"agent": agent_command, "told": words}


def _in_words(spec: TodoSpec) -> list[object]:
    """Of what a prompt is made that was not written."""
    todo = spec.todo
    return [todo.id, todo.task, todo.description, todo.acceptance_criteria, spec.repo.role]
