"""Operations that start or steer a run. Those that start one hold the start lock, so that two callers never
begin the same work.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING

from coordination.backend.server_check import refuse_unfit
from coordination.backend.steps.run import Reply
from coordination.environment import actor
from coordination.errors import LockTimeout
from coordination.locks.request import START
from coordination.models import Ecosystem, Signatures
from coordination.runs.change_sets.records import ChangeSet
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.connection import Connection
from coordination.runs.control.signing import sign_operation
from coordination.runs.run_kinds import landings_of
from coordination.runs.submission.beginning import AT_BASE, Beginning
from coordination.runs.submission.order import Order
from coordination.runs.submission.other_plan import refuse_of_sweep
from coordination.runs.submission.refusals import (
    Sets,
    bases,
    refuse_conflicts_of,
    refuse_not_landed,
    refuse_runs_of,
)
from coordination.runs.submission.submit import NO_HOSTS, Submission, submission_of, submit
from coordination.runs.submission.writes import (
    MOVED,
    NO_WRITES,
    change_set_of,
    read_change_set,
    seal_of,
    writes_of,
)
from coordination.trust.orders import OperationKind

if TYPE_CHECKING:
    from coordination.locks import Lock
    from coordination.planner.graph import PlanGraph
    from coordination.runs.export.import_document import RunDocument

START_TTL = timedelta(minutes=1)
"""Longer than writing a large run takes."""


def start(
    connection: Connection,
    decide: Callable[[ChangeSet], Submission | None],
    *,
    todos: Collection[str] = (),
    plans: Collection[str] = (),
    change_set: str = "",
    alone: bool = True,
    check: Callable[[], None] = lambda: None,
) -> str:
    """Start a run; return its id. Every run starts here.

    `decide`: returns the run, by the change set that it writes; None where that has moved since `check`. It
    is called while nothing else starts. `todos`: raise Conflict where another run executes one of them;
    `plans`: where a run of one of these plans is live. `alone`: False for a run that nothing can be in the
    way of. `check`: raises for what takes long to find out; called before, without the lock.

    Raise Conflict also where another run writes the change set, or where workers have another version of
    coord or another ecosystem.
    """
    check_redis(connection)
    store = connection.store

    def begin() -> tuple[str, Reply]:
        check()
        with start_lock(connection) if alone else nullcontext():
            submission = decide(read_change_set(store, change_set))
            if submission is None:
                return "", Reply(word=MOVED)
            if alone:
                refuse_runs_of(store, plans)
                refuse_conflicts(connection, todos)
            return submit(store, submission, connection.signing if submission.may_be_signed else None)

    run_id, reply = seal_of(store, change_set, begin)
    follow_up(connection, run_id, reply)
    return run_id


def start_run(
    connection: Connection,
    ecosystem: Ecosystem,
    graph: PlanGraph,
    order: Order,
    accepted: Collection[str] = (),
    *,
    refuse_stale: Callable[[], None] = lambda: None,
) -> str:
    """Start a run of todos of the file; return its id. `accepted`: completed todos whose results a person
    declares to be landed, or the run's own change set, though another plan of its id has made it.
    `refuse_stale`: raises where the graph is not that of the file any more; called while no change set can be
    discarded.

    Raise as `start` does, Conflict where another plan has made its change set, and NotLanded where the result
    of a completed predecessor is not in its base branch.
    """
    store, settings = connection.store, connection.settings
    own = "" if order.no_change_set else change_set_of(graph.plan.id, graph.todos)
    known = frozenset[str]()

    def check() -> None:
        nonlocal known
        sets = ChangeSets(store).read_all()
        if own in sets:
            known = frozenset(sets[own].source)
            refuse_of_sweep(store, ecosystem, sets[own], accepted)
        check_landed(connection, ecosystem, graph, sets, accepted)

    def decide(found: ChangeSet) -> Submission | None:
        refuse_stale()
        if not known <= found.source.keys():
            return None
        writes = writes_of(found, graph.todos, settings.branch_prefix) if own else NO_WRITES
        return submission_of(store, graph, ecosystem, settings, order, connection.file, writes=writes)

    plans = landings_of(graph.plan.id, graph.todos)
    return start(connection, decide, todos=graph.todos, plans=plans, change_set=own, check=check)


def start_generated(
    connection: Connection,
    ecosystem: Ecosystem,
    graph: PlanGraph,
    order: Order,
    *,
    alone: bool = True,
    change_sets: Collection[str] = (),
    hosts: Mapping[str, str] = NO_HOSTS,
    beginning: Beginning = AT_BASE,
) -> str:
    """Start a run of todos that no file has: of a landing, services, or checks. Return its id. Raise as
    `start` does.

    `alone`: False for a run of checks, which may run beside others. `change_sets`: those that it lands or
    reverts; raise Conflict where a run of such a plan, or another landing of it, is live. `hosts`:
    repository → the host of its work.
    """

    def decide(_: ChangeSet) -> Submission:
        store, settings = connection.store, connection.settings
        return submission_of(store, graph, ecosystem, settings, order, hosts=hosts, beginning=beginning)

    plans = {name for one in change_sets for name in (one, *landings_of(one))}
    return start(connection, decide, todos={*graph.todos, *change_sets}, plans=plans, alone=alone)


def check_landed(
    connection: Connection,
    ecosystem: Ecosystem,
    graph: PlanGraph,
    sets: Sets,
    accepted: Collection[str] = (),
    *,
    known: Collection[str] = (),
    record: bool = True,
) -> None:
    """Raise NotLanded where a todo of the graph builds on a result that is neither in its change set nor in
    its base branch. `sets`: all change sets; `known`: todos whose results the run would have besides.
    """
    own = change_set_of(graph.plan.id, graph.todos)
    required = bases(ecosystem, graph.plan, graph.todos, sets, own, known)
    accepted = [name for name in accepted if name != own or own not in sets]
    refuse_not_landed(connection.store, connection.registry, required, accepted, sets=sets, record=record)


def import_run(connection: Connection, run: RunDocument) -> str:
    """Write a run of another Redis into this one. Raise Conflict where it exists here, or another run
    executes its open todos; NotTrusted where this machine requires signatures, and the run could go on
    without a valid order of it.
    """
    from coordination.runs.export.import_document import adopt, refuse_known

    check_redis(connection)
    with start_lock(connection):
        refuse_known(connection.store, run)
        refuse_conflicts(connection, run.unsettled)
        adopt(connection.store, run, actor(), lambda: _sign_import(connection, run))
    return run.run_id


def _sign_import(connection: Connection, run: RunDocument) -> None:
    """Sign that the run, whose order names another server, goes on here, and check the order of one that has
    not ended. An ended run can only be viewed until a retry checks its order, and each use of a result checks
    the signature of the result.
    """
    sign_operation(connection, run.run_id, OperationKind.IMPORT)
    if connection.settings.signatures is Signatures.REQUIRE and not run.status.ended:
        connection.signed_run(run.run_id).check_records(run.meta["brief"], run.hash("spec"))


def refuse_conflicts(connection: Connection, todos: Collection[str]) -> None:
    """Raise Conflict where another run executes one of these todos."""
    refuse_conflicts_of(connection.store, connection.reader, todos)


def follow_up(connection: Connection, run_id: str, reply: Reply) -> None:
    """Send the messages of a step, and finish its batches for a large run; the maintenance leader does both
    if this process dies.
    """
    connection.dispatcher.follow(reply)
    connection.dispatcher.finish(run_id)


def start_lock(connection: Connection) -> Lock:
    """Acquire the start lock: without it, two callers would both find no conflict and start the same work.
    A holder of this host that was killed does not delay it; one of another host does, until its lock expires.
    """
    locks = connection.locks
    try:
        return locks.acquire(START, ttl=START_TTL, wait=timedelta(0), owner=actor())
    except LockTimeout:
        locks.release_dead(START)
        return locks.acquire(START, ttl=START_TTL, wait=START_TTL, owner=actor())


def check_redis(connection: Connection) -> None:
    """Raise where Redis would not persist a run, or serves another version of coord or another ecosystem."""
    refuse_unfit(connection.redis, connection.url)
    connection.registry.meet(version("coord"), connection.settings.heartbeat, connection.ecosystem_id)
