"""Completes todos: in the run that waits for a todo, else in the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordination.errors import Conflict, Unreachable

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.runs.approvals import Found
    from coordination.runs.connection import Connection
    from coordination.tracker.records import Edited


@dataclass(frozen=True, kw_only=True)
class Completed:
    """The edit of the file, the run that continues (and edits the file when it has ended), or both."""

    edited: Edited | None = None
    run_id: str | None = None


def complete_todo(access: EcosystemAccess, todo: str, hours: float | None = None) -> Completed:
    """Complete the todo. Raises Conflict while a run executes it, and what the manager and
    `approvals.complete` raise.
    """
    manager = access.manager
    manager.get_todo(todo)
    url = access.running_redis()
    if url is None:
        return Completed(edited=manager.complete_todo(todo, hours))
    from coordination.runs import approvals

    with _connected(access, url, todo) as connection:
        live = connection.store.live_runs()
        found = approvals.find_runs_of(connection.redis, connection.keys, todo, live)
        executing = [one for one in found if not one.state.ended]
        if not executing:
            return Completed(edited=manager.complete_todo(todo, hours))
        if not any(one.waits for one in executing):
            raise _conflict(connection, todo, executing[0])
        run_id = approvals.run_with_manual_todo(todo, executing)
        # With hours the file comes first: the run leaves alone what it finds completed there.
        edited = None if hours is None else manager.complete_todo(todo, hours)
        return Completed(edited=edited, run_id=approvals.complete(connection, todo, run_id))


@contextmanager
def _connected(access: EcosystemAccess, url: str, todo: str) -> Iterator[Connection]:
    """Connect to a Redis that runs, without becoming one of its users."""
    from coordination.backend.client import reaching
    from coordination.runs.connection import Connection

    try:
        with closing(Connection(url, access.settings)) as connection, reaching(url):
            yield connection
    except Unreachable as error:
        in_file = f"or only in the file: coord update-todo {todo} --status completed"
        raise type(error)(error.message, f"{error.hint}; {in_file}") from error


def _conflict(connection: Connection, todo: str, one: Found) -> Conflict:
    from coordination.runs.records import TodoState

    hint = f"wait for it: coord watch {one.run}; or end it: coord cancel {one.run}"
    if one.state is TodoState.RUNNING:
        worker = next(t.worker for t in connection.reader.read(one.run).todos if t.id == todo)
        return Conflict(f"{worker} is carrying out {todo} in run {one.run}", hint)
    return Conflict(f"run {one.run} has {todo} in hand: it is {one.state}", hint)
