"""All operations on the history of one file. Each first reads the new entries of the journal."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import ValidationError

from coordination.declared import Effect, Option, operation
from coordination.ecosystem.record_events import record_event
from coordination.environment import actor
from coordination.errors import CoordinationError, Unreadable, UsageError
from coordination.files import locked, make_private
from coordination.frozen import Awaitable
from coordination.history.collect import collect
from coordination.history.events import HistoryEvent
from coordination.history.search import (
    LIMIT,
    MOST,
    Embedder,
    EmbeddingFailed,
    HistoryFilters,
    check_known,
    completed_by_hand,
    search,
)
from coordination.history.store import COMPANIONS, HistoryStore, move_away, readable
from coordination.history.trends import MOST_DAYS, RunTrend, Trend, Trends, durations, run_trend, trends
from coordination.models import Dependency, Issue, Plan, Record, Todo
from coordination.planner.hours import Group, medians
from coordination.settings import Settings
from coordination.text import counted, listed

DATABASE = "history.db"
IMPORTED_AT_ONCE = 1000


class FoundEvents(Awaitable, list[HistoryEvent]):
    """The events that a search has found."""


class FoundTrends(Awaitable, tuple[Trend | RunTrend, ...]):
    """The trends of issues, todos and runs."""


class Stored(Awaitable, int):
    """True if an event was added."""


class Memory:
    """Opens the database when it is first used, for each operation that runs at the same time once. Raises
    CoordinationError where that is impossible.
    """

    def __init__(
        self,
        file: Path,
        folder: Path,
        warn: Callable[[str], object],
        settings: Settings,
        collect_stream: Callable[[HistoryStore], object] = lambda _: None,
    ) -> None:
        """`collect_stream` stores the new events of Redis, if that runs; it raises
        CoordinationError.
        """
        self._collect_stream = collect_stream
        self._file, self._path, self._warn = file, folder / DATABASE, warn
        self._synonyms = settings.history_synonyms
        command = settings.embed_command
        self._embedder = None if command is None else Embedder(command)
        self._free: list[HistoryStore] = []
        """Opened ones that no operation uses."""
        self._collecting = threading.Lock()

    def close(self) -> None:
        while self._free:
            self._free.pop().close()

    @contextmanager
    def _store(self) -> Iterator[HistoryStore]:
        """Open the history for one operation, with the new events."""
        with self._open() as store:
            with self._collecting:  # two would read the same events
                self._collect(store)
            yield store

    @contextmanager
    def _open(self) -> Iterator[HistoryStore]:
        store = self._unused() or HistoryStore(self._path)
        if store.replaced is not None:
            self._warn(
                f"the history could not be read; it was moved to {store.replaced}, and a new one begun"
            )
            store.replaced = None
        try:
            yield store
        except BaseException:
            store.close()
            raise
        self._free.append(store)

    def _unused(self) -> HistoryStore | None:
        """Take an opened one; one that a rebuild has replaced meanwhile is closed."""
        while True:
            try:
                store = self._free.pop()
            except IndexError:
                return None
            if store.is_current():
                return store
            store.close()

    def _collect(self, store: HistoryStore) -> None:
        """Store new events. A source that fails causes a warning: stored events can still be searched."""
        for source in (partial(collect, file=self._file), self._collect_stream):
            try:
                source(store)
            except CoordinationError as error:
                self._warn(f"the history may lack the latest changes: {error}")

    @operation("history.search", Effect.READS, for_agents="`changes` is {field: [before, after]}.")
    def search(
        self,
        query: Annotated[
            str, Option("Find these words; the best matches come first.", flag="--query", metavar="TEXT")
        ] = "",
        filters: HistoryFilters = HistoryFilters(),  # noqa: B008 (frozen)
        *,
        limit: Annotated[
            int, Option("List at most so many (default: 20).", metavar="N", least=1, most=MOST)
        ] = LIMIT,
    ) -> list[HistoryEvent]:
        """Search the history of records: when, what changed, and who did it. Without a query, list the
        events, latest first.

        Raises UsageError, NotFound.
        """
        with self._store() as store:
            by_words = partial(search, store, query, filters, limit=limit, synonyms=self._synonyms)
            if self._embedder is not None:
                try:
                    return by_words(embedder=self._embedder)
                except EmbeddingFailed as error:
                    self._warn(f"searched by words only: {error}")
            return by_words()

    @operation(
        "history.trends",
        Effect.READS,
        for_agents="Runs: failure rate, retries, reuse, hours waited by cause.",
    )
    def trends(
        self,
        repo: Annotated[
            str | None, Option("A repository's name (default: all).", completes="repo_names")
        ] = None,
        days: Annotated[
            int,
            Option(
                "Show this number of days until today (default: 30).",
                flag="--days",
                metavar="N",
                least=1,
                most=MOST_DAYS,
            ),
        ] = 30,
    ) -> Trends:
        """Show the trends of issues, todos and runs, against the days before.

        Raises UsageError, NotFound.
        """
        with self._store() as store:
            now = datetime.now(UTC)
            check_known(store, HistoryFilters(repo=repo))
            issue, todo = trends(store, repo=repo, days=days, now=now)
            return Trends(issue=issue, todo=todo, run=run_trend(store, repo=repo, days=days, now=now))

    def learned(self, groups: Collection[Group]) -> dict[Group, float]:
        """Return the median hours of the groups of similar todos that have durations."""
        if not self._path.exists():
            return {}
        try:
            with self._open() as store:
                return medians({group: durations(store, group.repo, group.kind) for group in groups})
        except CoordinationError as error:
            self._warn(f"nothing was learned from the history: {error}")
            return {}

    def completed_by_hand(self, todos: Collection[str]) -> dict[str, bool]:
        """Return which of these todos a person has completed, not a run → whether they had been opened again
        before. Nothing is known of a todo that was completed outside of coord.
        """
        try:
            with self._store() as store:
                return completed_by_hand(store, todos)
        except CoordinationError as error:
            self._warn(f"the history does not say who completed {listed(todos)}: {error}")
            return {}

    def search_coordination_history(
        self, query: str, entity_type: str | None = None, repo: str | None = None, limit: int = LIMIT
    ) -> FoundEvents:
        """Search by words; `entity_type` is issue, todo, plan, dependency, milestone, repo or file."""
        return FoundEvents(self.search(query, HistoryFilters(entity=entity_type, repo=repo), limit=limit))

    def get_coordination_trends(self, repo: str | None = None, days: int = 30) -> FoundTrends:
        """Return the trends of the last `days` days."""
        found = self.trends(repo, days)
        return FoundTrends((found.issue, found.todo, found.run))

    def store_issue_event(self, kind: str, issue: Issue, changes: Mapping[str, Any] | None = None) -> Stored:
        """Keep an event of another program; return False if the history has it already.

        `changes`: field → the pair of its values before and after, or only its value after. Raises
        UsageError.
        """
        return self._keep(kind, issue, changes)

    def store_todo_event(self, kind: str, todo: Todo, changes: Mapping[str, Any] | None = None) -> Stored:
        """As `store_issue_event`."""
        return self._keep(kind, todo, changes)

    def store_dependency_event(
        self, kind: str, dependency: Dependency, result: Mapping[str, Any] | None = None
    ) -> Stored:
        """As `store_issue_event`; `result` is the outcome of a check."""
        return self._keep(kind, dependency, None, result)

    def store_plan_event(self, kind: str, plan: Plan, milestone_id: str | None = None) -> Stored:
        """As `store_issue_event`; `milestone_id` is the milestone that the event is about."""
        return self._keep(kind, plan, None, {"milestone": milestone_id} if milestone_id else None)

    def _keep(
        self,
        verb: str,
        record: Record,
        changes: Mapping[str, Any] | None,
        data: Mapping[str, Any] | None = None,
    ) -> Stored:
        """Add the event, unless the latest one of its record has the same kind and changes."""
        if not verb.replace("_", "").isalpha():
            raise UsageError(f"{verb!r} is not a kind of event", "use a word such as created or validated")
        made, now = record_event(verb, record), datetime.now(UTC)
        pairs = {name: _pair(value) for name, value in (changes or {}).items()}
        try:
            event = HistoryEvent(
                id=f"program:{now.timestamp():.6f}:{made['subject']}",
                at=now,
                actor=actor(),
                data=data or {},
                **{**made, "changes": pairs},
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise UsageError(
                f"this is no event of {made['subject']}: {first['msg']}",
                "give each changed field its value after, or the pair of its values before and after",
            ) from error
        with self._store() as store:
            latest = search(store, filters=HistoryFilters(subject=event.subject), limit=1)
            if latest and _repeats(event, latest[0]):
                return Stored(False)
            return Stored(store.add([event]) == 1)

    @operation("history.export", Effect.READS, tool=False)
    def export(self) -> Iterator[str]:
        """Export the history: every event as a line of JSON, oldest first."""
        with self._store() as store:
            for event in store.every():
                yield event.model_dump_json(exclude={"matched"}) + "\n"

    @operation("history.import", Effect.PRIVATE, tool=False)
    def import_lines(self, lines: Iterable[str]) -> int:
        """Import the events of an export that are new.

        Return their number.

        Raises UsageError.
        """
        new, number = 0, 0
        rest = iter(lines)
        with self._store() as store:
            while batch := list(islice(rest, IMPORTED_AT_ONCE)):
                events = []
                for line in batch:
                    number += 1
                    try:
                        events.append(HistoryEvent.model_validate(json.loads(line, parse_constant=_refuse)))
                    except (ValueError, ValidationError, RecursionError) as error:
                        store.add(events)
                        raise UsageError(
                            f"line {number} is not an event of an export; the lines before it were imported",
                            "export again: coord history export",
                        ) from error
                new += store.add(events)
        return new

    @operation("history.rebuild", Effect.PRIVATE, tool=False)
    def rebuild(self) -> int:
        """Begin a new database of the history from the journal of the file. Events that the journal no longer
        has are taken from the old database, if that is readable.

        Return the number of events.
        """
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            make_private(self._path.parent)
            with locked(self._path.with_name(f"{self._path.name}.lock")):  # two would share the new database
                _remove(fresh)
                with HistoryStore(fresh) as store:
                    self._collect(store)
                    lost = _copy(self._path, store)
                    count = int(store.rows("SELECT COUNT(*) AS n FROM events")[0]["n"])
                    store.complete()
                self.close()
                broken = move_away(self._path) if lost else None
                _remove(self._path, keep="")
                fresh.replace(self._path)
        except OSError as error:
            raise CoordinationError(
                f"the history {self._path} cannot be replaced: {error.strerror}",
                "make room or give the right to write, then try again",
            ) from error
        if lost:
            self._warn(f"{lost} of the old history could not be read; it was moved to {broken}")
        return count


def _copy(old: Path, store: HistoryStore) -> str:
    """Add all readable events of an old database; return how many could not be read, empty if none."""
    if not old.exists():
        return ""
    lost, rest = 0, readable(old)
    try:
        while batch := list(islice(rest, IMPORTED_AT_ONCE)):
            store.add(filter(None, batch))
            lost += batch.count(None)
    except Unreadable:
        return "all events"
    return counted(lost, "event") if lost else ""


def _remove(database: Path, keep: str | None = None) -> None:
    """Remove a database and the files that SQLite keeps beside it, without those that end in `keep`."""
    for ending in ("", *COMPANIONS):
        if ending != keep:
            database.with_name(f"{database.name}{ending}").unlink(missing_ok=True)


def _pair(value: Any) -> Any:
    """Return the values of a changed field before and after; the one before is not known of a plain value."""
    return value if isinstance(value, list | tuple) else [None, value]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number of JSON")


def _repeats(event: HistoryEvent, latest: HistoryEvent) -> bool:
    """Return whether the latest event of the record says all that this one says."""
    return latest.kind == event.kind and all(
        not said or said == known
        for said, known in ((event.changes, latest.changes), (event.data, latest.data))
    )
