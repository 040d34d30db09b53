"""Records of what a todo begins with: the outputs of its predecessors, and what it sees of its context."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coordination.runs.brief import RunBrief
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
        handed = [
            PredecessorOutput(
                todo=todo, json=output or "", commit=commit, run=run or run_id, fence=int(by or 0)
            )
            for todo, output, commit, run, by in zip(
                todos, outputs, *(facts[i::count] for i in range(count)), strict=True
            )
        ]
        return cls(
            todos=handed,
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
