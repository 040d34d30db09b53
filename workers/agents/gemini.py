"""Gemini CLI: `gemini -o stream-json`, tested with 0.61.0.

It tries again for minutes when its service refuses; only a setting of its user bounds that. What it says of
it, and the error that ends it, are plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from coordination.models import Agent
from coordination.runs.records import AgentUsage
from workers.agents.fields import Record, clean, count, fields, identifier, line, message, text, tool
from workers.agents.program import AgentProgram, Invocation, Records, Resume, Start, words

_RETRY = re.compile(r"Attempt \d+ failed(?: with status (\d{3}))?.*Retrying", re.IGNORECASE)


class Gemini(AgentProgram):
    reports = True
    resume = Resume.SAME_FOLDER
    state = (".gemini",)

    def invocation(self, agent: Agent, start: Start) -> Invocation:
        options = ["-o", "stream-json", "-y", "--skip-trust"]
        if start.session:
            options += ["--resume", start.session]
        elif start.new_session:
            options += ["--session-id", start.new_session]
        if agent.model:
            options += ["-m", agent.model]
        return Invocation(argv=words(agent, *options), stdin=start.prompt.encode())

    def environment(self, agent: Agent, *, confined: bool) -> Mapping[str, str]:
        return {"GEMINI_TELEMETRY_ENABLED": "false"}

    def records(self, before: AgentUsage) -> Records:
        return _Records()


class _Records(Records):
    def __init__(self) -> None:
        super().__init__()
        self._said = ""
        """A message so far: it comes in parts."""

    def take(self, record: Record) -> Iterator[str]:
        kind = text(record, "type")
        if kind == "message":
            if text(record, "role") == "assistant":
                self._works()
                self._said = clean(self._said + text(record, "content"))
            return
        yield from self._end_message()
        if kind == "init":
            self._set(session=identifier(record, "session_id"), model=text(record, "model"))
        elif kind == "tool_use":
            self._works()
            self._spend(AgentUsage(turns=1))
            yield tool(text(record, "tool_name"), fields(record, "parameters"))
        elif kind == "tool_result" and text(record, "status") == "error":
            yield line(f"failed: {text(record, 'error', 'message') or text(record, 'output')}")
        elif kind == "error":
            yield line(f"{text(record, 'severity') or 'error'}: {text(record, 'message')}")
        elif kind == "result":
            self._result(record)

    def take_text(self, text: str) -> Iterator[str]:
        if found := _RETRY.search(text[:1000]):
            self._set(retrying=line(text), status=int(found[1]) if found[1] else None)
            yield line(f"retry: {found[1] or text}")
        else:
            yield from super().take_text(text)

    def _end_message(self) -> Iterator[str]:
        if self._said:
            self._set(text=self._said)
            yield from message(self._said)
            self._said = ""

    def _result(self, record: Record) -> None:
        stats = fields(record, "stats")
        used = AgentUsage(
            turns=max(count(stats, "tool_calls"), self._report.usage.turns),
            input=count(stats, "input_tokens"),
            cached=count(stats, "cached"),
            output=count(stats, "output_tokens"),
        )
        if text(record, "status") == "success" and not record.get("error"):
            self._set(done=True, error="", status=None, retrying="", usage=used)
        else:
            said = text(record, "error", "message") or text(record, "status") or "error"
            self._set(done=False, error=said, retrying="", usage=used)
