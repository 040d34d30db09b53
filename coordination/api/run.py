"""One run: waited for, steered, undone, retried; decisions of people about todos of runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

from coordination.api.parameters import AsItWas, AskingTodo, CheckpointName, Comment, InRun
from coordination.api.run_reading import RunReading
from coordination.declared import Effect, operation
from coordination.environment import actor
from coordination.errors import Blocked, Conflict
from coordination.events.records import BEGINNING
from coordination.models import OnFailure, Verdict, WriteBack
from coordination.runs.records import RunStatus
from coordination.runs.views import timeline
from coordination.runs.views.records import RunView
from coordination.runs.views.run_list import ANY_RUN, OF_TODOS, UNDOABLE, ActsOn
from coordination.runs.views.timeline import RunEvent

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.backend.steps.run import Reply
    from coordination.ecosystem.writeback import Written
    from coordination.runs.control.approvals import Decision
    from coordination.runs.control.named_checkpoints import NamedCheckpoint
    from coordination.runs.control.signing import Subject
    from coordination.runs.control.steering import RollbackPreview
    from coordination.runs.retrying.retry_plan import RetryPlan


class Run(RunReading):
    """A handle of a run. It owns nothing: a process that leaves changes nothing of the run, as long as its
    workers stay.
    """

    def __init__(self, access: EcosystemAccess, run_id: str) -> None:
        super().__init__(access, run_id)
        self._told = BEGINNING

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
        with self._reached() as connection:
            run_id = retry_run.start_retry(connection, left, on_failure=on_failure, max_parallel=max_parallel)
        arguments = {"of": self.id, "on_failure": on_failure, "max_parallel": max_parallel}
        self._access.announce("retry", self.id, run=run_id, repos=sorted(left.repos), data=arguments)
        return Run(self._access, run_id)


class Decisions:
    """The part of `coord.runs` by which people decide. Names of runs are those of `Runs`."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    def complete(self, todo: str, run: str | None = None) -> Run:
        """Complete a manual todo that a person has done; return its run, which continues."""
        from coordination.runs.control import approvals

        with self._access.reached() as connection:
            named = connection.reader.resolve(run, ActsOn(todo=todo)) if run else None
            self._access.authority.check("complete", lambda: self._repos_of(todo, named))
            run_id = approvals.complete(connection, todo, named)
        self._access.announce("complete", todo, run=run_id)
        return Run(self._access, run_id)

    @operation("run.approve", Effect.ADDS, right="approve", event="approve", tool=False)
    def approve(self, todo: AskingTodo, *, run: InRun = None, comment: Comment = "") -> Run:
        """Approve a todo or milestone that waits at a gate, or a manual todo that a person has done.

        Raises NotFound; Conflict; UsageError where nothing waits for approval, or several runs do and none is
        named.
        """
        return Run(self._access, self.decide(Verdict.APPROVE, todo, run, comment).run_id)

    @operation(
        "run.reject",
        Effect.CHANGES,
        right="approve",
        event="reject",
        for_agents="Do it on behalf of a person who told you to. coord_run_retry asks for the approval "
        "again.",
    )
    def reject(self, todo: AskingTodo, *, run: InRun = None, comment: Comment = "") -> Run:
        """Reject a todo or milestone that waits at a gate. It fails without another attempt, and the run
        follows its `on_failure`.

        Raises as `approve` does.
        """
        return Run(self._access, self.decide(Verdict.REJECT, todo, run, comment).run_id)

    def review(self, todo: str, run: str | None = None) -> tuple[str, Subject | None]:
        """Return the run, and what an approval of the todo would sign: task, order and commits, from bytes
        that were verified here; None in a process without an identity. Raises as `approve` does; NotTrusted
        where somebody has changed the run.
        """
        from coordination.runs.control import approvals

        with self._access.reached() as connection:
            self._access.authority.check("read")
            return approvals.review(
                connection, todo, connection.reader.resolve(run, ActsOn(todo=todo)) if run else None
            )

    def decide(
        self,
        verdict: Verdict,
        todo: str,
        run: str | None = None,
        comment: str = "",
        *,
        reviewed: Subject | None = None,
    ) -> Decision:
        """Approve or reject; return who decided what in which run. Raises as `approve` does, and Conflict
        where the todo is not as it was `reviewed` any more.
        """
        from coordination.runs.control import approvals

        with self._access.reached() as connection:
            named = connection.reader.resolve(run, ActsOn(todo=todo)) if run else None
            self._access.authority.check(verdict.value, lambda: self._repos_of(todo, named))
            decision = approvals.decide(connection, verdict, todo, named, comment, reviewed=reviewed)
        self._access.announce(verdict.value, todo, run=decision.run_id, data={"comment": comment})
        return decision

    def _repos_of(self, todo: str, run_id: str | None) -> set[str]:
        """Return the repository of a todo in a run, or all of the run for a milestone; empty if unknown."""
        asking = () if run_id else self._access.live_asking()
        names = [run_id] if run_id else [one.run_id for one in asking if one.todo == todo]
        rows = [row for name in names for row in Run(self._access, name).view().todos if row.repo]
        return {row.repo for row in rows if row.id == todo} or {row.repo for row in rows}


def _is_end(event: RunEvent | None) -> bool:
    return event is not None and event.what == timeline.ENDED
