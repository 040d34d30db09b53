"""Decide which sandbox holds for a todo. Pure: `bubblewrap.probe` finds out whether bubblewrap works."""

from __future__ import annotations

from dataclasses import dataclass

from coordination.errors import CoordinationError
from coordination.models import Action, AgentAction, Repo, Sandbox, SandboxKind, Todo
from coordination.settings import Settings


class NoSandbox(CoordinationError):
    """A todo must run in a sandbox, and this machine has none."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The sandbox of one command. 0 means no limit."""

    network: bool
    memory: int
    """Bytes, for all processes of the command together."""
    processes: int


@dataclass(frozen=True, kw_only=True)
class Decision:
    bounds: Bounds | None
    """None: the command runs without a sandbox."""
    asked: bool = False
    """True if the sandbox is demanded; False if it is a default, used where bubblewrap works."""


def decide(
    todo: Todo, repo: Repo, action: Action | None, settings: Settings, *, demanded: bool = False
) -> Decision:
    """Return the sandbox of a command: that of the todo, else of its repository, else of the settings.

    `action`: the action or compensation that is executed. Limits that are not said are those of the settings.
    `demanded`: the role of the person who ordered it demands a sandbox.
    """
    agent = action is None or isinstance(action, AgentAction)
    said = [rules for rules in (todo.sandbox, repo.sandbox) if rules is not None]
    kind = next((rules.kind for rules in said if "kind" in rules.model_fields_set), None)
    if kind is None and said:  # a mapping with limits only
        kind = SandboxKind.BUBBLEWRAP
    demanded = demanded or settings.sandbox == "require"
    asked = demanded or kind is SandboxKind.BUBBLEWRAP or settings.sandbox == "bubblewrap"
    if kind is SandboxKind.OFF and not demanded:
        return Decision(bounds=None)
    if not asked and not (settings.sandbox == "auto" and agent):
        return Decision(bounds=None)
    return Decision(bounds=_bounds(said, settings, agent=agent), asked=asked)


def _bounds(said: list[Sandbox], settings: Settings, *, agent: bool) -> Bounds:
    network = next((rules.network for rules in said if rules.network is not None), agent)
    memory = next((rules.memory for rules in said if rules.memory is not None), settings.sandbox_memory)
    processes = next(
        (rules.processes for rules in said if rules.processes is not None), settings.sandbox_processes
    )
    return Bounds(network=network, memory=memory, processes=processes)
