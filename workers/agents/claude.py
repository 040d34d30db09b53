"""Claude Code: `claude -p`, tested with 2.1.197."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil

from coordination.models import Agent
from coordination.runs.records import AgentUsage
from workers.agents.fields import (
    Record,
    amount,
    count,
    fields,
    identifier,
    line,
    message,
    micro_usd,
    moment,
    records,
    status,
    text,
    tool,
)
from workers.agents.program import AgentProgram, Invocation, Records, Resume, Start, words

_OVER = {"error_max_turns": "turns", "error_max_budget_usd": "usd"}
_LEAST_USD = 0.0001


class Claude(AgentProgram):
    reports = True
    resume = Resume.SAME_FOLDER
    state = (".claude/projects",)

    def invocation(self, agent: Agent, start: Start) -> Invocation:
        options = ["-p", "--output-format", "stream-json", "--verbose"]
        options += ["--permission-mode", "bypassPermissions"]
        if start.session:
            options += ["--resume", start.session]
        elif start.new_session:
            options += ["--session-id", start.new_session]
        if agent.model:
            options += ["--model", agent.model]
        if start.usd_left is not None:
            options += ["--max-budget-usd", f"{max(start.usd_left, _LEAST_USD):.4f}"]
        if start.turns_left is not None:
            options += ["--max-turns", str(max(start.turns_left, 1))]
        return Invocation(argv=words(agent, *options), stdin=start.prompt.encode())

    def environment(self, agent: Agent, *, confined: bool) -> Mapping[str, str]:
        variables = {
            "CLAUDE_CODE_MAX_RETRIES": "2",
            "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_TELEMETRY": "1",
        }
        # without it root may not go without its questions
        return variables | ({"IS_SANDBOX": "1"} if confined else {})

    def records(self, before: AgentUsage) -> Records:
        return _Records()


class _Records(Records):
    def __init__(self) -> None:
        super().__init__()
        self._counted = ""
        """The message that was counted last: each block of it is a record."""

    def take(self, record: Record) -> Iterator[str]:
        kind, part = text(record, "type"), text(record, "subtype")
        if session := identifier(record, "session_id"):
            self._set(session=session)
        if kind == "assistant":
            yield from self._assistant(record)
        elif kind == "user":
            yield from (_failure(one) for one in records(record, "message", "content") if _failed(one))
        elif kind == "rate_limit_event" and text(record, "rate_limit_info", "status") == "rejected":
            self._set(until=moment(record, "rate_limit_info", "resetsAt"))
        elif kind == "result":
            self._result(record)
        elif part == "init":
            self._works()
            self._set(model=text(record, "model"), version=text(record, "claude_code_version"))
        elif part == "api_retry":
            yield self._retry(record)

    def _assistant(self, record: Record) -> Iterator[str]:
        said = fields(record, "message")
        if text(said, "model") == "<synthetic>":  # the text of an error that the result repeats
            return
        self._works()
        if (name := text(said, "id")) != self._counted:
            self._counted = name
            self._spend(_tokens(fields(said, "usage"), turns=1))
        for block in records(said, "content"):
            if text(block, "type") == "tool_use":
                yield tool(text(block, "name"), fields(block, "input"))
            elif words_said := text(block, "text"):
                if not text(record, "parent_tool_use_id"):
                    self._set(text=words_said)
                yield from message(words_said)

    def _retry(self, record: Record) -> str:
        code = status(record, "error_status")
        why = str(code) if code else text(record, "error") or "error"
        self._set(retrying=f"{why} {text(record, 'error')}".strip(), status=code)
        return line(f"retry in {ceil((amount(record, 'retry_delay_ms') or 0) / 1000)} s: {why}")

    def _result(self, record: Record) -> None:
        part, said = text(record, "subtype"), text(record, "result")
        # `usage` lacks the last request of a round that its budget ended, `modelUsage` has it
        models = [one for one in fields(record, "modelUsage").values() if isinstance(one, Mapping)]
        counted = map(_tokens_of_model, models) if models else [_tokens(fields(record, "usage"))]
        cost = micro_usd(record, "total_cost_usd")
        self._set(
            usage=sum(counted, AgentUsage(turns=count(record, "num_turns"), micro_usd=cost)),
            over=_OVER.get(part, ""),
            interrupted=text(record, "terminal_reason").startswith("aborted"),
            retrying="",
            status=status(record, "api_error_status"),
        )
        if part == "success" and record.get("is_error") is False:
            self._set(done=True, error="", text=said or self._report.text)
        else:
            errors = record.get("errors")
            listed = [one for one in errors if isinstance(one, str)] if isinstance(errors, list) else []
            self._set(done=False, error=said or line("; ".join(listed)) or part or "error")


def _tokens(usage: Record, turns: int = 0) -> AgentUsage:
    cached, written = count(usage, "cache_read_input_tokens"), count(usage, "cache_creation_input_tokens")
    return AgentUsage(
        turns=turns,
        input=count(usage, "input_tokens") + cached + written,
        cached=cached,
        output=count(usage, "output_tokens"),
    )


def _tokens_of_model(usage: Record) -> AgentUsage:
    cached, written = count(usage, "cacheReadInputTokens"), count(usage, "cacheCreationInputTokens")
    read = count(usage, "inputTokens") + cached + written
    return AgentUsage(input=read, cached=cached, output=count(usage, "outputTokens"))


def _failed(block: Record) -> bool:
    return block.get("is_error") is True


def _failure(block: Record) -> str:
    return line(f"failed: {text(block, 'content')}")
