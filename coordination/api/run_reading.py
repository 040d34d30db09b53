"""One run as it is read: its todos, logs, pictures, events. Changes nothing of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from coordination.backend.client import reaching
from coordination.declared import Effect, Option, operation
from coordination.errors import CoordinationError, NotFound
from coordination.events.records import BEGINNING, Event
from coordination.runs.connection import Connection
from coordination.runs.logs import LogReader, marked, prefixed
from coordination.runs.records import RunStatus, TodoState
from coordination.runs.run_kinds import is_landing
from coordination.runs.views import timeline
from coordination.runs.views.records import Progress, RunView, TodoView
from coordination.runs.views.run_list import ANY_RUN
from coordination.runs.views.timeline import RunEvent
from coordination.runs.views.todo_view import in_hand
from coordination.text import did_you_mean

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.changes.checkout import RepoDiff
    from coordination.runs.views.progress_reader import ProgressReader


class RunReading:
    """The read-only half of `Run`."""

    def __init__(self, access: EcosystemAccess, run_id: str) -> None:
        self.id = run_id
        self._access = access
        self._connection = access.connection
        access.handles.add(run_id)

    @contextmanager
    def _reached(self) -> Iterator[Connection]:
        with reaching(self._connection.url):
            yield self._connection

    @operation("run.show", Effect.READS, on=ANY_RUN, tool=False)
    def view(self, *, todos: bool = True, only: Collection[str] | None = None) -> RunView:
        """Show a run: its status and progress; state, attempts, times, error and wait reason of each todo.

        `todos`: with its todos. `only`: with these todos, and without the progress.
        """
        with self._reached() as connection:
            found = connection.reader.read(self.id, todos=todos, only=only)
            return found if only is not None else self._progress_reader.with_progress(found, complete=todos)

    def with_signatures(self, view: RunView) -> RunView:
        """Return the view with the verified signatures, and the parts that could not be verified."""
        from coordination.runs.control.signing import with_signatures

        with self._reached() as connection:
            return with_signatures(connection, view)

    def signed_view(self) -> RunView:
        """Show a run as `view` does, with its verified signatures."""
        return self.with_signatures(self.view())

    def progress(self) -> Progress:
        """Return how far the run is, when it is expected to end, what runs, waits and comes next; a second
        call on the same handle costs less.
        """
        with self._reached():
            return self._progress_reader.read()

    @cached_property
    def _progress_reader(self) -> ProgressReader:
        from coordination.runs.views.progress_reader import ProgressReader

        return ProgressReader(self._connection.redis, self._connection.keys, self.id)

    def max_parallel(self) -> int | None:
        """Return how many of its todos may run at once; None without a limit of its own."""
        with self._reached() as connection:
            return connection.reader.max_parallel(self.id)

    def status(self) -> RunStatus:
        with self._reached() as connection:
            return connection.reader.status(self.id)

    def todo(self, todo: str, state: TodoState, *, undoing: bool = False) -> TodoView:
        """Return a todo as it was in that state. Raises Unreadable where the run does not have it."""
        with self._reached() as connection:
            return connection.reader.todo(self.id, todo, state, undoing=undoing)

    def todos_in_hand(self) -> set[str]:
        """Return the todos that have begun and not ended."""
        with self._reached() as connection:
            return in_hand(connection.redis, connection.keys.run(self.id))

    def branches(self, view: RunView) -> Mapping[str, str]:
        """Return repository → the branch with its work."""
        with self._reached() as connection:
            return connection.reader.branches(view)

    def commands_to_pull(self, view: RunView) -> tuple[str, ...]:
        """Return the commands that update the checkouts of this machine which a landing has left behind."""
        from coordination.landing.preview import commands_to_pull

        if not is_landing(view.plan_id) or not self._access.has_file:
            return ()
        try:
            document = self._access.document
            repos = document.ecosystem.repos
            places = {repo.name: document.repo_path(repo) for repo in repos}
            return commands_to_pull(view.todos, repos, places)
        except CoordinationError:  # the file is broken by now, or git is gone: the run is shown nevertheless
            return ()

    def lands_by_requests(self, repos: Collection[str]) -> bool:
        """Return whether one of these repositories has a forge for which this machine has a token."""
        from coordination.forges.connect import with_token

        try:
            declared = self._access.document.ecosystem.repos if self._access.has_file else ()
        except CoordinationError:  # the file is broken by now
            return False
        return bool(with_token(repo for repo in declared if repo.name in repos))

    def log_tail(self, todo: str) -> str:
        with self._reached() as connection:
            return connection.reader.log_tail(self.id, todo)

    @operation("run.logs", Effect.READS, on=ANY_RUN, tool=False)
    def log(
        self,
        todo: Annotated[
            str | None, Option("A todo of the run (default: all of its todos).", completes="todo_ids")
        ] = None,
        *,
        follow: Annotated[
            bool, Option("Follow the output until the todo, or the run, has ended.", short="-f")
        ] = False,
    ) -> Iterator[str]:
        """Read the output of the todos of a run, over all attempts.

        `todo`: of this todo; without it, of all, each line with its todo. `follow`: until the todo, or the
        run, has ended. Yield it in pieces.

        Raises NotFound.
        """
        with self._reached() as connection:
            todos = self._log_of(connection, todo)
            reader = LogReader(connection.blocking, connection.keys, self.id, todos)
            texts = marked(reader.followed() if follow else reader.written())
            yield from prefixed(texts, todos) if todo is None else (text for _, text in texts)

    def _log_of(self, connection: Connection, todo: str | None) -> list[str]:
        todos = [one.id for one in connection.reader.read(self.id).todos]
        if todo is None:
            return todos
        if todo not in todos:
            near = did_you_mean(todo, todos)
            raise NotFound(
                f"run {self.id} has no todo {todo!r}{near}", f"list them: coord show-run {self.id}"
            )
        return [todo]

    def gantt(self) -> str:
        """Return a Gantt chart as SVG: the times of each todo, and the reasons of its waits."""
        from coordination.charts.gantt import gantt_svg

        with self._reached() as connection:
            store = connection.store
            view, events = (
                connection.reader.read(self.id),
                timeline.all_events(store.redis, store.keys, self.id),
            )
            return gantt_svg(view, store.brief(self.id), list(events), store.now_ms())

    def picture(self, tasks: Mapping[str, str]) -> str:
        """Return an SVG picture of the graph. `tasks`: todo → its task in the file."""
        from coordination.charts.pictures import run_svg

        with self._reached() as connection:
            brief = connection.store.brief(self.id)
            return run_svg(connection.reader.read(self.id), brief.predecessors, tasks)

    def todo_diff(self, todo: TodoView, plan: str) -> RepoDiff | None:
        """Return the difference that a todo of the run made by itself; None where it committed nothing.

        Raises GitRefused where this machine does not have its commit.
        """
        from coordination.changes.checkout import RepoDiff, diff_of_commit

        with self._reached() as connection:
            began, commit = connection.reader.commits_of(self.id, todo)
        if not began or not commit or began == commit:
            return None
        document = self._access.document
        places = {repo.name: document.repo_path(repo) for repo in document.ecosystem.repos}
        known = RepoDiff(plan=plan, repo=todo.repo, branch="", base=began, tip=commit, host=todo.host)
        return diff_of_commit(known, places.get(todo.repo))

    def document(self, *, to_import: bool) -> Iterator[str]:
        """Yield all that Redis keeps of the run, as the pieces of a JSON document.

        Raises Conflict where a todo of it still runs and the document is `to_import`.
        """
        from coordination.runs.export.document import document_of

        with self._reached() as connection:
            yield from document_of(connection.store, self.id, to_import=to_import)

    @operation("run.export", Effect.READS, on=ANY_RUN, tool=False)
    def export(
        self,
        file: str | Path,
        *,
        look: Annotated[bool, Option("Export a live run; the document cannot be imported.")] = False,
    ) -> Path:
        """Export a run as a JSON document, compressed if the name of the file ends in .gz.

        `look`: also of a live run, which cannot be imported then.

        Raises as `document` does.
        """
        from coordination.runs.export.document import save

        save(self.document(to_import=not look), Path(file))
        return Path(file)

    # Followed

    def follow(self, since: str = BEGINNING) -> Iterator[RunEvent | None]:
        """Yield each event after `since`, and None at each tick without one, until the run ends."""
        with self._reached() as connection:
            yield from timeline.follow(connection.blocking, connection.keys, self.id, since=since)

    def last_event(self) -> str:
        """Return the id of the newest event."""
        with self._reached() as connection:
            newest = connection.redis.xrevrange(connection.keys.run(self.id).events, count=1)
        return newest[0][0] if newest else BEGINNING

    def redis_is_full(self) -> bool:
        """Return whether Redis cannot write to its disk: then no step succeeds, and only INFO shows why."""
        with self._reached() as connection:
            status: str = connection.redis.info("persistence").get("aof_last_write_status", "ok")
        return status != "ok"

    def unserved(self, view: RunView) -> Mapping[str, str]:
        """Return repository → the missing part (a worker, a program), for repositories of open todos that no
        worker serves.
        """
        with self._reached() as connection:
            return connection.registry.unserved({todo.repo for todo in view.todos if not todo.state.ended})

    def workers(self) -> set[str]:
        """Return the ids of the workers that are there."""
        with self._reached() as connection:
            return {worker.id for worker in connection.registry.workers()}

    def events(self) -> Iterator[Event]:
        """Yield the events of the run, from its first one to its end."""
        for event in self.follow():
            if event is not None:
                yield event.as_event(self.id)
