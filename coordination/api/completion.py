"""Completes a todo: in the run that waits for it, else in the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordination.environment import actor
from coordination.errors import Conflict, Unreachable

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.runs.connection import Connection
    from coordination.runs.views.todos_in_runs import DecidableTodo
    from coordination.tracker.records import Edited


@dataclass(frozen=True, kw_only=True)
class Completed:
    """The edit of the file, the run that continues (and edits the file when it has ended), or both."""

    todo: str
    edited: Edited | None = None
    run_id: str | None = None

    def data(self) -> dict[str, Any]:
        record = self.edited.data() if self.edited else {"todo": self.todo}
        return {**record, "run_id": self.run_id} if self.run_id else record


def complete(access: EcosystemAccess, todo: str, hours: float | None = None) -> Completed:
    """Complete a todo: in the run that waits for it, else in the file.

    Raises Conflict while a run executes it, or where it is completed already. Starts no server to ask.
    """
    manager = access.manager
    manager.get_todo(todo)
    url = access.running_redis()
    if url is None:
        return Completed(todo=todo, edited=manager.complete_todo(todo, hours))
    from coordination.runs.control import approvals
    from coordination.runs.views.todos_in_runs import find_runs_of

    with _connected(access, url, todo) as connection:
        live = connection.store.live_runs()
        found = find_runs_of(connection.redis, connection.keys, todo, live)
        executing = [one for one in found if not one.state.ended]
        if not executing:
            return Completed(todo=todo, edited=manager.complete_todo(todo, hours))
        if not any(one.waits for one in executing):
            raise _conflict(todo, executing[0])
        run_id = approvals.run_with_manual_todo(todo, executing)
        access.authority.check("complete", [manager.get_todo(todo).repo])
        # With hours the file is edited first: the run does not overwrite a todo that is completed there.
        edited = None if hours is None else manager.complete_todo(todo, hours)
        run_id = approvals.complete(connection, todo, run_id)
        connection.events.append("command.complete", todo, run=run_id, actor=actor())
        return Completed(todo=todo, edited=edited, run_id=run_id)


def complete_in_run(access: EcosystemAccess, todo: str, run: str | None) -> Completed:
    """Complete a todo in the run that waits for it."""
    from coordination.api.runs import Runs

    return Completed(todo=todo, run_id=Runs(access).complete(todo, run).id)


@contextmanager
def _connected(access: EcosystemAccess, url: str, todo: str) -> Iterator[Connection]:
    """Connect to a Redis that runs, without becoming one of its users."""
    from coordination.backend.client import reaching
    from coordination.runs.connection import Connection

    try:
        new = Connection(url, access.settings, changed_folders=access.changed_folders)
        with closing(new) as connection, reaching(url):
            yield connection
    except Unreachable as error:
        in_file = f"or only in the file: coord todo update {todo} --status completed"
        raise type(error)(error.message, f"{error.hint}; {in_file}") from error


def _conflict(todo: str, one: DecidableTodo) -> Conflict:
    from coordination.runs.records import TodoState

    hint = f"wait for it: coord watch {one.run_id}; or end it: coord cancel {one.run_id}"
    if one.state is TodoState.RUNNING:
        return Conflict(f"{one.worker} is executing {todo} in run {one.run_id}", hint)
    return Conflict(f"run {one.run_id} executes {todo}: it is {one.state}", hint)
