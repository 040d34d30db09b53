"""The oracle: what todos' bodies wrote down themselves, in a file that coord knows nothing of, against what
Redis says of the run.

Each line of the ledger is `kind run todo attempt fence nanoseconds`; body.sh writes it, with the machine's
clock, which the Redis of these tests shares. `violations` is pure: lines and a Record in, words out, none
where everything went right:

1. Nothing is lost: the run has ended, and so has each of its todos.
2. Nothing is settled twice: each todo reaches an end once, and once more where it is undone.
3. One body run, and no more, bears the fence that Redis settled, and it ended before that.
4. A second body run comes only after it was recorded why: the lease of the one before was lost, or it failed,
   or was handed back.
5. No body starts before all that it waits for is settled as succeeded, nor after its own todo's end.
6. Two bodies never run at once in one repository of a run.
7. A rollback undoes whatever was begun, each once by the fence that Redis settled, after all that stands
   behind it, when nothing new starts any more; and what is not undone shows in the run's status.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

BODY = Path(__file__).with_name("body.sh")
UNDO = "undo-"
NS_PER_MS = 1_000_000
ENDS = ("succeeded", "failed", "skipped", "cancelled")
UNDONE = ("compensated", "compensation_failed")
RUN_ENDS = ("succeeded", "failed", "cancelled", "rolled_back", "rollback_failed")


@dataclass(frozen=True, kw_only=True)
class Line:
    kind: str
    run: str
    todo: str
    attempt: int
    fence: int
    at_ns: int

    @property
    def undoes(self) -> bool:
        return self.kind.startswith(UNDO)

    @property
    def starts(self) -> bool:
        return self.kind.removeprefix(UNDO) == "start"

    def __str__(self) -> str:
        return f"{self.todo}: {self.kind} of attempt {self.attempt}, fence {self.fence}"


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event of the run's stream; `at_ms` is by the clock of Redis."""

    at_ms: int
    what: str
    todo: str = ""
    attempt: int = 0
    fence: int = 0
    undo: bool = False


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Data of a todo in Redis at the end."""

    state: str
    repo: str
    settled_by: int | None = None
    before: tuple[str, ...] = ()
    """Its direct predecessors."""
    has_body: bool = True
    """It executes a command: nobody does it by hand, and it is no todo of a landing."""
    begun: bool = False
    """Its intent was recorded: there may be something to undo."""
    handed_back: int = 0
    carried: bool = False
    """It was done in the run that this one is a retry of."""
    compensates: bool = False
    """It has a body that undoes it."""
    accepted: bool = False
    """A person answers for what could not be undone."""


@dataclass(frozen=True, kw_only=True)
class Record:
    run: str
    status: str
    todos: Mapping[str, Facts]
    events: Sequence[Event]

    def behind(self, todo: str) -> Iterator[str]:
        """Whatever waits for it, directly or not."""
        for other, facts in self.todos.items():
            if todo in facts.before:
                yield other
                yield from self.behind(other)


def parse(text: str) -> list[Line]:
    """Raises ValueError: a torn line is a defect of the ledger, not of what it watches."""
    return [_line(*line.split(" ")) for line in text.splitlines()]


def _line(kind: str, run: str, todo: str, attempt: str, fence: str, at_ns: str) -> Line:
    return Line(kind=kind, run=run, todo=todo, attempt=int(attempt), fence=int(fence), at_ns=int(at_ns))


def violations(lines: Iterable[Line], record: Record) -> list[str]:
    """Return the violations in the run, as text; lines of other runs are skipped."""
    own = sorted((line for line in lines if line.run == record.run), key=lambda line: line.at_ns)
    strangers = [f"{line}: the run has no such todo" for line in own if line.todo not in record.todos]
    judge = _Judge(record, [line for line in own if line.todo in record.todos])
    found = [words for todo in record.todos for words in judge.todo(todo)]
    return [f"{record.run}: {words}" for words in (*strangers, *judge.run(), *found)]


def after_a_restore(lines: Iterable[Line], record: Record) -> list[str]:
    """Return the violations in a run of which Redis has lost a part: bodies are executed again then, but the
    run ends, and two of them never run at once in one repository.
    """
    own = sorted((line for line in lines if line.run == record.run), key=lambda line: line.at_ns)
    judge = _Judge(record, [line for line in own if line.todo in record.todos])
    left = [f"{todo} is {facts.state}" for todo, facts in record.todos.items() if facts.state != "succeeded"]
    return [f"{record.run}: {words}" for words in (*judge.run(), *left)]


@dataclass
class _Judge:
    record: Record
    lines: list[Line]
    _by_todo: dict[str, list[Line]] = field(default_factory=dict)
    _events: dict[str, list[Event]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for line in self.lines:
            self._by_todo.setdefault(line.todo, []).append(line)
        for event in self.record.events:
            self._events.setdefault(event.todo, []).append(event)

    def run(self) -> Iterator[str]:
        if self.record.status not in RUN_ENDS:
            yield f"lost: the run is {self.record.status}"
        yield from self._two_at_once()
        if self.record.status in ("rolled_back", "rollback_failed"):
            yield from self._rolled_back()

    def todo(self, todo: str) -> Iterator[str]:
        if self.record.todos[todo].carried:
            yield from (f"{line}: it was done in an earlier run" for line in self._starts(todo, undo=False))
            return
        yield from self._ended(todo)
        yield from self._settled_fence(todo)
        yield from self._again(todo, undo=False)
        yield from self._again(todo, undo=True)
        yield from self._early_or_late(todo)
        yield from self._out_of_order(todo)

    def _starts(self, todo: str, *, undo: bool) -> list[Line]:
        return [line for line in self._by_todo.get(todo, ()) if line.starts and line.undoes == undo]

    def _at_ms(self, todo: str, *ends: str) -> int | None:
        """When the todo came to its first such end."""
        whats = {f"todo.{end}" for end in ends}
        return next((event.at_ms for event in self._events.get(todo, ()) if event.what in whats), None)

    def _ended(self, todo: str) -> Iterator[str]:
        state = self.record.todos[todo].state
        if state not in (*ENDS, *UNDONE):
            yield f"lost: {todo} is {state}"
        for ends in (ENDS, ("compensated",)):
            reached = [
                event for event in self._events.get(todo, ()) if event.what.removeprefix("todo.") in ends
            ]
            if len(reached) > 1:
                yield f"settled twice: {todo} as {', '.join(event.what for event in reached)}"
            if state in ends and not reached:
                yield f"{todo} is {state}, and no event says so"

    def _settled_fence(self, todo: str) -> Iterator[str]:
        facts = self.record.todos[todo]
        undone = facts.state in UNDONE
        starts = self._starts(todo, undo=undone)
        bear_it = [line for line in starts if line.fence == facts.settled_by]
        ended = [
            line
            for line in self._by_todo.get(todo, ())
            if line.kind == (f"{UNDO}end" if undone else "end") and line.fence == facts.settled_by
        ]
        due = facts.compensates and not facts.accepted if facts.state == "compensated" else facts.has_body
        if facts.state in ("succeeded", "compensated") and due and (len(bear_it), len(ended)) != (1, 1):
            yield (
                f"{todo} is {facts.state} by fence {facts.settled_by}, which {len(bear_it)} body runs bear, "
                f"{len(ended)} to the end; there were {[line.fence for line in starts]}"
            )
        settled_ms = self._at_ms(todo, facts.state)
        for line in ended:
            if settled_ms is not None and line.at_ns // NS_PER_MS > settled_ms:
                yield f"{line} came after its settle"

    def _again(self, todo: str, *, undo: bool) -> Iterator[str]:
        starts = sorted(self._starts(todo, undo=undo), key=lambda line: line.fence)
        unexplained = 0
        for former, line in pairwise(starts):
            if former.fence != line.fence and former.attempt == line.attempt and self._held_up(former, line):
                continue
            if former.fence == line.fence or former.attempt >= line.attempt:
                yield f"{line} is a second run of the same attempt ({former})"
            elif not self._recorded_end(former, line):
                unexplained += 1
                words = f"{line} is a second run, and nothing records why the first ended ({former})"
                if unexplained > self.record.todos[todo].handed_back:
                    yield words

    def _held_up(self, former: Line, line: Line) -> bool:
        """Return whether the todo was parked between the two: transient trouble uses up no attempt."""
        since_ms, by_ms = former.at_ns // NS_PER_MS, line.at_ns // NS_PER_MS
        return any(
            e.what == "todo.parked" and since_ms <= e.at_ms <= by_ms
            for e in self._events.get(former.todo, ())
        )

    def _recorded_end(self, former: Line, line: Line) -> bool:
        by_ms = line.at_ns // NS_PER_MS
        before = [event for event in self._events.get(former.todo, ()) if event.at_ms <= by_ms]
        lost = any(event.what == "todo.lost" and event.fence == former.fence for event in before)
        retried = any(
            event.what == "todo.retrying" and event.attempt == former.attempt + 1 for event in before
        )
        return lost or retried or self._failed(former)

    def _failed(self, start: Line) -> bool:
        return any(
            line.kind.endswith("fail") and line.fence == start.fence for line in self._by_todo[start.todo]
        )

    def _early_or_late(self, todo: str) -> Iterator[str]:
        ended_ms = self._at_ms(todo, *ENDS)
        for line in self._starts(todo, undo=False):
            at_ms = line.at_ns // NS_PER_MS
            for other in self.record.todos[todo].before:
                settled_ms = self._at_ms(other, "succeeded")
                if not self.record.todos[other].carried and (settled_ms is None or at_ms < settled_ms):
                    yield f"early: {line} before {other} was settled"
            if ended_ms is not None and at_ms > ended_ms:
                yield f"late: {line} after {todo} had ended"

    def _two_at_once(self) -> Iterator[str]:
        """The end of a killed body is unknown; the others must not overlap."""
        inside: dict[str, Line] = {}
        for line in self.lines:
            repo = self.record.todos[line.todo].repo
            if line.starts:
                inside[repo] = line
            elif repo in inside and inside[repo].fence != line.fence:
                yield f"two at once in {repo}: {line}, while there was {inside[repo]}"

    def _rolled_back(self) -> Iterator[str]:
        todos = self.record.todos
        left = [todo for todo, facts in todos.items() if facts.begun and facts.state != "compensated"]
        if left and self.record.status == "rolled_back":
            yield f"hidden: the run is rolled_back, and not undone is {', '.join(left)}"
        if not left and self.record.status == "rollback_failed":
            yield "the run is rollback_failed, and everything is undone"
        undoing = next((line for line in self.lines if line.undoes), None)
        for line in self.lines:
            if undoing is not None and line.starts and not line.undoes and line.at_ns > undoing.at_ns:
                yield f"{line} began while the run was being undone ({undoing})"

    def _out_of_order(self, todo: str) -> Iterator[str]:
        for line in self._starts(todo, undo=True):
            for other in set(self.record.behind(todo)):
                if not self.record.todos[other].begun:
                    continue
                undone_ms = self._at_ms(other, "compensated")
                if undone_ms is None or line.at_ns // NS_PER_MS < undone_ms:
                    yield f"out of order: {line} before {other} was undone"
