"""Steer runs: pause, resume, cancel; undo them: preview a rollback, roll back, restore, accept.

Operations that undo hold the start lock, like those that start a run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from coordination.backend.steps.run import Reply
from coordination.branches import run_branch
from coordination.environment import actor
from coordination.errors import Conflict, NotFound, UsageError
from coordination.models import HIDDEN, secrets_of
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.connection import Connection
from coordination.runs.control import named_checkpoints
from coordination.runs.control.signing import sign_operation
from coordination.runs.control.starting import check_redis, follow_up, refuse_conflicts, start_lock
from coordination.runs.records import TAKES_UP, RunBrief, RunStatus, TodoSpec, TodoState
from coordination.runs.run_kinds import QUEUEING, REVERT, is_landing, is_of_checks
from coordination.runs.store import RunStore
from coordination.runs.submission.dry_run import undo_text
from coordination.runs.submission.order import why_not_undoable
from coordination.runs.views.records import RunView
from coordination.text import did_you_mean, listed
from coordination.trust.orders import OperationKind


def steer(connection: Connection, run_id: str, step: Callable[[str, str], Reply], expected: str) -> None:
    """Pause, resume or cancel a run by this step. Raises NotFound; Conflict where its reply is not as
    expected.
    """
    _expect(connection, run_id, step(run_id, actor()), expected)


def _expect(connection: Connection, run_id: str, reply: Reply, expected: str) -> None:
    if reply.word == "unknown":
        raise NotFound(f"there is no run {run_id!r}", "list the runs: coord list-runs")
    if reply.word != expected:
        raise refused(expected, connection.reader.read(run_id, todos=False))
    follow_up(connection, run_id, reply)


def cancel(connection: Connection, run_id: str) -> None:
    """Cancel a run. Raises as `steer` does, and Conflict while a pull request of its landing may stand in a
    merge queue, which would merge it although the run has ended.
    """
    reply = connection.store.cancel(run_id, actor())
    if reply.word == "queued":
        pages = listed(_queued(connection.store, run_id)) or "a request of it"
        raise Conflict(
            f"run {run_id} cannot be cancelled: the merge queue has {pages}, and would merge it",
            f"take it out, with all that has landed: coord rollback {run_id}; or take it out at its page, "
            "which ends the landing",
        )
    _expect(connection, run_id, reply, "cancelled")


def _queued(store: RunStore, run_id: str) -> list[str]:
    """Return the pages of the requests that a landing has put into a merge queue and that have not landed."""
    if not is_landing(store.redis.hget(store.keys.run(run_id).meta, "plan_id") or ""):
        return []
    found = {}
    for todo, record in store.redis.hgetall(store.keys.run(run_id).checkpoint).items():
        with suppress(ValueError, AttributeError):
            found[todo] = str(json.loads(record).get(QUEUEING) or "")
    states = store.redis.hmget(store.keys.run(run_id).state, list(found)) if found else ()
    return [
        page
        for page, state in zip(found.values(), states, strict=True)
        if page and state and not TodoState(state).ended
    ]


def refused(wish: str, run: RunView) -> Conflict:
    """Return the error that says why a run cannot be `paused`, `resumed` or `cancelled`."""
    if run.status is RunStatus.ROLLING_BACK:
        text = f"run {run.run_id} cannot be {wish}: it is being rolled back, and cannot turn back"
        return Conflict(text, f"follow it: coord watch {run.run_id}")
    if run.status.ended:
        text = f"run {run.run_id} cannot be {wish}: it ended as {run.status} at {run.finished_at}"
        return Conflict(text, f"look at it: coord show-run {run.run_id}")
    if run.status is RunStatus.PAUSED:
        return Conflict(f"run {run.run_id} is paused already", f"continue it: coord run resume {run.run_id}")
    return Conflict(
        f"run {run.run_id} cannot be {wish}: it is {run.status}", f"follow it: coord watch {run.run_id}"
    )


@dataclass(frozen=True, kw_only=True)
class RollbackPreview:
    """Effects of a rollback of the run."""

    run_id: str
    status: RunStatus
    todos: tuple[str, ...]
    """The todos that began and are not undone yet; predecessors first."""
    repos: tuple[str, ...]
    """The repositories of their work."""
    helpless: tuple[str, ...]
    """The todos of `todos` that nothing undoes."""
    takes_up: tuple[str, ...] = ()
    """Earlier runs that this one retries, newest first: their branches and worktrees are removed too."""
    compensations: Mapping[str, str] = field(default_factory=dict)
    """Todo → the command that will undo it, without its secrets; it is read from the run, which may have been
    imported from another Redis.
    """

    branches: tuple[str, ...] = ()
    """The branches that are removed in each of `repos`, if they exist."""


def preview_of(store: RunStore, run_id: str) -> RollbackPreview:
    """Return the preview of a rollback. Raise NotFound."""
    keys = store.keys.run(run_id)
    with store.redis.pipeline(transaction=True) as pipeline:
        for key in (keys.meta, keys.spec, keys.state, keys.facts):
            pipeline.hgetall(key)
        meta, specs, states, facts = pipeline.execute()
    if not meta:
        raise NotFound(f"there is no run {run_id!r}", "list the runs: coord list-runs")
    brief = RunBrief.model_validate_json(meta["brief"])
    begun = tuple(
        todo
        for todo in brief.predecessors
        if f"{todo} intent" in facts and states[todo] != TodoState.COMPENSATED
    )
    runs = (run_id, *brief.lineage.takes_up)
    return RollbackPreview(
        run_id=run_id,
        status=RunStatus(meta["status"]),
        todos=begun,
        repos=tuple(sorted({brief.repo_of[todo] for todo in begun})),
        takes_up=brief.lineage.takes_up,
        branches=tuple(run_branch(run, brief.branch_prefix) for run in runs) if begun else (),
        compensations={todo: text for todo in begun if (text := _compensation(specs[todo]))},
        helpless=tuple(todo for todo in begun if _why_not_undoable(todo, specs[todo], states[todo], facts)),
    )


def _compensation(spec: str) -> str:
    todo = TodoSpec.model_validate_json(spec).todo
    text = undo_text(todo) if todo.compensate is not None else ""
    for secret in secrets_of(todo):
        text = text.replace(secret, HIDDEN) if secret else text
    return text


def _why_not_undoable(todo: str, spec: str, state: str, facts: Mapping[str, str]) -> str:
    # A succeeded todo without a commit was executed in a folder that is not a git repository.
    succeeded = facts.get(f"{todo} was", state) == TodoState.SUCCEEDED
    in_git = not succeeded or f"{todo} commit" in facts
    return why_not_undoable(TodoSpec.model_validate_json(spec).todo, in_git=in_git)


def refuse_built_on(store: RunStore, run_id: str) -> None:
    """Raise Conflict where a retry of this run exists and is not undone."""
    open_retries = [retry for retry, status in store.retries_of(run_id) if status != RunStatus.ROLLED_BACK]
    if open_retries:
        retry = open_retries[-1]
        raise Conflict(
            f"run {retry} builds on run {run_id}: it is a retry of it",
            f"undo the retry first: coord rollback {retry}; then this run: coord rollback {run_id}",
        )


def refuse_within_change_set(store: RunStore, run_id: str) -> None:
    """Raise Conflict where the run is not the last of its change set, or has landed, or another run writes
    the change set now: only the last run can be taken back.
    """
    name, takes_up = store.redis.hmget(store.keys.run(run_id).meta, ["change_set", TAKES_UP])
    found = ChangeSets(store).read(name) if name else None
    if found is None:
        return
    mine = [change for change in found.repos.values() if run_id in change.runs]
    if landed := [change.repo for change in mine if change.landed]:
        message = f"the work of run {run_id} has landed in {listed(landed)}"
        raise Conflict(message, f"take it out: coord revert {name}")
    working = {found.writers.get(change.repo, run_id) for change in mine} - {run_id}
    if live := sorted(working & {*store.live_runs()}):
        message = f"run {live[0]} works on {name}, behind run {run_id}"
        raise Conflict(message, f"wait for its end: coord watch {live[0]}")
    ours = {run_id, *(takes_up or "").split()}  # the runs that it retries are undone with it
    later = sorted({run for change in mine for run in _since_first(change.runs, ours)} - ours)
    facts = {run: store.redis.hmget(store.keys.run(run).meta, ["plan_id", "status"]) for run in later}
    later = [run for run in later if facts[run][1] != RunStatus.ROLLED_BACK]  # by an inverse commit
    plans = {run: facts[run][0] or "" for run in later}
    if landings := [run for run in later if is_landing(plans[run])]:
        message = f"run {landings[-1]} has restored the work of run {run_id}, which had been reverted"
        raise Conflict(message, f"see: coord changes {name}")
    if later:
        back = "; ".join(f"coord rollback {run}" for run in [*later[::-1], run_id])
        message = f"{listed(later)} of {name} {'builds' if len(later) == 1 else 'build'} on run {run_id}"
        raise Conflict(message, f"undo the last one first: {back}")


def _since_first(runs: Sequence[str], ours: Collection[str]) -> Sequence[str]:
    """Return the runs after the first of ours."""
    return runs[next(i for i, run in enumerate(runs) if run in ours) + 1 :]


def refuse_to_accept(run: RunView, todos: Collection[str]) -> None:
    """Raise NotFound, or Conflict where one of these todos is no compensation that failed or waits."""
    known = {todo.id: todo for todo in run.todos}
    look = f"look at it: coord show-run {run.run_id}"
    for name in todos:
        if name not in known:
            raise NotFound(
                f"run {run.run_id} has no todo {name!r}{did_you_mean(name, known)}",
                f"list them: coord show-run {run.run_id}",
            )
        if known[name].state not in (TodoState.COMPENSATION_FAILED, TodoState.COMPENSATING):
            raise Conflict(
                f"{name} of run {run.run_id} is {known[name].state}: there is nothing to accept", look
            )


def preview_rollback(connection: Connection, run_id: str) -> RollbackPreview:
    """Return what a rollback of the run would undo. Raise NotFound; Conflict where a retry exists."""
    refuse_built_on(connection.store, run_id)
    refuse_within_change_set(connection.store, run_id)
    found = preview_of(connection.store, run_id)
    _refuse_checks(connection, run_id)
    _refuse_landed(connection, found)
    return found


def roll_back(connection: Connection, run_id: str) -> str:
    """Undo what the run has begun. Return `rolling_back`, `already` if that was so before, or `done` if all
    is undone.

    Raise NotFound; Conflict where a retry of the run exists, or another run executes one of its todos.
    """
    check_redis(connection)
    with start_lock(connection):
        _refuse_to_undo(connection, run_id)
        sign_operation(connection, run_id, OperationKind.ROLLBACK)
        reply = connection.store.rollback(run_id, actor(), f"{actor()} asked for it")
    follow_up(connection, run_id, reply)
    if reply.word == "unknown":
        raise NotFound(f"there is no run {run_id!r}", "list the runs: coord list-runs")
    return reply.word


def _refuse_checks(connection: Connection, run_id: str) -> None:
    """Raise Conflict for a run of checks: it has changed nothing, and the work with which it begins is that
    of other runs.
    """
    if is_of_checks(connection.store.brief(run_id).plan_id):
        message = f"run {run_id} runs quality checks, which change nothing: there is nothing to undo"
        raise Conflict(message, f"end it while it runs: coord cancel {run_id}")


def _refuse_landed(connection: Connection, found: RollbackPreview) -> None:
    """Raise Conflict for an ended landing, which no longer holds its locks. A rollback of it that goes on, or
    failed, may continue.
    """
    plan_id = connection.store.brief(found.run_id).plan_id
    if is_landing(plan_id) and found.status.ended and found.status not in named_checkpoints.BACK:
        kind, _, change_set = plan_id.partition(":")
        if kind == REVERT:
            message = f"run {found.run_id} is a revert that has ended, which cannot be rolled back"
            raise Conflict(message, f"land {change_set} again: coord land {change_set}")
        message = f"run {found.run_id} is a landing that has ended, which cannot be rolled back"
        raise Conflict(message, f"revert what it has landed: coord revert {change_set}")


def preview_restore(connection: Connection, run_id: str, name: str) -> RollbackPreview:
    """Return what a restore would undo: all that the run has begun since the checkpoint.

    Raise NotFound; Conflict where a retry of the run exists.
    """
    found = preview_rollback(connection, run_id)
    checkpoint = named_checkpoints.one_named(connection.store, run_id, name)
    todos = named_checkpoints.since(connection.store, checkpoint, found.todos)
    helpless = tuple(todo for todo in found.helpless if todo in todos)
    return replace(found, todos=todos, helpless=helpless, takes_up=())


def restore(connection: Connection, run_id: str, name: str) -> RollbackPreview:
    """Begin to undo what the run has begun since the checkpoint, or continue; the caller retries the run when
    it has ended.

    Begin nothing if the run has ended and nothing began since. Raise as `roll_back` does.
    """
    check_redis(connection)
    with start_lock(connection):
        found = preview_restore(connection, run_id, name)
        if found.status.ended:
            refuse_conflicts(connection, found.todos)
        if not found.todos and found.status.ended and found.status not in named_checkpoints.BACK:
            return found
        sign_operation(connection, run_id, OperationKind.RESTORE, checkpoint=name)
        reply = connection.store.restore(run_id, actor(), name)
    named_checkpoints.refuse_restore(run_id, reply.word)
    follow_up(connection, run_id, reply)
    return found


def accept(connection: Connection, run_id: str, todos: Collection[str], reason: str) -> None:
    """Count failed compensations as undone, for this reason, and continue the rollback.

    Raise UsageError without a reason; NotFound; Conflict where one of the todos is no failed compensation.
    """
    if not reason.strip():
        raise UsageError("a reason is required to accept a failed compensation", 'add: --reason "…"')
    store, by = connection.store, actor()
    check_redis(connection)
    with start_lock(connection):
        _refuse_to_undo(connection, run_id)
        refuse_to_accept(connection.reader.read(run_id), todos)
        for todo in dict.fromkeys(todos):
            sign_operation(connection, run_id, OperationKind.ACCEPT, todo, comment=reason.strip())
        replies = {todo: store.accept(run_id, todo, by, reason.strip()) for todo in dict.fromkeys(todos)}
    for reply in replies.values():
        connection.dispatcher.follow(reply)
    if late := [todo for todo, reply in replies.items() if reply.word != "accepted"]:
        message = f"{listed(late)} of run {run_id} is being undone now"
        raise Conflict(message, f"wait for the result: coord watch {run_id}")


def _refuse_to_undo(connection: Connection, run_id: str) -> None:
    found = preview_rollback(connection, run_id)
    if found.status.ended:
        refuse_conflicts(connection, found.todos)
