"""Rounds of agents from recordings of real programs: what their readers and the judge make of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from coordination.models import Agent, AgentKind
from coordination.runs.records import AgentUsage
from workers.agents.judge import Judgement, judge
from workers.agents.program import Report
from workers.agents.programs import PROGRAMS
from workers.agents.stream import Item, JsonRecord, Stream

RECORDINGS = Path(__file__).parent / "recordings"
"""Output of real programs against a scripted model, as `kind-outcome.jsonl`, without most fields that nobody
reads.
"""
NAMES = tuple(sorted(path.stem for path in RECORDINGS.iterdir()))


@dataclass(frozen=True, kw_only=True)
class Round:
    report: Report
    transcript: tuple[str, ...]
    judgement: Judgement


def recording(name: str) -> bytes:
    return (RECORDINGS / f"{name}.jsonl").read_bytes()


def kind_of(name: str) -> AgentKind:
    return AgentKind(name.partition("-")[0])


def preset(kind: AgentKind, **fields: object) -> Agent:
    return Agent.model_validate({"name": kind.value, "kind": kind, **fields})


def read(
    kind: AgentKind,
    chunks: Iterable[bytes],
    *,
    exit_code: int | None = 0,
    signal: int | None = None,
    reason: str = "exited",
    before: AgentUsage = AgentUsage(),  # noqa: B008
) -> Round:
    """Return what is known of a round with this output and this end."""
    program, stream = PROGRAMS[kind], Stream()
    reader = program.records(before)
    transcript: list[str] = []
    tail: list[str] = []

    def take(items: Iterable[Item]) -> None:
        for item in items:
            if isinstance(item, JsonRecord):
                transcript.extend(reader.take(item.fields))
            else:
                transcript.extend(reader.take_text(item.text))
                tail.append(item.text)

    for chunk in chunks:
        take(stream.feed(chunk))
    take(stream.end())
    judgement = judge(
        reader.report(),
        exit_code=exit_code,
        signal=signal,
        reason=reason,
        tail="\n".join(tail[-20:]),
        reports=program.reports,
    )
    return Round(report=reader.report(), transcript=tuple(transcript), judgement=judgement)
