"""Records of a granted claim, and of the inputs with which a todo begins."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from redis import Redis

from coordination.backend import library
from coordination.backend.keys import Keys
from coordination.backend.steps.cache import Visible, VisibleValues
from coordination.backend.steps.run import Claim, Granted, Reply, Undone
from coordination.runs.records import RunBrief, TodoSpec, TodoState
from coordination.trust.results import ResultRecord, check_change_set, check_predecessor

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


@dataclass(frozen=True)
class InputsReader:
    """Reads the inputs of a todo in one round trip; `RunStore.handed_over` documents the fields."""

    redis: Redis
    keys: Keys
    run_id: str
    todos: Sequence[str]
    contexts: Sequence[str]
    limit_bytes: int
    to: str
    signed: Sequence[str]

    def read(self) -> TodoInputs:
        keys = self.keys.run(self.run_id)
        step = Visible(limit_bytes=self.limit_bytes, contexts=self.contexts)
        with self.redis.pipeline(transaction=False) as pipeline:
            if self.contexts:
                pipeline.fcall(*library.fcall(step, [self.keys.cache.head]))
            if self.signed:
                pipeline.hmget(keys.results, self.signed)
            if self.todos:
                pipeline.hmget(keys.output, self.todos)
            facts = (f"{todo} {name}" for todo in self.todos for name in FACTS)
            pipeline.hmget(keys.facts, [*facts, f"{self.to} fence"])
            answers = pipeline.execute()
        visible = step.result(answers.pop(0)) if self.contexts else VisibleValues(0, {})
        results = zip(self.signed, answers.pop(0), strict=True) if self.signed else ()
        outputs = answers.pop(0) if self.todos else []
        *values, fence = answers.pop()
        return TodoInputs(
            todos=self._predecessors(outputs, values),
            context={key: json.loads(value) for key, value in visible.values.items()},
            omitted=visible.omitted,
            claimed_by=int(fence or 0),
            signed={todo: result for todo, result in results if result},
        )

    def _predecessors(self, outputs: list[str | None], values: list[str | None]) -> list[PredecessorOutput]:
        """`values`: the FACTS of each todo in turn."""
        facts = (values[i :: len(FACTS)] for i in range(len(FACTS)))
        return [
            PredecessorOutput(
                todo=todo, json=output or "", commit=commit, run=run or self.run_id, fence=int(by or 0)
            )
            for todo, output, commit, run, by in zip(self.todos, outputs, *facts, strict=True)
        ]


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
    def of(cls, claim: Claim, granted: Granted) -> Grant:
        return cls(
            run_id=claim.run,
            todo_id=claim.todo,
            attempt=claim.attempt,
            fence=granted.fence,
            spec_json=granted.spec_json,
            tip=granted.tip or None,
            tries=granted.tries,
            checkpoint=granted.checkpoint,
            tip_result=granted.tip_result,
            shared=granted.shared,
            undo=Undo.of(granted.undone) if granted.undone else None,
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
    def of(cls, undone: Undone) -> Undo:
        return cls(
            was=TodoState(undone.was),
            output=undone.output,
            last=undone.last,
            run=undone.run,
            had_ended=undone.had_ended,
            result=undone.result,
        )


@dataclass(frozen=True, kw_only=True)
class ClaimReply(Reply):
    grant: Grant | None = None
    """Set if the claim was granted."""
