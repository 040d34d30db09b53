"""Operations that undo a run: roll back, restore, accept. They hold the start lock, as those do that start a
run.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from coordination.environment import actor
from coordination.errors import Conflict, NotFound, UsageError
from coordination.runs.connection import Connection
from coordination.runs.retrying import named_checkpoints
from coordination.runs.run_kinds import is_landing, is_of_checks
from coordination.runs.signed_operations import sign_operation
from coordination.runs.transactions import check_redis, follow_up, refuse_conflicts, start_lock
from coordination.runs.undoing.preview import (
    RollbackPreview,
    preview_of,
    refuse_built_on,
    refuse_to_accept,
    refuse_within_change_set,
)
from coordination.text import listed
from coordination.trust.orders import OperationKind


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
    """Raise Conflict for a run of checks: it has changed nothing, and the work that it begins with is that of
    other runs.
    """
    if is_of_checks(connection.store.brief(run_id).plan_id):
        what = f"run {run_id} is one of checks: it has changed nothing that could be undone"
        raise Conflict(what, f"end it while it runs: coord cancel {run_id}")


def _refuse_landed(connection: Connection, found: RollbackPreview) -> None:
    """Raise Conflict for an ended landing, which holds its locks no more. A rollback of it that goes on, or
    failed, may continue.
    """
    plan_id = connection.store.brief(found.run_id).plan_id
    if is_landing(plan_id) and found.status.ended and found.status not in named_checkpoints.BACK:
        _, _, change_set = plan_id.partition(":")
        what = f"run {found.run_id} has ended, and does not hold the locks of its landing any more"
        raise Conflict(what, f"take out what it has landed: coord revert {change_set}")


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
        words = f"{listed(late)} of run {run_id} is being undone now"
        raise Conflict(words, f"wait for the result: coord watch {run_id}")


def _refuse_to_undo(connection: Connection, run_id: str) -> None:
    found = preview_rollback(connection, run_id)
    if found.status.ended:
        refuse_conflicts(connection, found.todos)
