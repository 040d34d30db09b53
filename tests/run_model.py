"""A model of a run without Redis, time or messages, with which the steps of runs are compared.

States of a todo: `waiting` for its predecessors, `gated` (it waits for a person), `due` (it may start when
its repository and resources are free), `running`, `retrying`, an end; in a rollback `undo due`,
`undo running`, `undo retrying`, `compensated` or `compensation_failed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

LIVE = ("running", "paused", "rolling_back")
FORWARD_ENDS = ("succeeded", "failed", "skipped", "cancelled")
ENDS = (*FORWARD_ENDS, "compensated", "compensation_failed")


@dataclass
class RunModel:
    before: Mapping[str, Iterable[str]]
    """Todo → its predecessors, in topological order."""
    on_failure: str
    by_level: bool
    auto: bool
    """True if it leaves the levels when a todo waits for something outside."""
    persons: Mapping[str, str]
    """Todo → `gate`, or `manual` for a manual todo."""
    at: dict[str, str] = field(default_factory=dict)
    status: str = "running"
    approved: set[str] = field(default_factory=set)
    intents: set[str] = field(default_factory=set)
    undoing: bool = False
    halted: bool = False
    cancelled: bool = False

    def __post_init__(self) -> None:
        self.at = dict.fromkeys(self.before, "waiting")
        self.level: dict[str, int] = {}
        for todo, others in self.before.items():
            self.level[todo] = 1 + max((self.level[other] for other in others), default=-1)
        self._open()

    # events

    def granted(self, todo: str) -> None:
        if self.at[todo] == "undo due":
            self.at[todo] = "undo running"
        else:
            assert self.at[todo] == "due", f"{todo} is {self.at[todo]}, and was given to a worker"
            assert all(self.at[other] == "succeeded" for other in self.before[todo])
            assert self.status == "running"
            self.at[todo] = "running"
            self.intents.add(todo)

    def settled(self, todo: str, outcome: str) -> None:
        if self.at[todo].startswith("undo"):
            self.at[todo] = "compensated" if outcome == "succeeded" else "compensation_failed"
            self._undo_next()
        else:
            self.at[todo] = outcome
            self._after(todo, outcome)
        self._finish()

    def again(self, todo: str, *, later: bool) -> str:
        """Try the todo again, now or later; return the state in which it ends instead, or an empty text."""
        if self.at[todo] == "undo running":
            self.at[todo] = "undo retrying" if later else "undo due"
            return ""
        if ending := self._ending():
            self.settled(todo, ending)
            return ending
        self.at[todo] = "retrying" if later else "due"
        return ""

    def put_off(self, todo: str) -> str:
        if self.at[todo] == "undo running":
            self.at[todo] = "undo due"
            return ""
        if ending := self._ending():
            ending = "cancelled" if ending == "cancelled" else "skipped"
            self.settled(todo, ending)
            return ending
        self.at[todo] = "due"
        self.waits_outside()
        return ""

    def waits_outside(self) -> None:
        if self.by_level and self.auto:
            self.by_level = False
            self._open()

    def fired(self, todo: str) -> None:
        self.at[todo] = {"retrying": "due", "undo retrying": "undo due"}.get(self.at[todo], self.at[todo])

    def decided(self, todo: str, verdict: str) -> None:
        assert self.at[todo] == "gated"
        if verdict == "reject":
            self.settled(todo, "failed")
        elif self.persons[todo] == "manual":
            self.intents.add(todo)
            self.settled(todo, "succeeded")
        else:
            self.approved.add(todo)
            self.at[todo] = "due"

    def paused(self) -> None:
        self.status = "paused" if self.status == "running" else self.status

    def resumed(self) -> None:
        self.status = "running" if self.status == "paused" else self.status

    def cancel(self) -> None:
        if self.status in ("running", "paused"):
            self.cancelled = True
            self._dismiss("cancelled")
            self._finish()

    def roll_back(self) -> None:
        if self.status == "rollback_failed":
            self.status = "rolling_back"
            for todo, at in self.at.items():
                self.at[todo] = "undo due" if at == "compensation_failed" else at
        elif self.status not in ("rolling_back", "rolled_back"):
            self._turn_back("cancelled")
        self._finish()

    def accepted(self, todo: str) -> None:
        self.status = "rolling_back"
        self.at[todo] = "undo due"
        self.settled(todo, "succeeded")

    # consequences

    def _after(self, todo: str, outcome: str) -> None:
        if self.status == "rolling_back":
            self._undo_when_quiet()
        elif outcome == "failed" and self.on_failure == "rollback":
            self._turn_back("skipped")
        elif outcome == "failed" and self.on_failure == "halt":
            self.halted = True
            self._dismiss("skipped")
        elif outcome != "succeeded":
            self._skip_dependents(todo)
        self._open()

    def _open(self) -> None:
        if self.status not in ("running", "paused") or self.halted or self.cancelled:
            return
        for todo, at in self.at.items():
            if at == "waiting" and self._may_open(todo):
                self.at[todo] = "gated" if todo in self.persons and todo not in self.approved else "due"
                if self.at[todo] == "gated":
                    self.waits_outside()

    def _may_open(self, todo: str) -> bool:
        if self.by_level:
            return all(self.at[o] in ENDS for o in self.at if self.level[o] < self.level[todo])
        return all(self.at[other] == "succeeded" for other in self.before[todo])

    def _skip_dependents(self, todo: str) -> None:
        for other, before in self.before.items():
            if self.at[other] not in ENDS and any(b == todo or self.at[b] == "skipped" for b in before):
                self.at[other] = "skipped"

    def _dismiss(self, outcome: str) -> None:
        for todo, at in self.at.items():
            if at == "retrying" and outcome == "skipped":
                self.at[todo] = "failed"
            elif at not in ENDS and at != "running":
                self.at[todo] = outcome

    def _ending(self) -> str:
        if self.status == "rolling_back" or self.cancelled:
            return "cancelled"
        return "failed" if self.halted else ""

    def _turn_back(self, outcome: str) -> None:
        self.status = "rolling_back"
        self._dismiss(outcome)
        self._undo_when_quiet()

    def _undo_when_quiet(self) -> None:
        if "running" not in self.at.values() and not self.undoing:
            self.undoing = True
            self._undo_next()

    def _undo_next(self) -> None:
        changed = True
        while changed:  # a manual todo counts as undone, so its predecessors may follow
            changed = False
            for todo in self.intents:
                if self.at[todo] in FORWARD_ENDS and self._dependents_undone(todo):
                    manual = self.persons.get(todo) == "manual"
                    self.at[todo] = "compensated" if manual else "undo due"
                    changed = changed or manual

    def _dependents_undone(self, todo: str) -> bool:
        """Return whether all dependents of the todo are undone or never began."""
        behind = [other for other, before in self.before.items() if todo in before]
        return all(
            self.at[o] == "compensated" if o in self.intents else self._dependents_undone(o) for o in behind
        )

    def _finish(self) -> None:
        if self.status == "rolling_back":
            if self.undoing and not any(at.startswith("undo") for at in self.at.values()):
                undone = all(self.at[todo] == "compensated" for todo in self.intents)
                self.status = "rolled_back" if undone else "rollback_failed"
        elif self.status in LIVE and all(at in ENDS for at in self.at.values()):
            failed = "failed" in self.at.values()
            self.status = "cancelled" if self.cancelled else "failed" if failed else "succeeded"
