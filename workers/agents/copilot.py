"""GitHub Copilot CLI: `copilot --output-format json`, tested with 1.0.102."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from coordination.models import Agent
from coordination.runs.records import AgentUsage
from workers.agents.fields import Record, count, fields, identifier, line, message, status, text, tool
from workers.agents.program import AgentProgram, Invocation, Records, Resume, Start, words


class Copilot(AgentProgram):
    reports = True
    resume = Resume.SAME_FOLDER
    state = (".copilot",)

    def invocation(self, agent: Agent, start: Start) -> Invocation:
        options = ["--output-format", "json", "--allow-all-tools"]
        if start.session:
            options.append(f"--resume={start.session}")
        elif start.new_session:
            options.append(f"--session-id={start.new_session}")
        if agent.model:
            options += ["--model", agent.model]
        return Invocation(argv=words(agent, *options), stdin=start.prompt.encode())

    def environment(self, agent: Agent, *, confined: bool) -> Mapping[str, str]:
        return {"COPILOT_AUTO_UPDATE": "false"}

    def records(self, before: AgentUsage) -> Records:
        return _Records()


class _Records(Records):
    def take(self, record: Record) -> Iterator[str]:
        kind, data = text(record, "type"), fields(record, "data")
        if kind == "assistant.message":
            self._works()
            self._spend(AgentUsage(turns=1, output=count(data, "outputTokens")))
            self._set(model=text(data, "model"), text=text(data, "content") or self._report.text)
            yield from message(text(data, "content"))
        elif kind == "assistant.turn_start":
            self._works()
        elif kind == "tool.execution_start":
            yield tool(text(data, "toolName"), fields(data, "arguments"))
        elif kind == "tool.execution_complete" and data.get("success") is False:
            yield line(f"failed: {text(data, 'error', 'message')}")
        elif kind == "model.call_failure":
            code = status(data, "statusCode")
            self._set(retrying=f"error of the model: {code}", status=code)
        elif kind == "assistant.turn_retry":
            yield line(f"retry: {self._report.status or ''} {text(data, 'reason')}")
        elif kind == "session.error":
            said = text(data, "message") or text(data, "errorType") or "error"
            code = status(data, "statusCode")
            self._set(done=False, error=said, status=code, retrying="")
            yield line(f"error: {said}")
        elif kind == "result":
            self._set(session=identifier(record, "sessionId"))
            self._set(done=record.get("exitCode") == 0 and not self._report.error)
