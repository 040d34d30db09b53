"""The interface of an agent's program to the loop of rounds. One module for each kind implements it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from coordination.agent_programs import PROGRAM_FACTS
from coordination.models import Agent, argv_of
from coordination.runs.records import AgentUsage
from workers.agents.fields import Record, line


class Resume(StrEnum):
    """The folder in which the program finds a session again."""

    SAME_FOLDER = "same folder"
    """Only in the folder, by its path, in which the session began."""
    ANYWHERE = "anywhere"
    NEVER = "never"


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start of a program."""

    prompt: str
    session: str = ""
    """The session to be continued; empty: a new one."""
    new_session: str = ""
    """A UUID for a new session, for programs that let it be chosen."""
    usd_left: float | None = None
    turns_left: int | None = None


@dataclass(frozen=True, kw_only=True)
class Invocation:
    argv: tuple[str, ...]
    stdin: bytes = b""


NOTHING_USED = AgentUsage()


@dataclass(frozen=True, kw_only=True)
class Report:
    """The content of the records of a round."""

    done: bool = False
    """True if the stream's last record says that the program has finished its work."""
    error: str = ""
    """The error with which the round ended."""
    status: int | None = None
    """Status of the model's API, with `error` or `retrying`."""
    retrying: str = ""
    """The error after which the program tries again, until a record says that it goes on."""
    until: datetime | None = None
    """When a limit of the account ends, if the program tells it."""
    over: str = ""
    """`turns` or `usd`: the limit of Start that ended the round."""
    interrupted: bool = False
    """True if the program says that a signal ended the round."""
    text: str = ""
    """The last message of the agent."""
    session: str = ""
    model: str = ""
    version: str = ""
    usage: AgentUsage = NOTHING_USED
    """Without the number of rounds; the cost as far as the program tells it."""


class Records:
    """Reads the output of one round. A record that lies or lacks a field never raises.

    Base class of the readers; as it is, the reader of a program that prints no records.
    """

    def __init__(self) -> None:
        self._report = Report()

    def take(self, record: Record) -> Iterator[str]:
        """Return the lines of the transcript for a record: what the agent says, runs and edits."""
        yield from ()

    def take_text(self, text: str) -> Iterator[str]:
        """Return the lines of the transcript for a line that is no record."""
        if shown := line(text):
            yield shown

    def report(self) -> Report:
        """Return what the output so far says. At any time: usage is live where the program tells it."""
        return self._report

    def _set(self, **changes: Any) -> None:
        self._report = replace(self._report, **changes)

    def _works(self) -> None:
        """Note that the program works: nothing that it said of its end holds."""
        self._set(done=False, error="", status=None, retrying="")

    def _spend(self, usage: AgentUsage) -> None:
        self._set(usage=self._report.usage + usage)


def words(agent: Agent, *arguments: str) -> tuple[str, ...]:
    """Return the command line: the agent's own command or the program of its kind, and its arguments."""
    arguments = (*arguments, *agent.args)
    if agent.command is None:
        return (PROGRAM_FACTS[agent.kind].name, *arguments)
    if isinstance(agent.command, str) and arguments:
        return ("sh", "-c", f'{agent.command} "$@"', agent.name, *arguments)
    return (*argv_of(agent.command), *arguments)


class AgentProgram(Protocol):
    """A kind of program. Its name and its login are in `coordination/agent_programs.py`."""

    reports: bool
    """False: it prints no records, and its exit code alone tells how it ended."""
    resume: Resume
    state: Sequence[str]
    """Folders of the home folder in which it keeps sessions. A login there is shown anew at each start."""

    def invocation(self, agent: Agent, start: Start) -> Invocation:
        """Return the command line of a round."""

    def environment(self, agent: Agent, *, confined: bool) -> Mapping[str, str]:
        """Return variables: no telemetry, no updates, few retries. `confined`: a sandbox is around it."""

    def records(self, before: AgentUsage) -> Records:
        """Return a reader for a round. `before`: what earlier rounds of the session have used."""
