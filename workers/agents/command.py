"""Any program that reads a prompt on its standard input. Its exit code alone tells how it ended."""

from __future__ import annotations

from collections.abc import Mapping

from coordination.models import Agent
from coordination.runs.records import AgentUsage
from workers.agents.program import AgentProgram, Invocation, Records, Resume, Start, words


class CommandProgram(AgentProgram):
    reports = False
    resume = Resume.NEVER
    state = ()

    def invocation(self, agent: Agent, start: Start) -> Invocation:
        return Invocation(argv=words(agent), stdin=start.prompt.encode())

    def environment(self, agent: Agent, *, confined: bool) -> Mapping[str, str]:
        return {}

    def records(self, before: AgentUsage) -> Records:
        return Records()
