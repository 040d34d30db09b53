"""Agents, the programs that execute todos by a model, and the action that orders one."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from coordination.models.checks import Check
from coordination.models.values import (
    Amount,
    Command,
    Count,
    Id,
    Record,
    RepoName,
    Text,
    Word,
    relative_path,
)

AgentName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=50)]
MOST_ROUNDS = 20


class AgentKind(Word):
    """Program of an agent: how it is called, and how its output is read."""

    CLAUDE = "claude"
    CODEX = "codex"
    GEMINI = "gemini"
    OPENCODE = "opencode"
    COPILOT = "copilot"
    COMMAND = "command"
    """Any program that reads a prompt on its standard input. Only its exit code tells how it ended."""


class Prices(Record):
    """Prices of a model in USD for a million tokens."""

    input: Amount
    output: Amount
    cached: Amount | None = None
    """Tokens that the provider has in its cache; None: as `input`."""


class Agent(Record):
    """A named preset: which program executes a todo, and how it is called."""

    name: AgentName
    kind: AgentKind
    model: Text | None = None
    """None: the program's own default."""
    args: tuple[Text, ...] = ()
    """Further arguments of the program."""
    command: Command | None = None
    """The program, if it is not in PATH under the name of its kind. A `command` needs it."""
    prices: Prices | None = None
    """For a program that reports no cost."""
    parallel: Count | None = None
    """Most todos that it executes at once, over all machines. None: any number."""

    @model_validator(mode="after")
    def _check_command(self) -> Self:
        if self.kind is AgentKind.COMMAND and self.command is None:
            raise ValueError("an agent of the kind command needs `command`: a program that reads a prompt")
        return self


class Budget(Record):
    """Limits of what an agent may use for one todo, over all its attempts."""

    usd: Amount | None = None
    tokens: Count | None = None
    turns: Count | None = None
    """Steps of the program: requests to its model, or calls of its tools, as it counts them."""


class PlanBudget(Record):
    """Limits of what the agents of all todos of a plan may use, over all its runs."""

    usd: Amount | None = None
    tokens: Count | None = None


class DayBudget(Record):
    """Limits of what all agents of an ecosystem may use on a day (UTC)."""

    usd_per_day: Amount | None = None
    tokens_per_day: Count | None = None


_SET, _RANGE = re.compile(r"\[!?([^]/]+)\]"), re.compile(r"(.)-(.)")
"""A set of characters in a pattern, and a range in it."""


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _check_pattern(pattern: str) -> str:
    relative_path(pattern.removeprefix("!"))
    for characters in _SET.findall(pattern):
        for low, high in _RANGE.findall(characters):
            if low > high:
                raise ValueError(f"[{characters}] matches nothing: write {high}-{low}, not {low}-{high}")
    return pattern


PathPattern = Annotated[Text, AfterValidator(_check_pattern)]


class AgentAction(Record):
    """An agent executes the todo: in rounds, until its work passes all verify commands."""

    type: Literal["agent"]
    prompt: Text | None = None
    agent: Annotated[tuple[AgentName, ...], BeforeValidator(_as_list)] = ()
    """Agents by attempt: the first attempt takes the first, each later one the next, and the last one stays.
    Empty: the setting `agent`.
    """
    verify: tuple[Command | Check, ...] | None = None
    """Checks that its work must pass: commands, and names of those that the repository declares. None: those
    of kind `unit`. The submission fills in the checks of the names.
    """
    rounds: Annotated[Count, Field(le=MOST_ROUNDS)] = 3
    """Most starts of the program within an attempt."""
    budget: Budget = Budget()
    paths: tuple[PathPattern, ...] = ()
    """Paths and globs that it may change, and with `!` those that it may not. Empty: all."""
    continues: Id | None = None
    """The todo of the same plan and repository in whose session it goes on, if there is one, and its agent is
    the same.
    """
    reads: tuple[RepoName, ...] = ()
    """Other repositories that it sees, read-only, at the tip of the change set, else at their base branch."""
    read_only: Annotated[bool, Field(strict=True)] = False
    """It may change no file: its result is what it writes to COORD_OUTPUT. Nothing is committed."""
