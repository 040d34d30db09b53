"""Records of what the steps of a run return, parsed from the replies of Redis; the inputs with which a todo
begins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from coordination.backend.keys import split_member
from coordination.runs.records import RunBrief, TodoSpec, TodoState
from coordination.trust.results import ResultRecord, check_change_set, check_predecessor


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A message for one todo, which a step makes necessary."""

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
    def parse(cls, run_id: str, fields: Sequence[str]) -> Delivery:
        """Parse a delivery in a Lua step's reply: todo, attempt, repo, host, level, index and size."""
        todo, attempt, repo, host, level, index, size = fields
        return cls(
            run_id=run_id, todo_id=todo, attempt=int(attempt), repo=repo, host=host or None,
            level=int(level), index=int(index), size=int(size),
        )  # fmt: skip


FACTS = ("commit", "run", "settled_by")
"""The facts of a predecessor that its dependents get."""


@dataclass(frozen=True, kw_only=True)
class PredecessorOutput:
    """Output of a settled todo for its dependents."""

    todo: str
    json: str
    """Its output as it was written; empty without one."""
    commit: str | None
    """The commit at which it left its repository; None where nothing was committed."""
    run: str
    """The run that executed it: an earlier one if it was carried over."""
    fence: int
    """Fence of its settle: of two todos of one repository, the one with the higher fence came later."""

    @property
    def output(self) -> Any:
        """Return its output, parsed; None without one."""
        return json.loads(self.json) if self.json else None


@dataclass(frozen=True, kw_only=True)
class TodoInputs:
    """Inputs with which a todo begins."""

    todos: list[PredecessorOutput]
    """Outputs of its predecessors, in the order of the request."""
    context: dict[str, Any]
    """The values that it sees of its context: key → value."""
    omitted: int
    """Number of context values that were left out because of the size limit."""
    claimed_by: int = 0
    """The fence of the todo's last claim when the inputs had been read; 0 where Redis has none."""
    signed: Mapping[str, str] = field(default_factory=dict)
    """Todo → its signed result, of those that were asked for and have one."""

    @classmethod
    def parse(
        cls, run_id: str, todos: Sequence[str], contexts: bool, signed: Sequence[str], answers: list[Any]
    ) -> TodoInputs:
        """Parse the answers for a context (if there is one), signed results, outputs (if there are any), and
        facts, in this order.
        """
        omitted, *seen = answers.pop(0) if contexts else [0]
        results = zip(signed, answers.pop(0), strict=True) if signed else ()
        outputs = answers.pop(0) if todos else []
        *facts, fence = answers.pop()
        count = len(FACTS)
        predecessors = [
            PredecessorOutput(
                todo=todo, json=output or "", commit=commit, run=run or run_id, fence=int(by or 0)
            )
            for todo, output, commit, run, by in zip(
                todos, outputs, *(facts[i::count] for i in range(count)), strict=True
            )
        ]
        return cls(
            todos=predecessors,
            context={key: json.loads(value) for key, value in zip(seen[::2], seen[1::2], strict=True)},
            omitted=omitted,
            claimed_by=int(fence or 0),
            signed={todo: result for todo, result in results if result},
        )


def check_output(output: PredecessorOutput, record: ResultRecord, brief: RunBrief) -> None:
    """Check that a predecessor's output is that of its signed result. Raises NotTrusted."""
    check_change_set(record, built_on=brief.built_on, change_set=brief.change_set)
    check_predecessor(
        record,
        runs=brief.runs_of(output.todo),
        run=output.run,
        todo=output.todo,
        repo=brief.repo_of[output.todo],
        fence=output.fence,
        commit=output.commit or "",
        output=output.json,
    )


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
    grant: Grant | None = None

    @classmethod
    def parse(cls, run_id: str, answer: Sequence) -> Reply:  # type: ignore[type-arg]
        word, sends, wakes, status, *header = answer
        return cls(
            word=word,
            sends=tuple(Delivery.parse(run_id, s) for s in sends),
            wakes=tuple(map(split_member, wakes)),
            status=status,
            header=tuple(Delivery.parse(run_id, d) for d in (header[0] if header else ())),
        )


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A granted claim: the worker holds the todo until its lease is lost."""

    run_id: str
    todo_id: str
    attempt: int
    fence: int
    spec_json: str
    """The spec as it is stored; it is parsed when it is first read, after its signature was verified."""
    tip: str | None
    """The commit at which the worktree must be; None before the first success in this repository."""
    tries: int
    """Failures of the todo itself so far."""
    checkpoint: str = ""
    """JSON that an earlier attempt wrote to COORD_OUTPUT before it ended; empty if none."""
    tip_result: str = ""
    """The signed result that led to the tip, or that began at it; empty where Redis has none."""
    shared: bool = False
    """True if any shared context exists; without any, no worker reads it."""
    undo: Undo | None = None
    """Set where the todo is to be undone instead of executed."""

    @cached_property
    def spec(self) -> TodoSpec:
        return TodoSpec.model_validate_json(self.spec_json)

    @classmethod
    def parse(cls, run_id: str, todo_id: str, attempt: int, reply: Sequence[str]) -> Grant:
        """Parse what the claim step returns after the header of its reply."""
        fence, spec, tip, tries, checkpoint, tip_result, shared, *undo = reply
        return cls(
            run_id=run_id,
            todo_id=todo_id,
            attempt=attempt,
            fence=int(fence),
            spec_json=spec,
            tip=tip or None,
            tries=int(tries),
            checkpoint=checkpoint,
            tip_result=tip_result,
            shared=bool(shared),
            undo=Undo.parse(undo) if undo else None,
        )


@dataclass(frozen=True, kw_only=True)
class Undo:
    """Facts of a todo that is to be undone."""

    was: TodoState
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

    @classmethod
    def parse(cls, reply: Sequence[str]) -> Undo:
        was, output, last, run, had_ended, result = reply
        return cls(
            was=TodoState(was),
            output=output,
            last=last == "1",
            run=run,
            had_ended=had_ended == "1",
            result=result,
        )
