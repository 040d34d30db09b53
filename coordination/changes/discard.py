"""Discard a change set: remove its branches, keep its tips under refs/coord/discarded, reopen its todos.

Each step can be repeated after a crash because of the order: first the branches, on the hosts that have them,
then the todos in the file, and last the records in Redis, by which the other two are found.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from coordination.changes.view import ChangeReader
from coordination.errors import Blocked, Conflict
from coordination.frozen import FrozenModel
from coordination.runs.change_sets.records import ChangeSet, TakenOver
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.cleanup_jobs import ChangeSetBranch
from coordination.runs.control.starting import start_lock
from coordination.runs.maintenance.cleaning import Cleaning
from coordination.text import listed

if TYPE_CHECKING:
    from coordination.runs.connection import Connection
    from coordination.runs.maintenance.cleaning import Survey


OPEN_REQUEST = ("open", "draft")


class Discarded(FrozenModel):
    """The work that a discard removes or has removed."""

    plan: str
    repos: tuple[TakenOver, ...]
    """The branches, with the tips that stay; empty where the work is not here, and its todos are only open
    again.
    """
    todos: tuple[str, ...]
    """Todos whose results are discarded."""
    reopened: tuple[str, ...] = ()
    """Those that the file had as completed."""


def plan_discard(connection: Connection, plan: str) -> Discarded | None:
    """Return the work that a discard of the plan's change set would remove; None if none of it is open.

    Raises Conflict while a run writes or lands it; Blocked while a pull request of it is open.
    """
    found = ChangeSets(connection.store).read(plan)
    if found is None or not found.open:
        return None
    refuse_writers(connection, found)
    _refuse_requests(found)
    return Discarded(plan=plan, repos=found.taken_over, todos=tuple(sorted(found.todos)))


def discard(
    connection: Connection, planned: Discarded, reopen: Callable[[Collection[str]], tuple[str, ...]]
) -> Discarded:
    """Discard it. `reopen`: opens todos in the file, and returns those that were completed.

    Raises Conflict where a run writes it by now, a branch is checked out, or it is not what was planned;
    Blocked where a host that has it does not answer.
    """
    with alone(connection, planned.plan) as found:
        there = {c.repo: c.tip for c in found.open.values()} if found else {}
        if there != {c.repo: c.tip for c in planned.repos}:
            raise Conflict(
                f"the change set of {planned.plan} has changed in the meantime",
                f"see it, and try again: coord changes {planned.plan}",
            )
        if found and there:
            branches = [ChangeSetBranch.of(planned.plan, change, keep=True) for change in found.open.values()]
            cleaning = Cleaning(connection.store, connection.signing)
            _refuse_to_lose(connection, found, cleaning.look_at_sets(branches))
            _refuse_to_lose(connection, found, cleaning.discard(branches))
        reopened = reopen(planned.todos)
        known = ChangeSets(connection.store)
        for change in planned.repos:
            known.discard(planned.plan, change.repo)
    return Discarded(plan=planned.plan, repos=planned.repos, todos=planned.todos, reopened=reopened)


def _refuse_requests(found: ChangeSet) -> None:
    """Raise Blocked while a pull request is open, as far as coord has seen: people work with it."""
    refs = [change.request for change in found.open.values() if change.request]
    open_ = [ref.name for ref in refs if ref.seen is None or ref.seen.state in OPEN_REQUEST]
    if open_:
        raise Blocked(
            f"pull requests of {found.id} are open: {listed(open_)}",
            f"close them if nobody needs them: coord pr close {found.id}",
        )


def _refuse_to_lose(connection: Connection, found: ChangeSet, seen: Survey) -> None:
    """Raise where a branch stays, or the tip of a repository was found on no host that answers, unless its
    own host has answered: then the commits are lost.
    """
    if kept := [f"{one.branch} of {one.repo}: {one.stays}" for one in seen.found if one.stays]:
        raise Conflict(
            f"the change set of {found.id} is in use: {listed(kept)}", "check out another branch there"
        )
    there = {one.repo for one in seen.found}
    workers = () if seen.silent else connection.registry.workers()
    served = {(worker.host, repo) for worker in workers for repo in worker.fit}
    missing = [
        change
        for change in found.open.values()
        if change.repo not in there and (change.host, change.repo) not in served
    ]
    if missing:
        words = listed([f"{change.repo} on {change.host or 'an unknown host'}" for change in missing])
        raise Blocked(
            f"no worker that answers has the commits of {found.id}: {words}",
            "start a worker there: coord worker --all",
        )


@contextmanager
def alone(connection: Connection, plan: str) -> Iterator[ChangeSet | None]:
    """Yield the change set while no run of it can start. Raises Conflict while a run writes or lands it."""
    with start_lock(connection):
        found = ChangeSets(connection.store).read(plan)
        refuse_writers(connection, found)
        yield found


def refuse_writers(connection: Connection, found: ChangeSet | None) -> None:
    """Raise Conflict while a run writes the change set, or lands it."""
    if found is None:
        return
    live = ChangeReader(connection, None).live_run(found)
    if live:
        raise Conflict(
            f"run {live} writes or lands the change set of {found.id}",
            f"wait for its end: coord watch {live}; or end it: coord cancel {live}",
        )
