"""Recordings of the real programs, each with the exit code that came with it, and how the round counts."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordination.models import AgentKind
from coordination.runs.records import AgentUsage
from coordination.terminal import CONTROLS
from tests.agents.rounds import NAMES, Round, kind_of, read, recording
from tests.examples import examples
from workers.agents.fields import LONGEST_LINE
from workers.agents.judge import RETRIES, RoundEnd

End = RoundEnd
OUTCOMES = {
    "claude-edit": (0, End.DONE), "claude-ask": (0, End.QUESTION), "claude-auth": (1, End.AUTH),
    "claude-forbidden": (1, End.AUTH), "claude-nokey": (1, End.AUTH), "claude-quota": (1, End.QUOTA),
    "claude-error": (1, End.OVERLOADED), "claude-overload": (1, End.OVERLOADED),
    "claude-rate": (1, End.LIMITED),
    "claude-retry": (1, End.LIMITED), "claude-limit-until": (1, End.LIMITED),
    "claude-context": (1, End.CONTEXT), "claude-lost": (1, End.LOST),
    "claude-over-usd": (1, End.OVER), "claude-over-turns": (1, End.OVER),
    "claude-int": (0, End.INTERRUPTED), "claude-term": (143, End.INTERRUPTED),
    "codex-edit": (0, End.DONE), "codex-ask": (0, End.QUESTION), "codex-auth": (1, End.AUTH),
    "codex-forbidden": (1, End.AUTH), "codex-nokey": (1, End.AUTH), "codex-error": (1, End.OVERLOADED),
    "codex-overload": (1, End.OVERLOADED), "codex-quota": (1, End.QUOTA), "codex-rate": (1, End.LIMITED),
    "codex-context": (1, End.CONTEXT), "codex-fix": (0, End.DONE), "codex-fix-resumed": (0, End.DONE),
    "codex-fix-resumed-again": (0, End.DONE), "codex-lost": (1, End.LOST),
    "gemini-edit": (0, End.DONE), "gemini-auth": (145, End.AUTH), "gemini-rate": (None, End.LIMITED),
    "opencode-edit": (0, End.DONE), "opencode-auth": (1, End.AUTH),
    "copilot-edit": (0, End.DONE), "copilot-auth": (1, End.AUTH), "copilot-rate": (1, End.LIMITED),
    "copilot-lost": (1, End.LOST),
}  # fmt: skip
UNSHOWN = re.compile(f"[{CONTROLS}\n\t]")
EDITED = tuple(name for name in NAMES if name.endswith("-edit"))


def played(name: str, **end: Any) -> Round:
    code = OUTCOMES[name][0]
    end = end or ({"exit_code": code} if code is not None else {"exit_code": None, "reason": RETRIES})
    return read(kind_of(name), [recording(name)], **end)


def test_each_recording_has_an_outcome():
    assert set(OUTCOMES) == set(NAMES)


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_recorded_round_is_judged(name: str):
    assert played(name).judgement.kind is OUTCOMES[name][1]


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_recorded_round_is_done_only_with_its_last_record_and_exit_code_0(name: str):
    whole = recording(name)
    cut = whole[: whole.rstrip(b"\n").rfind(b"\n") + 1]
    ends: list[dict[str, Any]] = [{"exit_code": 1}, {"exit_code": 143}, {"exit_code": None, "signal": 15}]

    assert all(played(name, **end).judgement.kind not in (RoundEnd.DONE, RoundEnd.QUESTION) for end in ends)
    assert read(kind_of(name), [cut]).judgement.kind is not RoundEnd.DONE


@pytest.mark.parametrize("name", EDITED)
def test_the_transcript_shows_what_the_agent_says_and_runs(name: str):
    done = played(name)

    assert any(line.startswith("$ ") and "edited by stub" in line for line in done.transcript)
    assert done.transcript[-1] == "agent: DONE. I changed the file."
    assert done.judgement.text == done.report.text == "DONE. I changed the file."
    assert done.report.session


def test_usage_is_read_from_the_records():
    assert played("claude-edit").report.usage == AgentUsage(
        turns=2,
        input=2400,
        cached=400,
        output=100,
        micro_usd=12_700,
    )
    assert played("codex-edit").report.usage == AgentUsage(turns=1, input=2000, cached=400, output=100)
    assert played("gemini-edit").report.usage == AgentUsage(turns=1, input=3000, cached=600, output=150)
    assert played("opencode-edit").report.usage == AgentUsage(
        turns=2, input=2000, output=100, micro_usd=12_500
    )
    assert played("copilot-edit").report.usage.turns == 2


def test_the_cost_of_a_round_that_its_budget_ended_has_its_last_request():
    over = played("claude-over-usd")

    assert (over.judgement.text, over.report.usage.usd) == ("usd", pytest.approx(0.0508))
    assert over.report.usage.output == 400


def test_codex_counts_the_whole_thread_and_a_round_only_itself():
    total = AgentUsage()
    for name in ("codex-fix", "codex-fix-resumed", "codex-fix-resumed-again"):
        used = read(AgentKind.CODEX, [recording(name)], before=total).report.usage
        assert (used.turns, used.input, used.cached, used.output) == (1, 2000, 400, 100)
        total += used

    assert (total.input, total.output) == (6000, 300)


def test_usage_is_live_where_the_program_tells_it():
    beginning = b"".join(recording("claude-edit").splitlines(keepends=True)[:3])

    used = read(AgentKind.CLAUDE, [beginning], exit_code=None, signal=9).report.usage

    assert (used.turns, used.input) == (1, 1200)


def test_a_limit_has_the_time_that_the_program_told_and_no_other():
    assert played("claude-limit-until").judgement.until == datetime(2026, 11, 25, 9, 3, 9, tzinfo=UTC)
    assert all(played(name).judgement.until is None for name in OUTCOMES if name != "claude-limit-until")


def test_retries_are_told():
    assert "retry in 7 s: 429" in played("claude-retry").transcript
    assert "retry: 429" in played("gemini-rate").transcript
    assert "retry: 429 rate_limit" in played("copilot-rate").transcript
    assert played("gemini-rate").report.retrying


def test_a_program_that_went_on_after_a_retry_has_no_error():
    lines = recording("codex-edit").splitlines(keepends=True)
    retry = b'{"type":"error","message":"Reconnecting... 1/1 (unexpected status 503)"}\n'

    assert read(AgentKind.CODEX, [*lines[:2], retry, *lines[2:]]).judgement.kind is RoundEnd.DONE


def test_a_question_is_passed_on():
    assert played("claude-ask").judgement.text == "which database shall I use?"


@pytest.mark.parametrize(
    ("code", "kind"), [(0, RoundEnd.DONE), (1, RoundEnd.FAILED), (143, RoundEnd.INTERRUPTED)]
)
def test_only_the_exit_code_of_a_command_counts(code: int, kind: RoundEnd):
    output = [b'{"type":"result","is_error":true}\n429 rate limit\n']

    assert read(AgentKind.COMMAND, output, exit_code=code).judgement.kind is kind


NAMES_OF_FIELDS = sorted(
    {"type", "message", "item", "usage", "error", "data", "part", "content", "status", "errors", "stats"}
    | {"modelUsage", "session_id", "sessionID", "resetsAt", "rate_limit_info", "tokens", "cost", "text"}
)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["assistant", "result", "item.completed", "turn.completed", "success", "tool_use", "text"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES_OF_FIELDS) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=30,
)
RECORDS_OF = {
    kind: [
        json.loads(line)
        for name in NAMES
        if kind_of(name) is kind
        for line in recording(name).splitlines()
        if line.startswith(b'{"')
    ]
    for kind in AgentKind
}


def _with_junk(record: Any, data: st.DataObject) -> Any:
    """Return the record with one value, at any depth, replaced by junk."""
    if isinstance(record, dict) and record and data.draw(st.integers(0, 4)):
        key = data.draw(st.sampled_from(sorted(record)))
        return {**record, key: _with_junk(record[key], data)}
    if isinstance(record, list) and record and data.draw(st.booleans()):
        return [_with_junk(record[0], data), *record[1:]]
    return data.draw(JUNK)


@pytest.mark.parametrize("kind", list(AgentKind))
@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_records_that_lie_never_raise_and_chunks_change_nothing(kind: AgentKind, data: st.DataObject):
    known = RECORDS_OF[kind]
    one = st.sampled_from(known).map(lambda record: _with_junk(record, data)) if known else JUNK
    records = data.draw(st.lists(one | JUNK | st.sampled_from(known or [{}]), max_size=8))
    output = b"\n".join(json.dumps(record).encode() for record in records)
    output = output[: data.draw(st.integers(0, len(output)))] + data.draw(st.binary(max_size=10))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(output)), max_size=6)))
    chunks = [output[a:b] for a, b in zip([0, *cuts], [*cuts, len(output)], strict=True)]

    whole, cut = read(kind, [output]), read(kind, chunks)

    assert whole == cut
    assert all(len(line) <= LONGEST_LINE and not UNSHOWN.search(line) for line in whole.transcript)
    assert whole.report.session == "" or whole.report.session[0].isalnum()
    json.dumps([whole.report.text, whole.judgement.text]).encode()
