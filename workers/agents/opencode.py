"""opencode: `opencode run`, tested with 1.18.33.

It tries again without end when its service refuses, and says nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from coordination.models import Agent
from coordination.runs.records import AgentUsage
from workers.agents.fields import (
    Record,
    count,
    fields,
    identifier,
    line,
    message,
    micro_usd,
    status,
    text,
    tool,
)
from workers.agents.program import AgentProgram, Invocation, Records, Resume, Start, words


class OpenCode(AgentProgram):
    reports = True
    resume = Resume.SAME_FOLDER
    state = (".local/share/opencode",)

    def invocation(self, agent: Agent, start: Start) -> Invocation:
        options = ["run", "--format", "json", "--auto"]
        if start.session:
            options += ["-s", start.session]
        if agent.model:
            options += ["--model", agent.model]
        return Invocation(argv=words(agent, *options), stdin=start.prompt.encode())

    def environment(self, agent: Agent, *, confined: bool) -> Mapping[str, str]:
        return {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_LSP_DOWNLOAD": "1"}

    def records(self, before: AgentUsage) -> Records:
        return _Records()


class _Records(Records):
    def take(self, record: Record) -> Iterator[str]:
        kind, part = text(record, "type"), fields(record, "part")
        if session := identifier(record, "sessionID"):
            self._set(session=session)
        if kind == "error":
            error = fields(record, "error")
            said = text(error, "data", "message") or text(error, "name") or "error"
            self._set(done=False, error=said, status=status(error, "data", "statusCode"))
            yield line(f"error: {said}")
            return
        if kind in ("step_start", "text", "tool_use", "step_finish"):
            self._works()
        if kind == "text":
            self._set(text=text(part, "text"))
            yield from message(text(part, "text"))
        elif kind == "tool_use":
            state = fields(part, "state")
            yield tool(text(part, "tool"), fields(state, "input"))
            if text(state, "status") == "error":
                yield line(f"failed: {text(state, 'error')}")
        elif kind == "step_finish":
            self._spend(_used(part))
            self._set(done=text(part, "reason") == "stop")


def _used(part: Record) -> AgentUsage:
    tokens = fields(part, "tokens")
    cached, written = count(tokens, "cache", "read"), count(tokens, "cache", "write")
    return AgentUsage(
        turns=1,
        input=count(tokens, "input") + cached + written,
        cached=cached,
        output=count(tokens, "output") + count(tokens, "reasoning"),
        micro_usd=micro_usd(part, "cost"),
    )
