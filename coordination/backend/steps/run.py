"""Declares the steps in lua/run, and the records that they return."""

# No `from __future__ import annotations`: Step reads the types of the fields.
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from coordination.backend.keys import Keys, split_member
from coordination.backend.steps.step import ANY_NUMBER, OOM, READS, Step, checked

R = TypeVar("R")
KEYS = len(Keys("").step(""))
"""Number of keys of each step of a run: `Keys.step`."""
FURTHER_KEYS = (KEYS, ANY_NUMBER)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A message to a worker for one todo."""

    run_id: str
    todo_id: str
    attempt: int
    repo: str
    host: str | None
    """Host on which the run works on this repository; None before the first claim."""
    level: int
    index: int
    """Index of the todo in its level's chord."""
    size: int
    """Number of messages of its level; 0 if the run has no levels."""

    @classmethod
    def parse(cls, run_id: str, fields: Sequence[str]) -> "Delivery":
        """Parse a delivery in the reply of a step: todo, attempt, repo, host, level, index and size."""
        todo, attempt, repo, host, level, index, size = fields
        return cls(
            run_id=run_id, todo_id=todo, attempt=int(attempt), repo=repo, host=host or None,
            level=int(level), index=int(index), size=int(size),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Reply of a step: a word, and what the caller must do next."""

    word: str
    sends: tuple[Delivery, ...] = ()
    """Messages that must be sent now."""
    wakes: tuple[tuple[str, str], ...] = ()
    """Run and todo of each request that was granted by the step."""
    status: str = ""
    """Status of the run after the step."""
    header: tuple[Delivery, ...] = ()
    """The messages of a level that has opened, for one chord."""


class RunStep(Step[R]):
    run: str

    def reply(self, answer: Any) -> tuple[Reply, list[Any]]:
        """Return the reply, and the values that follow it in the replies of some steps."""
        if len(checked(list, answer)) < 4:
            raise TypeError("too short")
        word, sends, wakes, status, *rest = answer
        reply = Reply(
            word=word,
            sends=tuple([Delivery.parse(self.run, fields) for fields in sends]),
            wakes=tuple(map(split_member, wakes)),
            status=status,
        )
        return reply, rest


class ReplyStep(RunStep[Reply]):
    """A step that returns only a Reply."""

    def read(self, reply: Any) -> Reply:
        return self.reply(reply)[0]


class OpeningStep(RunStep[Reply]):
    """A step that may open a level, whose messages follow the reply."""

    def read(self, reply: Any) -> Reply:
        found, rest = self.reply(reply)
        if not rest:
            return found
        return replace(found, header=tuple(Delivery.parse(self.run, fields) for fields in rest[0]))


class AttemptStep(ReplyStep):
    """A step of the attempt that holds the todo with this fence."""

    todo: str
    fence: int


class Seal(OpeningStep, name="run/seal", keys=FURTHER_KEYS):
    writes: Collection[tuple[str, str, str]]
    """Repository, branch and tip of each part of the change set that the run writes."""


class Adopt(ReplyStep, name="run/adopt", keys=FURTHER_KEYS):
    status: str
    started_at_ms: str
    fence: int
    actor: str
    timers: Collection[tuple[str, float]]
    """Todo and due time, in ms."""


@dataclass(frozen=True, kw_only=True)
class Undo:
    """Facts of a todo that is to be undone."""

    was: str
    """End state before it is undone."""
    output: str
    """JSON of its output, else of its checkpoint; empty without either."""
    last: bool
    """Nothing else of the run is left to undo in this repository: its worktree and branch can be removed."""
    run: str
    """The run that executed it: an earlier one if it was carried over."""
    had_ended: bool
    """True if the run had ended before the rollback: people may have worked on its branches since."""
    result: str = ""
    """Its signed result; empty where Redis has none."""


class Claimed(NamedTuple):
    reply: Reply
    granted: Mapping[str, Any] | None
    """The fields of a Grant (runs/attempt_store.py); None where the claim was refused."""


class Claim(RunStep[Claimed], name="run/claim", keys=KEYS):
    todo: str
    attempt: int
    worker: str
    host: str
    request: str
    lease_ms: int
    unfit: str
    """Reason why this worker cannot work in the repository; empty if it can."""
    short: str
    """Reason why it starts no new todos, although it undoes some; empty if it starts them."""

    def read(self, reply: Any) -> Claimed:
        found, rest = self.reply(reply)
        return Claimed(found, self._granted(*rest) if found.word == "granted" else None)

    def _granted(
        self, fence: str, spec: str, tip: str, tries: str, checkpoint: str, tip_result: str, shared: Any,
        question: str, answer: str, usage: str, *undo: str,
    ) -> dict[str, Any]:  # fmt: skip
        return {
            "run_id": self.run,
            "todo_id": self.todo,
            "attempt": self.attempt,
            "fence": int(fence),
            "spec_json": spec,
            "tip": tip or None,
            "tries": int(tries),
            "checkpoint": checkpoint,
            "tip_result": tip_result,
            "shared": bool(shared),
            "question": question,
            "answer": answer,
            "usage": usage,
            "undo": _undo(*undo) if undo else None,
        }


def _undo(was: str, output: str, last: str, run: str, had_ended: str, result: str) -> Undo:
    return Undo(was=was, output=output, last=last == "1", run=run, had_ended=had_ended == "1", result=result)


class Settle(AttemptStep, name="run/settle", keys=KEYS, flags=OOM):
    outcome: str
    exit_code: int | str
    """Empty without one, as in Retry."""
    error: str
    output: str
    tip: str
    began: str
    blame: str
    cached: str
    signed: str
    figures: str
    check: str
    not_committed: str


class Retry(AttemptStep, name="run/retry", keys=KEYS, flags=OOM):
    counted: str
    """`tries`, or `handed_back`."""
    delay_ms: int
    exit_code: int | str
    error: str
    output: str
    blame: str


class Park(AttemptStep, name="run/park", keys=KEYS, flags=OOM):
    waits_for: str
    delay_ms: int


class HoldUp(AttemptStep, name="run/hold_up", keys=KEYS, flags=OOM):
    why: str
    delay_ms: int
    blame: str
    limit: int
    """Number of delays after which the todo fails; 0: no limit."""
    reason: str


class Checkpoint(AttemptStep, name="run/checkpoint", keys=KEYS):
    output: str


class NoteUsage(AttemptStep, name="run/note_usage", keys=KEYS):
    used: str


class NoteChange(AttemptStep, name="run/note_change", keys=KEYS):
    change_set: str
    repo: str
    landed: str
    tip: str
    base: str
    signed: str
    reverted: str
    data: Collection[tuple[str, str]]


class LostAttempt(NamedTuple):
    attempt: int
    worker: str


class Lose(RunStep[tuple[Reply, LostAttempt | None]], name="run/lose", keys=KEYS, flags=OOM):
    """Returns no attempt if the todo has not lost its worker."""

    todo: str
    cap: int
    at_ms: int | str
    """Empty: now."""
    dead_worker: str

    def read(self, reply: Any) -> tuple[Reply, LostAttempt | None]:
        found, rest = self.reply(reply)
        return found, LostAttempt(int(rest[0]), rest[1]) if rest else None


class Fire(ReplyStep, name="run/fire", keys=KEYS):
    todo: str


class Advance(OpeningStep, name="run/advance", keys=KEYS):
    level: int
    source: str


class Resend(ReplyStep, name="run/resend", keys=KEYS):
    age_ms: int
    limit: int


class Strand(ReplyStep, name="run/strand", keys=KEYS):
    served: Collection[tuple[str, str]]
    """Repository and host of each that a living worker serves."""


class Remainder(ReplyStep, name="run/remainder", keys=KEYS):
    piece: str


class ActorStep(ReplyStep):
    """An order of a person or program."""

    actor: str


class Cancel(ActorStep, name="run/cancel", keys=KEYS, flags=OOM): ...


class Pause(ActorStep, name="run/pause", keys=KEYS, flags=OOM): ...


class Resume(ActorStep, name="run/resume", keys=KEYS): ...


class Rollback(ActorStep, name="run/rollback", keys=KEYS):
    why: str


class Restore(ActorStep, name="run/restore", keys=KEYS):
    checkpoint: str


class DecisionStep(ReplyStep):
    """An order about one todo."""

    todo: str
    actor: str


class Complete(DecisionStep, name="run/complete", keys=KEYS): ...


class Approve(DecisionStep, name="run/approve", keys=KEYS):
    comment: str


class Reject(DecisionStep, name="run/reject", keys=KEYS):
    comment: str


class Accept(DecisionStep, name="run/accept", keys=KEYS):
    reason: str


class Stuck(RunStep[tuple[str, ...]], name="run/stuck", keys=KEYS, flags=READS):
    """Returns a sentence for each todo that nothing will ever move."""

    def read(self, reply: Any) -> tuple[str, ...]:
        found, rest = self.reply(reply)
        return tuple(rest[0]) if found.word == "stuck" else ()


class ReportStuck(ReplyStep, name="run/report_stuck", keys=KEYS):
    why: str
    where: str
