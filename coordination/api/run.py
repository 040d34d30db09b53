"""One run: read, followed, waited for, steered, undone, retried."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from coordination.api.parameters import AsItWas, CheckpointName
from coordination.backend.client import reaching
from coordination.declared import Effect, Option, operation
from coordination.environment import actor
from coordination.errors import Blocked, Conflict, CoordinationError, NotFound, UsageError
from coordination.events.records import BEGINNING, Event
from coordination.models import OnFailure, WriteBack
from coordination.runs import agent_records
from coordination.runs.connection import Connection
from coordination.runs.logs import LogReader, Piece, marked, prefixed
from coordination.runs.records import RunStatus, TodoState
from coordination.runs.run_kinds import is_landing
from coordination.runs.views import run_events
from coordination.runs.views.records import Progress, RunView, TodoView
from coordination.runs.views.run_events import RunEvent
from coordination.runs.views.run_list import ANY_RUN, OF_TODOS, UNDOABLE
from coordination.runs.views.timeline import Work, timeline
from coordination.runs.views.todo_view import in_hand
from coordination.text import did_you_mean, listed

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.backend.steps.run import Reply
    from coordination.changes.checkout import RepoDiff
    from coordination.ecosystem.writeback import Written
    from coordination.runs.control.named_checkpoints import NamedCheckpoint
    from coordination.runs.control.steering import RollbackPreview
    from coordination.runs.retrying.retry_plan import RetryPlan
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
        self._tasks: dict[str, str] = {}
        access.handles.add(run_id)

    # Read

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

    def log_tail(self, todo: str, attempt: str = "") -> str:
        """Return the end of a todo's output; `attempt`: of this attempt, else of the newest one."""
        with self._reached() as connection:
            return connection.reader.log_tail(self.id, todo, attempt)

    def last_lines(self, attempts: Mapping[str, int]) -> Mapping[str, str]:
        """Return todo → the last line of its output so far. `attempts`: todo → its present attempt."""
        with self._reached() as connection:
            return connection.reader.last_lines(self.id, attempts)

    def tasks(self, todos: Collection[str]) -> Mapping[str, str]:
        """Return todo → its task, as the run was ordered. They never change, so each is read once."""
        if new := [todo for todo in todos if todo not in self._tasks]:
            with self._reached() as connection:
                self._tasks.update(connection.reader.tasks(self.id, new))
        return {todo: self._tasks[todo] for todo in todos}

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
        records: Annotated[
            bool,
            Option("Read the raw records of agents instead, JSON lines: those that are on this host."),
        ] = False,
    ) -> Iterator[str]:
        """Read the output of the todos of a run, over all attempts.

        `todo`: of this todo; without it, of all, each line with its todo. `follow`: until the todo, or the
        run, has ended. `records`: the raw records of agents instead, each a line of JSON. Yield it in pieces.

        Raises NotFound.
        """
        if records:
            if follow:
                raise UsageError("records cannot be followed", "follow the output: coord logs --follow")
            yield from self._records(todo)
            return
        with self._reached() as connection:
            todos = self._log_of(connection, todo)
            reader = LogReader(connection.blocking, connection.keys, self.id, todos)
            pieces = marked(reader.followed() if follow else reader.written())
            yield from prefixed(pieces, todos) if todo is None else (piece.text for piece in pieces)

    def log_pieces(self, todo: str) -> Iterator[Piece]:
        """Yield the log of a todo as `log` does, in pieces that name their attempts. Raises NotFound."""
        with self._reached() as connection:
            todos = self._log_of(connection, todo)
            yield from marked(LogReader(connection.blocking, connection.keys, self.id, todos).written())

    def attempts(self, todo: str) -> list[Work]:
        """Return the attempts of a todo in this run whose events Redis still keeps."""
        with self._reached() as connection:
            store = connection.store
            events = [
                event
                for event in run_events.all_events(store.redis, store.keys, self.id)
                if event.todo == todo
            ]
            line = timeline(events, {}, store.now_ms())
            return list(line.work) if line else []

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

    def _records(self, todo: str | None) -> Iterator[str]:
        with self._reached() as connection:
            todos = self._log_of(connection, todo)
            views = connection.reader.read(self.id, only=todos).todos
        state = self._access.state
        files = [file for one in views for file in agent_records.files_of(state, one.run or self.id, one.id)]
        if not files:
            raise self._without_records(todo, views)
        for file in files:
            yield from agent_records.lines_of(file)

    def _without_records(self, todo: str | None, views: Collection[TodoView]) -> NotFound:
        where, here = f"run {self.id}" if todo is None else todo, self._access.settings.this_host
        command = f"coord logs {self.id}" if todo is None else f"coord logs {self.id} {todo}"
        hosts = sorted({one.host for one in views if one.usage and one.host not in ("", here)})
        if hosts:
            why = f"its agents worked on {listed(hosts)}"
            return NotFound(
                f"{where} has no records on {here}: {why}", f"read them there: {command} --records"
            )
        why = "no agent has worked here for it, or its logs were removed"
        return NotFound(f"{where} has no records on {here}: {why}", f"see its output: {command}")

    def task(self, todo: str) -> str:
        return self.tasks((todo,))[todo]

    def gantt(self) -> str:
        """Return a Gantt chart as SVG: the times of each todo, and the reasons of its waits."""
        from coordination.charts.gantt import gantt_svg

        with self._reached() as connection:
            store = connection.store
            view, events = (
                connection.reader.read(self.id),
                run_events.all_events(store.redis, store.keys, self.id),
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
            yield from run_events.follow(connection.blocking, connection.keys, self.id, since=since)

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

    # Waited for

    def maintain(self) -> None:
        """Run one round of maintenance: where no worker is left, no other process gives up dead ones."""
        from coordination.runs.maintenance.rounds import RunRecovery

        with self._reached() as connection:
            if connection.settings.reaper:
                RunRecovery(connection.store, connection.dispatcher, connection.settings).run_once()

    @operation("run.watch", Effect.READS, on=ANY_RUN, tool=False)
    def wait(self, timeout_s: float | None = None) -> RunView:
        """Follow a run until it ends, then write its results into the file.

        `timeout_s`: wait no longer. Subscribers get each event once, earlier ones too.

        Raises TimeoutError, after which the run continues and may be waited for again; Unreachable where the
        worker that was started for it died too often.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for event in self.follow(self._told):
            if event is None:
                self._access.restarted()
            else:
                self._told = event.id
                self._access.subscribers.tell(event.as_event(self.id))
            if deadline is not None and time.monotonic() > deadline and not _is_end(event):
                raise TimeoutError(f"run {self.id} has not ended within {timeout_s} s")
        if self._connection.settings.write_back is not WriteBack.NONE:
            self.write_back()
        return self.view()

    @operation("run.sync", Effect.CHANGES, right="edit", event="sync", on=OF_TODOS)
    def sync(self) -> tuple[str, ...]:
        """Write the results of a run into the file: status, hours and dates of its todos.

        Return the todos and milestones that were changed. It does so whatever the settings say.

        Raises NotAllowed.
        """
        return self.write_back(ordered=True).all

    def write_back(self, *, ordered: bool = False) -> Written:
        """Mark succeeded todos as completed in the file; todos that the run had completed and were undone,
        as pending. Where this machine requires signatures, only results that verified ones cover: `refused`
        of the answer names the others.

        `ordered`: a person has ordered it, and needs the right. The end of a run that a person was allowed
        to start writes its results back by itself. Raises NotAllowed.
        """
        from coordination.runs.write_back import file_id, write_results

        if ordered:
            self._check("sync")
        path = self._access.path
        with self._reached() as connection:
            if not self._access.authority.required:
                return write_results(connection.store, self.id, path, file_id(path))
            from coordination.runs.signed.results import confirm

            run = connection.signed_run(self.id, connection.trust_with_worker(self._access.state))
            written = write_results(connection.store, self.id, path, file_id(path), partial(confirm, run))
            if why := written.refused:
                from coordination.runs.attempt_store import LONGEST_TITLE

                connection.store.announce(
                    "trust.refused", "write_back", run=self.id, actor=actor(), title=why[:LONGEST_TITLE]
                )
            return written

    # Steered

    @operation("run.pause", Effect.CHANGES, right="sweep", event="pause", on=ANY_RUN)
    def pause(self) -> Run:
        """Pause a run: start no more todos; running todos continue to their end."""
        return self._steer("pause", self._connection.store.pause, "paused")

    @operation("run.resume", Effect.CHANGES, right="sweep", event="resume", on=ANY_RUN)
    def resume(self, *, as_it_was: AsItWas = False) -> Run:
        """Resume a paused run.

        `as_it_was`: also where the file has another graph for its todos by now.

        Raises PlanRefused without it.
        """
        access, store = self._access, self._connection.store
        if not as_it_was and access.has_file and self.status() is RunStatus.PAUSED:
            from coordination.runs.submission.structure import refuse_changed

            left = {todo.id for todo in self.view().todos if not todo.state.ended}
            with self._reached():
                refuse_changed(store.brief(self.id), access.document.ecosystem, left, f"run resume {self.id}")
        return self._steer("resume", store.resume, "resumed", as_it_was=as_it_was)

    @operation("run.cancel", Effect.CHANGES, right="sweep", event="cancel", on=ANY_RUN)
    def cancel(self) -> Run:
        """Cancel a run: start no more todos, and stop the running ones. A retry continues it as a new run.

        Return the run, whose `wait` returns when it has stopped.

        Raises Conflict while a merge queue has a pull request of its landing.
        """
        from coordination.runs.control import steering

        self._check("cancel")
        with self._reached() as connection:
            steering.cancel(connection, self.id)
        self._announce("cancel")
        return self

    def _steer(self, command: str, step: Callable[[str, str], Reply], expected: str, **data: object) -> Run:
        from coordination.runs.control import steering

        self._check(command)
        with self._reached() as connection:
            steering.steer(connection, self.id, step, expected)
        self._announce(command, **data)
        return self

    def _check(self, operation: str) -> None:
        """Raise NotAllowed unless this user may do this to all repositories of the run."""
        self._access.authority.check(
            operation, lambda: {todo.repo for todo in self.view().todos if todo.repo}
        )

    def _announce(self, command: str, **data: object) -> None:
        self._access.announce(command, self.id, run=self.id, data=data)

    # Undone

    def rollback(self) -> None:
        """Undo it: see `coord.runs.rollback`."""
        self._access.start_worker(self.rollback_preview().repos)
        self.begin_rollback()

    def begin_rollback(self) -> str:
        """Begin a rollback on the workers that are there; return `rolling_back`, `already` or `done`."""
        from coordination.runs.control import steering

        self._check("rollback")
        with self._reached() as connection:
            word = steering.roll_back(connection, self.id)
        if word == "rolling_back":
            self._announce("rollback")
        return word

    @operation(
        "run.preview_rollback",
        Effect.READS,
        on=UNDOABLE,
        command=False,
        for_agents="Show them to the person who decides before you call coord_run_rollback.",
    )
    def rollback_preview(self) -> RollbackPreview:
        """List what a rollback would undo.

        These are the todos, those that nothing undoes, and the branches that it would delete; for a retry
        also those of the runs before it.

        Raises as `rollback` does.
        """
        from coordination.runs.control import steering

        with self._reached() as connection:
            return steering.preview_rollback(connection, self.id)

    def accept(self, todos: str | Collection[str], reason: str) -> None:
        """Count failed compensations as undone, for this reason, and continue the rollback.

        Raises UsageError without a reason; Conflict where a todo is no failed compensation; NotFound.
        """
        self._access.start_worker(self.rollback_preview().repos)
        self.begin_accept([todos] if isinstance(todos, str) else todos, reason)

    def begin_accept(self, todos: Collection[str], reason: str) -> None:
        """Accept as `accept` does, on the workers that are there."""
        from coordination.runs.control import steering

        self._check("accept")
        with self._reached() as connection:
            steering.accept(connection, self.id, todos, reason)
        self._announce("accept", todos=todos, reason=reason)

    @operation(
        "checkpoint.create",
        Effect.ADDS,
        right="sweep",
        event="checkpoint",
        on=OF_TODOS,
        for_agents="coord_checkpoint_restore returns to it.",
    )
    def create_checkpoint(self, name: CheckpointName) -> NamedCheckpoint:
        """Record under a name which todos of a run have succeeded. The run may be live or ended.

        Raises UsageError; Conflict where the name is taken, or the run is undone.
        """
        from coordination.runs.control import named_checkpoints

        self._check("checkpoint")
        with self._reached() as connection:
            made = named_checkpoints.create(connection.store, self.id, name, actor())
        self._announce("checkpoint", name=name)
        return made

    @operation("checkpoint.list", Effect.READS, on=OF_TODOS)
    def checkpoints(self) -> list[NamedCheckpoint]:
        """List the checkpoints of a run, the oldest first. A retry has those of the run before it, too."""
        from coordination.runs.control import named_checkpoints

        with self._reached() as connection:
            return named_checkpoints.named(connection.store, self.id)

    def restore_preview(self, name: str) -> RollbackPreview:
        """Return what a restore would undo. Raises NotFound; Conflict where a later run has built on it."""
        from coordination.runs.control import steering

        with self._reached() as connection:
            return steering.preview_restore(connection, self.id, name)

    def begin_restore(self, name: str) -> RunView:
        """Begin to undo what the run has begun since the checkpoint, or continue with that. `wait` returns
        when that has ended; then `coord.runs.retry` does it again. Raises NotFound; Conflict as `rollback`
        does.
        """
        self._access.start_worker(self.restore_preview(name).repos)
        return self.undo_to(name)

    def undo_to(self, name: str) -> RunView:
        """Begin to restore, as `begin_restore` does, on the workers that are there."""
        from coordination.runs.control import steering

        self._check("restore")
        with self._reached() as connection:
            steering.restore(connection, self.id, name)
        self._announce("restore", name=name)
        return self.view()

    @operation("checkpoint.restore", Effect.EXECUTES, right="sweep", event="restore", on=OF_TODOS, tool=False)
    def restore(self, name: CheckpointName, timeout_s: float | None = None) -> Run:
        """Undo what a run has begun since a checkpoint, in reverse order, then run the rest again.

        Running todos are stopped first. Called again after an interruption, it continues.

        Raises Conflict where something could not be undone; Blocked where nothing is left; TimeoutError.
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
        from_todos: str | Collection[str] = (),
        as_it_was: bool = False,
    ) -> Run:
        """Start a run of what is left of this one: see `Runs.retry`."""
        again = [from_todos] if isinstance(from_todos, str) else from_todos
        left = self.prepare_retry(without=without, from_todos=again, as_it_was=as_it_was)
        if left.nothing_to_do:
            raise Blocked(left.nothing_to_do, "todos that were added since: coord sweep PLAN")
        self._access.start_worker(left.repos)
        return self.start_retry(left, on_failure=on_failure, max_parallel=max_parallel)

    def prepare_retry(
        self, *, without: Collection[str] = (), from_todos: Collection[str] = (), as_it_was: bool = False
    ) -> RetryPlan:
        """Return what a retry would do. Raises as `Runs.retry` does."""
        from coordination.runs.retrying import retry_run

        access = self._access
        ecosystem = access.manager.document.ecosystem if access.has_file else None
        with self._reached() as connection:
            return retry_run.plan_retry(
                connection, self.id, ecosystem, without=without, start=from_todos, as_it_was=as_it_was
            )

    def start_retry(
        self, left: RetryPlan, *, on_failure: OnFailure | None = None, max_parallel: int | None = None
    ) -> Run:
        """Start a prepared retry on the workers that are there. Raises Conflict; NotAllowed."""
        from coordination.runs.retrying import retry_run

        self._access.authority.check("retry", left.repos)
        self._access.authority.check_reads(left.reads)
        with self._reached() as connection:
            run_id = retry_run.start_retry(connection, left, on_failure=on_failure, max_parallel=max_parallel)
        arguments = {"of": self.id, "on_failure": on_failure, "max_parallel": max_parallel}
        self._access.announce("retry", self.id, run=run_id, repos=sorted(left.repos), data=arguments)
        return Run(self._access, run_id)


def _is_end(event: RunEvent | None) -> bool:
    return event is not None and event.what == run_events.ENDED
