"""One run: views, progress, control, rollback, retry."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from coordination.api.subscribers import event_of
from coordination.backend.client import reaching
from coordination.ecosystem.writeback import Written
from coordination.environment import actor
from coordination.errors import Blocked, Conflict, NotFound
from coordination.events.stream import Event
from coordination.messages.live import BEGINNING
from coordination.models import OnFailure, WriteBack
from coordination.runs import transactions
from coordination.runs.connection import Connection
from coordination.runs.filings import file_id, write_results
from coordination.runs.records import Progress, RunStatus, RunView, TodoState, TodoView
from coordination.runs.replies import Reply
from coordination.runs.retrying import named_checkpoints
from coordination.runs.submission.structure import refuse_changed
from coordination.runs.views import progress as following
from coordination.runs.views.log_reader import LogReader, marked, prefixed
from coordination.runs.views.raw_records import in_hand
from coordination.text import did_you_mean

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.runs.retrying.named_checkpoints import NamedCheckpoint
    from coordination.runs.retrying.retry_plan import RetryPlan
    from coordination.runs.rollback import RollbackPreview
    from coordination.runs.views.progress_reader import ProgressReader


class Run:
    """A handle of a run. It owns nothing: a process that leaves changes nothing of the run, as long as its
    workers stay.
    """

    def __init__(self, access: EcosystemAccess, run_id: str) -> None:
        self.id = run_id
        self._access = access
        self._connection = access.connection
        self._told = BEGINNING
        access.handles.add(run_id)

    @contextmanager
    def _reached(self) -> Iterator[Connection]:
        with reaching(self._connection.url):
            yield self._connection

    # Looked at

    def view(self, *, todos: bool = True, only: Collection[str] | None = None) -> RunView:
        """Return the run as it stands now, with its progress; `only`: of its todos these, without it."""
        with self._reached() as connection:
            found = connection.reader.read(self.id, todos=todos, only=only)
            return found if only is not None else self._progress_reader.added(found, complete=todos)

    def progress(self) -> Progress:
        """Return how far the run is, when it is expected to end, what runs, waits and comes next; a second call
        on the same handle costs less.
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
        """Return repository → the run on whose branch its work is."""
        with self._reached() as connection:
            return connection.reader.branches(view)

    def log_tail(self, todo: str) -> str:
        with self._reached() as connection:
            return connection.reader.log_tail(self.id, todo)

    def log(self, todo: str | None = None, *, follow: bool = False) -> Iterator[str]:
        """Yield the output of a todo over its attempts, in pieces; without one, that of all, each line with
        its todo.

        With `follow` until the todo, or the run, has ended. Raises NotFound.
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
        """Return an SVG picture of the time of each todo, and what it waited for."""
        from coordination.runs.views.pictures import gantt

        with self._reached() as connection:
            return gantt(connection.store, self.id)

    def picture(self, tasks: Mapping[str, str]) -> str:
        """Return an SVG picture of the graph. `tasks`: todo → what the file says of it."""
        from coordination.runs.views import pictures

        with self._reached() as connection:
            return pictures.graph(connection.store, self.id, tasks)

    def document(self, *, to_import: bool) -> Iterator[str]:
        """Yield all that Redis keeps of the run, as the pieces of a JSON document.

        Raises Conflict where something of it goes on and the document is `to_import`.
        """
        from coordination.runs.export.document import document_of

        with self._reached() as connection:
            yield from document_of(connection.store, self.id, to_import=to_import)

    def export(self, file: str | Path, *, look: bool = False) -> Path:
        """Write the document to a file, compressed if its name ends in .gz. Raises as `document` does,
        unless it is to `look` at.
        """
        from coordination.runs.export.file import save

        save(self.document(to_import=not look), Path(file))
        return Path(file)

    # Followed

    def follow(self, since: str = BEGINNING) -> Iterator[following.RunEvent | None]:
        """Yield each event after `since`, and None at each tick without one, until the run ends."""
        with self._reached() as connection:
            yield from following.follow(connection.blocking, connection.keys, self.id, since=since)

    def last_event(self) -> str:
        """Return the id of the newest event."""
        with self._reached() as connection:
            newest = connection.redis.xrevrange(connection.keys.run(self.id).events, count=1)
        return newest[0][0] if newest else BEGINNING

    def redis_is_full(self) -> bool:
        """Tell whether Redis cannot write to its disk: then nothing moves, and only its INFO says so."""
        with self._reached() as connection:
            status: str = connection.redis.info("persistence").get("aof_last_write_status", "ok")
        return status != "ok"

    def unserved(self, view: RunView) -> Mapping[str, str]:
        """Return repository → what it lacks, for those of open todos that no worker serves."""
        with self._reached() as connection:
            return connection.presence.unserved({todo.repo for todo in view.todos if not todo.state.ended})

    def workers(self) -> set[str]:
        """Return the ids of the workers that are there."""
        with self._reached() as connection:
            return {worker.id for worker in connection.presence.workers()}

    def maintain(self) -> None:
        """Run one round of maintenance: where no worker is left, nobody else gives up a dead one."""
        from coordination.runs.maintenance.leader import RunRecovery

        with self._reached() as connection:
            if connection.settings.reaper:
                RunRecovery(connection.store, connection.dispatcher, connection.settings).run_once()

    def events(self) -> Iterator[Event]:
        """Yield the events of the run, from its first one to its end."""
        for event in self.follow():
            if event is not None:
                yield event_of(self.id, event)

    def wait(self, timeout_s: float | None = None) -> RunView:
        """Wait for the end, then write results back. Subscribers get each event once, earlier ones too.

        Raises TimeoutError: the run goes on, and may be waited for again; Unreachable where the worker that
        was started for it died too often.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for event in self.follow(self._told):
            if event is None:
                self._access.restarted()
            else:
                self._told = event.id
                self._access.subscribers.tell(event_of(self.id, event))
            if deadline is not None and time.monotonic() > deadline and not _is_end(event):
                raise TimeoutError(f"run {self.id} has not ended within {timeout_s} s")
        if self._connection.settings.write_back is not WriteBack.NONE:
            self.write_back()
        return self.view()

    def sync(self) -> tuple[str, ...]:
        """Write results back, whatever the settings say; return the todos and milestones that were
        changed.
        """
        return self.write_back().all

    def write_back(self) -> Written:
        """Mark succeeded todos as completed in the file; todos that the run had completed and were undone,
        as pending.
        """
        path = self._access.path
        with self._reached() as connection:
            return write_results(connection.store, self.id, path, file_id(path))

    # Steered

    def pause(self) -> None:
        self._steer("pause", self._connection.store.pause, "paused")

    def resume(self, *, as_it_was: bool = False) -> None:
        """Continue a paused run. Raises PlanRefused where the file has another graph for its todos by now,
        unless it continues `as_it_was`.
        """
        access, store = self._access, self._connection.store
        if not as_it_was and access.has_file and self.status() is RunStatus.PAUSED:
            left = {todo.id for todo in self.view().todos if not todo.state.ended}
            with self._reached():
                refuse_changed(store.brief(self.id), access.document.ecosystem, left, f"resume {self.id}")
        self._steer("resume", store.resume, "resumed")

    def cancel(self) -> None:
        """Start nothing new, and stop what runs; `wait` returns when it has stopped."""
        self._steer("cancel", self._connection.store.cancel, "cancelled")

    def _steer(self, command: str, step: Callable[[str, str], Reply], expected: str) -> None:
        with self._reached() as connection:
            transactions.steer(connection, self.id, step, expected)
        self._announce(command)

    def _announce(self, command: str, **data: object) -> None:
        self._access.announce(command, self.id, run=self.id, data=data)

    # Undone

    def rollback(self) -> None:
        """Undo what the run has done, in reverse order; `wait` returns when that has ended. A second call
        changes nothing.

        Compensations that failed are tried again. Raises Conflict where another run has built on it, and
        stands.
        """
        self._access.start_worker(self.rollback_preview().repos)
        self.begin_rollback()

    def begin_rollback(self) -> str:
        """Begin a rollback on the workers that are there; return `rolling_back`, `already` or `done`."""
        with self._reached() as connection:
            word = transactions.roll_back(connection, self.id)
        if word == "rolling_back":
            self._announce("rollback")
        return word

    def rollback_preview(self) -> RollbackPreview:
        """Return what a rollback would undo, and which branches would go. Raises as `rollback` does."""
        with self._reached() as connection:
            return transactions.preview_rollback(connection, self.id)

    def accept(self, todos: str | Collection[str], reason: str) -> None:
        """Count failed compensations as undone, for this reason, and continue the rollback.

        Raises UsageError without a reason; Conflict where a todo is no failed compensation; NotFound.
        """
        self._access.start_worker(self.rollback_preview().repos)
        self.begin_accept([todos] if isinstance(todos, str) else todos, reason)

    def begin_accept(self, todos: Collection[str], reason: str) -> None:
        """Accept as `accept` does, on the workers that are there."""
        with self._reached() as connection:
            transactions.accept(connection, self.id, todos, reason)
        self._announce("accept", todos=todos, reason=reason)

    def create_checkpoint(self, name: str) -> NamedCheckpoint:
        """Record which todos have succeeded. Raises UsageError; Conflict where the name is taken, or the
        run is undone.
        """
        with self._reached() as connection:
            made = named_checkpoints.create(connection.store, self.id, name, actor())
        self._announce("checkpoint", name=name)
        return made

    def checkpoints(self) -> list[NamedCheckpoint]:
        """Return the checkpoints, the oldest first; a retry of the run has them, too."""
        with self._reached() as connection:
            return named_checkpoints.named(connection.store, self.id)

    def restore_preview(self, name: str) -> RollbackPreview:
        """Return what a restore would undo. Raises NotFound; Conflict where a later run has built on it."""
        with self._reached() as connection:
            return transactions.preview_restore(connection, self.id, name)

    def begin_restore(self, name: str) -> RunView:
        """Begin to undo what the run has begun since the checkpoint, or continue with that. `wait` returns
        when that has ended; then `coord.runs.retry` does it again. Raises NotFound; Conflict as `rollback`
        does.
        """
        self._access.start_worker(self.restore_preview(name).repos)
        return self.undo_to(name)

    def undo_to(self, name: str) -> RunView:
        """Begin to restore, as `begin_restore` does, on the workers that are there."""
        with self._reached() as connection:
            transactions.restore(connection, self.id, name)
        self._announce("restore", name=name)
        return self.view()

    def restore(self, name: str, timeout_s: float | None = None) -> Run:
        """Undo what the run has begun since the checkpoint, in reverse order, then retry it; return the new
        run.

        Called again after an interruption it continues. Raises Conflict where something could not be undone;
        Blocked where nothing is left; TimeoutError.
        """
        if not self.begin_restore(name).status.ended:
            self.wait(timeout_s)
        if self.view().status is RunStatus.ROLLBACK_FAILED:
            raise Conflict(
                f"not all of run {self.id} could be undone", f"look at it: coord show-run {self.id}"
            )
        return self.retry()

    # Retried

    def retry(
        self,
        *,
        on_failure: OnFailure | None = None,
        max_parallel: int | None = None,
        without: Collection[str] = (),
        from_: str | Collection[str] = (),
        as_it_was: bool = False,
    ) -> Run:
        """Start a run of what is left of this one: see `Runs.retry`."""
        start = [from_] if isinstance(from_, str) else from_
        left = self.prepare_retry(without=without, start=start, as_it_was=as_it_was)
        if left.nothing_to_do:
            raise Blocked(left.nothing_to_do, "todos that were added since: coord sweep PLAN")
        self._access.start_worker(left.repos)
        return self.start_retry(left, on_failure=on_failure, max_parallel=max_parallel)

    def prepare_retry(
        self, *, without: Collection[str] = (), start: Collection[str] = (), as_it_was: bool = False
    ) -> RetryPlan:
        """Return what a retry would do. Raises as `Runs.retry` does."""
        access = self._access
        ecosystem = access.manager.document.ecosystem if access.has_file else None
        with self._reached() as connection:
            return transactions.plan_retry(
                connection, self.id, ecosystem, without=without, start=start, as_it_was=as_it_was
            )

    def start_retry(
        self, left: RetryPlan, *, on_failure: OnFailure | None = None, max_parallel: int | None = None
    ) -> Run:
        """Start a prepared retry on the workers that are there. Raises Conflict."""
        with self._reached() as connection:
            run_id = transactions.start_retry(
                connection, left, on_failure=on_failure, max_parallel=max_parallel
            )
        arguments = {"of": self.id, "on_failure": on_failure, "max_parallel": max_parallel}
        self._access.announce("retry", self.id, run=run_id, repos=sorted(left.repos), data=arguments)
        return Run(self._access, run_id)


def _is_end(event: following.RunEvent | None) -> bool:
    return event is not None and event.what == following.ENDED
