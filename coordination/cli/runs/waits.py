"""What a run waits for, in words for people, and when to say it again. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from coordination.runs.records import RunStatus, RunView, TodoState, TodoView

SHOWN_RUNNING = 8
FIRST_REMINDER = timedelta(seconds=30)
SOON_FREE = "a worker that is free"
ANOTHER_TRY = "another try"
SERVE = "coord worker --repo {repo}=PATH where it lies; or, with the server of this folder: coord up"


@dataclass(frozen=True, kw_only=True)
class Wait:
    why: str
    """What is waited for: as long as this is the same, it is the same wait."""
    words: str
    since: datetime | None = None
    """None where nobody has noted it."""


def waits(run: RunView) -> list[Wait]:
    """Those that hold the run up, the longest first; todos that wait for the same are one."""
    if run.status is RunStatus.PAUSED:
        words = f"the run is paused: coord resume {run.run_id}"
        return [Wait(why=words, words=words)]
    groups: dict[str, list[TodoView]] = {}
    for todo in _told(run):
        groups.setdefault(todo.waits_for or "", []).append(todo)
    found = [_wait(words, todos) for words, todos in groups.items()]
    return sorted(found, key=lambda wait: wait.since.timestamp() if wait.since else 0.0)


def still_running(run: RunView) -> str:
    """`· running: TODO-001 (2 min), TODO-002 (31 s) and 3 more`, the longest first; empty where nothing runs."""
    under_way = [todo for todo in run.todos if todo.state is TodoState.RUNNING and todo.duration_s is not None]
    under_way.sort(key=lambda todo: -(todo.duration_s or 0.0))
    words = [f"{todo.id} ({how_long(timedelta(seconds=todo.duration_s or 0))})" for todo in under_way[:SHOWN_RUNNING]]
    more = len(under_way) - SHOWN_RUNNING
    return f"· running: {', '.join(words)}{f' and {more} more' if more > 0 else ''}" if words else ""


def how_long(waited: timedelta) -> str:
    """`4 s`, `3 min`, `2 h 5 min`"""
    seconds = max(0, int(waited.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


@dataclass
class Reminders:
    """A wait is said when it is new, and again each time that it has lasted twice as long."""

    _seen: dict[str, datetime] = field(default_factory=dict)
    _next: dict[str, datetime] = field(default_factory=dict)

    def due(self, found: Collection[Wait], now: datetime) -> list[Wait]:
        self._seen = {wait.why: self._seen.get(wait.why, wait.since or now) for wait in found}
        self._next = {why: at for why, at in self._next.items() if why in self._seen}
        due = [wait for wait in found if now >= self._next.get(wait.why, now)]
        for wait in due:
            self._next[wait.why] = now + max(FIRST_REMINDER, now - self._seen[wait.why])
        return [replace(wait, since=self._seen[wait.why]) for wait in due]


def in_words(wait: Wait, now: datetime) -> str:
    waited = now - wait.since if wait.since else timedelta(0)
    return f"· {wait.words}" + (f" ({how_long(waited)})" if waited >= timedelta(seconds=1) else "")


def _told(run: RunView) -> Iterable[TodoView]:
    """While something of the run goes on, that others wait for their turn with a worker is no news."""
    under_way = [todo for todo in run.todos if todo.state in (TodoState.RUNNING, TodoState.COMPENSATING)]
    busy = any(todo.waits_for is None for todo in under_way)
    no_news = {None, ANOTHER_TRY, *([SOON_FREE] if busy else [])}
    yield from (todo for todo in under_way if todo.waits_for not in no_news)  # its worker is gone, for one
    for todo in run.todos:
        if todo.state is TodoState.PARKED or (todo.state is TodoState.DISPATCHED and todo.waits_for not in no_news):
            yield todo


def _wait(words: str, todos: list[TodoView]) -> Wait:
    first = min(todos, key=lambda todo: todo.since or "")
    more = len(todos) - 1
    who = f"{first.id} waits" if not more else f"{first.id} and {more} more wait"
    unserved = words.startswith(f"a worker for {first.repo}: none")
    hint = f"\n  {SERVE.format(repo=first.repo)}" if unserved else ""
    since = datetime.fromisoformat(first.since) if first.since else None
    return Wait(why=words, words=f"{who} for {words}{hint}", since=since)
