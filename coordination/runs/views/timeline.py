"""The timeline of a run: the attempts of each todo, and its waits after its predecessors succeeded. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from coordination.runs.records import TodoState, WaitReason
from coordination.runs.views.run_events import ENDED, STATES, RunEvent

LOST = "lost"
"""Outcome of an attempt whose worker was lost."""
BRIEF = 0.005
"""Share of the run's duration: a repository that is idle for less counts as busy."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """One attempt."""

    todo: str
    attempt: int
    start_ms: int
    end_ms: int
    outcome: str
    """A todo's state, or `lost`; `running` where it goes on."""
    undo: bool


@dataclass(frozen=True, kw_only=True)
class Wait:
    todo: str
    start_ms: int
    end_ms: int
    reason: WaitReason
    waits_for: str


@dataclass(frozen=True, kw_only=True)
class Timeline:
    start_ms: int
    end_ms: int
    work: Sequence[Work]
    waits: Sequence[Wait]
    whole: bool
    """True if its beginning is among the events: Redis keeps the last 100,000."""

    def waited_s(self) -> dict[WaitReason, float]:
        """Return the seconds waited by reason, summed over all todos."""
        found: defaultdict[WaitReason, float] = defaultdict(float)
        for wait in self.waits:
            found[wait.reason] += (wait.end_ms - wait.start_ms) / 1000
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def timeline(events: Sequence[RunEvent], repo_of: Mapping[str, str], now_ms: int) -> Timeline | None:
    """Return the timeline of a run; None if there are no events. `now_ms`: end of the attempts that still
    run.
    """
    if not events:
        return None
    last = next((e for e in reversed(events) if e.what.startswith("run.")), None)
    has_ended = last is not None and last.what == ENDED  # an event of a level may follow it
    end_ms = last.at_ms if last and has_ended else max(now_ms, events[-1].at_ms)
    steps = _steps(events, end_ms)
    work = [w for todo, own in steps.items() for w in _work(todo, own)]
    busy = _busy(work, repo_of, (end_ms - events[0].at_ms) * BRIEF)
    waits = [w for todo, own in steps.items() for w in _waits(todo, own, busy.get(repo_of.get(todo, ""), ()))]
    return Timeline(
        start_ms=events[0].at_ms, end_ms=end_ms, work=work, waits=waits, whole=events[0].what == "run.started"
    )


@dataclass(frozen=True)
class _Step:
    """A todo in one of its states."""

    state: str
    start_ms: int
    end_ms: int
    then: str
    """Its next state; the same state if it still lasts."""
    fields: Mapping[str, str]


def _steps(events: Iterable[RunEvent], end_ms: int) -> dict[str, list[_Step]]:
    own: defaultdict[str, list[RunEvent]] = defaultdict(list)
    for event in events:
        state = event.what.partition(".")[2]
        if event.todo and (state in STATES or state == LOST):
            own[event.todo].append(event)
    return {todo: list(_of_one(its, end_ms)) for todo, its in own.items()}


def _of_one(events: Sequence[RunEvent], end_ms: int) -> Iterator[_Step]:
    for event, after in pairwise([*events, None]):
        assert event is not None
        state = event.what.partition(".")[2]
        then = after.what.partition(".")[2] if after else state
        yield _Step(state, event.at_ms, after.at_ms if after else end_ms, then, event.fields)


def _work(todo: str, steps: Iterable[_Step]) -> Iterator[Work]:
    for step in steps:
        if step.state == TodoState.RUNNING:
            yield Work(
                todo=todo, attempt=int(step.fields.get("attempt", 1)), start_ms=step.start_ms,
                end_ms=step.end_ms,
                outcome=step.then, undo="undo" in step.fields,
            )  # fmt: skip


def _busy(
    work: Iterable[Work], repo_of: Mapping[str, str], gap_ms: float
) -> dict[str, list[tuple[int, int]]]:
    """Return the times at which each repository was busy; short gaps between todos count as busy."""
    found: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for one in sorted(work, key=lambda w: w.start_ms):
        own = found[repo_of.get(one.todo, "")]
        if own and one.start_ms - own[-1][1] <= gap_ms:
            own[-1] = own[-1][0], max(own[-1][1], one.end_ms)
        else:
            own.append((one.start_ms, one.end_ms))
    return dict(found)


def _waits(todo: str, steps: Iterable[_Step], busy: Sequence[tuple[int, int]]) -> Iterator[Wait]:
    for step in steps:
        if step.end_ms <= step.start_ms:
            continue
        if step.state == TodoState.READY:
            yield from _waits_of_ready(todo, step, busy)
        elif step.state == TodoState.DISPATCHED:
            yield _wait(todo, step.start_ms, step.end_ms, WaitReason.SLOT, "a free worker")
        elif step.state == TodoState.RETRYING:
            yield _wait(todo, step.start_ms, step.end_ms, WaitReason.TIMER, "another try")
        elif step.state == TodoState.PARKED:
            waits_for = step.fields.get("waits_for", "")
            reason = WaitReason(step.fields.get("reason", ""))
            yield _wait(todo, step.start_ms, step.end_ms, reason, waits_for)


def _waits_of_ready(todo: str, step: _Step, busy: Sequence[tuple[int, int]]) -> Iterator[Wait]:
    """Yield the waits of a ready todo: for its repository while another todo works there, else for a slot."""
    at = step.start_ms
    for start, end in busy[bisect_right(busy, at, key=lambda span: span[1]) :]:
        if start >= step.end_ms:
            break
        begin, until = max(start, at), min(end, step.end_ms)
        if begin >= until:
            continue
        if begin > at:
            yield _wait(todo, at, begin, WaitReason.SLOT, "its turn")
        yield _wait(todo, begin, until, WaitReason.REPOSITORY, "another todo of its repository")
        at = until
    if at < step.end_ms:
        yield _wait(todo, at, step.end_ms, WaitReason.SLOT, "its turn")


def _wait(todo: str, start_ms: int, end_ms: int, reason: WaitReason, waits_for: str) -> Wait:
    return Wait(todo=todo, start_ms=start_ms, end_ms=end_ms, reason=reason, waits_for=waits_for)


def timeline_critical_path(
    line: Timeline, predecessors: Mapping[str, Sequence[str]], repo_of: Mapping[str, str]
) -> list[Work]:
    """Return the critical path of the run as executed, last attempt first. Each attempt is followed by the
    one that ended last among its predecessors and the earlier attempts in its repository.
    """
    last: dict[str, Work] = {}
    by_repo: defaultdict[str, list[Work]] = defaultdict(list)  # by their end
    for work in sorted((w for w in line.work if not w.undo), key=lambda w: w.end_ms):
        last[work.todo] = work
        by_repo[repo_of.get(work.todo, "")].append(work)
    path: list[Work] = []
    current = max(last.values(), key=lambda w: w.end_ms, default=None)
    while current is not None:
        path.append(current)
        start_ms, same_repo = current.start_ms, by_repo[repo_of.get(current.todo, "")]
        before = [last[other] for other in predecessors.get(current.todo, ()) if other in last]
        at = bisect_right(same_repo, start_ms, key=lambda w: w.end_ms)
        candidates = (*before, *same_repo[max(0, at - 1) : at])
        earlier = [w for w in candidates if w.end_ms <= start_ms and w.start_ms < start_ms]
        current = max(earlier, key=lambda w: w.end_ms, default=None)
    return path
