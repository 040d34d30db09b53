"""Codex: `codex exec`, tested with 0.169.0.

Its retries are bounded (4 of a request, 5 of a stream), and a command line cannot change them: they belong to
the provider, and a provider that is built in cannot be overridden.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from coordination.models import Agent
from coordination.runs.records import AgentUsage
from workers.agents.fields import Record, count, fields, identifier, line, message, records, text
from workers.agents.program import AgentProgram, Invocation, Records, Resume, Start, words

_CALLS = ("command_execution", "file_change", "mcp_tool_call", "web_search")
_STATUS = re.compile(r"\bstatus:? (\d{3})\b")
_RETRY = re.compile(r"Reconnecting\.\.\.\s")


class Codex(AgentProgram):
    reports = True
    resume = Resume.ANYWHERE
    state = (".codex",)

    def invocation(self, agent: Agent, start: Start) -> Invocation:
        options = ["exec", *(["resume"] if start.session else []), "--json"]
        options += ["--dangerously-bypass-approvals-and-sandbox"]
        options += ["-c", "check_for_update_on_startup=false", "-c", "analytics.enabled=false"]
        if agent.model:
            options += ["--model", agent.model]
        last = [start.session, "-"] if start.session else ["-"]
        argv = words(agent.model_copy(update={"args": ()}), *options, *agent.args, *last)
        return Invocation(argv=argv, stdin=start.prompt.encode())

    def environment(self, agent: Agent, *, confined: bool) -> Mapping[str, str]:
        return {}

    def records(self, before: AgentUsage) -> Records:
        return _Records(before)


class _Records(Records):
    def __init__(self, before: AgentUsage) -> None:
        super().__init__()
        self._before = before

    def take(self, record: Record) -> Iterator[str]:
        kind = text(record, "type")
        if kind == "thread.started":
            self._set(session=identifier(record, "thread_id"))
        elif kind == "turn.started":
            self._works()
        elif kind in ("item.started", "item.completed"):
            yield from self._item(fields(record, "item"), ended=kind == "item.completed")
        elif kind == "turn.completed":
            self._set(
                done=True, error="", status=None, retrying="", usage=self._used(fields(record, "usage"))
            )
        elif kind == "turn.failed":
            said = text(record, "error", "message") or "turn.failed"
            self._set(done=False, error=said, retrying="", status=_status(said))
        elif kind == "error":
            said = text(record, "message")
            self._set(done=False, retrying=said or "error", status=_status(said))
            yield line(f"retry: {said}" if _RETRY.match(said) else f"error: {said}")

    def _item(self, item: Record, *, ended: bool) -> Iterator[str]:
        kind = text(item, "type")
        if kind == "error":  # a warning: errors that end the turn are records of their own
            if ended:
                yield line(f"warning: {text(item, 'message')}")
            return
        self._works()
        if kind == "command_execution":
            code = item.get("exit_code")
            if not ended:
                yield line(f"$ {text(item, 'command')}")
            elif type(code) is int and code:
                yield line(f"failed: exit code {code}")
        elif ended and kind == "agent_message":
            self._set(text=text(item, "text"))
            yield from message(text(item, "text"))
        elif ended and kind == "file_change":
            yield from (line(f"edit {text(one, 'path')}") for one in records(item, "changes"))
        elif ended and kind == "mcp_tool_call":
            yield line(f"tool {text(item, 'server')} {text(item, 'tool')}")
        if ended and kind in _CALLS:
            self._spend(AgentUsage(turns=1))

    def _used(self, total: Record) -> AgentUsage:
        """Return the tokens of this round. `total`: of the whole thread, also before it was resumed."""
        return AgentUsage(
            turns=self._report.usage.turns,
            input=max(count(total, "input_tokens") - self._before.input, 0),
            cached=max(count(total, "cached_input_tokens") - self._before.cached, 0),
            output=max(count(total, "output_tokens") - self._before.output, 0),
        )


def _status(said: str) -> int | None:
    found = _STATUS.search(said)
    return int(found[1]) if found else None
