"""Sign operations on runs, and add to the view of a run the signers that this machine has verified.

An operation is signed on a run whose order is signed, by an identity. Its envelope is stored before the step,
because a worker may act at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from coordination.errors import CoordinationError, NotTrusted
from coordination.runs.connection import Connection
from coordination.runs.records import TodoState
from coordination.runs.signed.orders import HEADER, TAMPERED, SignedRun, commits_of, operation_field
from coordination.runs.signed.results import not_undone, signed_results
from coordination.runs.views.records import RunView
from coordination.text import counted
from coordination.trust.break_glass import current_emergency
from coordination.trust.orders import Operation, OperationKind, seal_operation, times
from coordination.trust.trust_file import Kind

UNSIGNED = ("the order",)
"""The unsigned part of a run that was submitted without an identity."""

RESULTS = (TodoState.SUCCEEDED, TodoState.FAILED)
"""States of which a worker states the result."""
NAMED = 10
"""Unsigned results that a view names."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The subject of a signed approval of a todo, read from bytes that were verified on this machine, so that
    a person never reads a text that was forged in Redis.
    """

    run: str
    todo: str
    task: str = ""
    repo: str = ""
    ordered_by: str = ""
    order: str = ""
    """Digest of the header of the run's order; empty where the approval is not signed."""
    heads: Mapping[str, str] = field(default_factory=dict)
    """Repository → the commit on which the todo builds."""
    unverified: tuple[str, ...] = ()
    """The parts that no verified signature covers, each with the reason."""

    @property
    def lines(self) -> Iterator[str]:
        """Yield the text that a person reads."""
        if self.order:
            yield f"{self.todo} of run {self.run}: {self.task}"
            yield f"  ordered by {self.ordered_by}, order {self.order[:12]}"
        else:
            yield f"{self.todo} of run {self.run}"
        yield from (f"  builds on {commit[:12]} in {repo}" for repo, commit in self.heads.items())
        yield from (f"  not verified: {part}" for part in self.unverified)


def subject_of(connection: Connection, run_id: str, todo: str) -> Subject | None:
    """Return the subject that an approval of the todo signs; None in a process without an identity.

    Raise NotTrusted where the run is not the one that was ordered, or a result not the one that was signed.
    """
    if connection.signing is None:
        return None
    if connection.store.signed(run_id, [HEADER]) == [None]:
        return Subject(run=run_id, todo=todo, unverified=UNSIGNED)
    run = connection.signed_run(run_id)
    try:
        spec = run.signed_spec(todo, connection.redis.hget(connection.keys.run(run_id).spec, todo) or "")
        heads = run.heads(todo)
    except NotTrusted as refused:
        if refused.cause in TAMPERED:
            raise
        return Subject(run=run_id, todo=todo, unverified=(f"the order: {refused.message}",))
    if tampered := next((head.doubt for head in heads if head.doubt and head.tampered), None):
        raise tampered
    return Subject(
        run=run_id,
        todo=todo,
        task=spec.todo.task,
        repo=spec.repo.name,
        ordered_by=run.principal.name,
        order=run.digest,
        heads=commits_of(heads),
        unverified=tuple(f"{head.commit[:12]} in {head.repo}: {head.doubt}" for head in heads if head.doubt),
    )


def sign_operation(
    connection: Connection,
    run_id: str,
    kind: OperationKind,
    todo: str = "",
    *,
    comment: str = "",
    checkpoint: str = "",
    subject: Subject | None = None,
) -> bool:
    """Store the signed operation, if this process has an identity and the run's order is signed; return
    whether it has. Raise NotTrusted where the run is not the one that was ordered.

    `subject`: the subject of an approval or a completion.
    """
    signing = connection.signing
    if signing is None or connection.store.signed(run_id, [HEADER]) == [None]:
        return False
    try:
        order = connection.signed_run(run_id).digest if subject is None else subject.order
    except NotTrusted as refused:
        if refused.cause in TAMPERED:
            raise
        logger.warning("%s of run %s is not signed: %s", kind, run_id, refused.message)
        return False
    if not order:
        return False  # its subject says why
    field = operation_field(kind, todo)
    if kind is OperationKind.APPROVE and not comment and connection.store.signed(run_id, [field]) != [None]:
        return True  # it has been approved before, maybe with an answer to its agent, which stays
    operation = Operation(
        operation=kind,
        **connection.here.fields(),
        run=run_id,
        order=order,
        todo=todo,
        comment=comment,
        checkpoint=checkpoint,
        heads=subject.heads if subject else {},
        break_glass=current_emergency(signing.signer)[0],
        **times(signing.ttl),
    )
    text = seal_operation(operation, signing.signer)
    connection.redis.hset(connection.keys.run(run_id).order, field, text)
    return True


def with_signatures(connection: Connection, view: RunView) -> RunView:
    """Return the view with the person who ordered the run, if this machine can verify the signature, and with
    the parts that it cannot verify. Each reader judges by their own trust file.
    """
    if connection.store.signed(view.run_id, [HEADER]) == [None]:
        return view.model_copy(update={"unsigned": UNSIGNED})
    try:
        run = connection.signed_run(view.run_id)
        name = run.principal.name
    except CoordinationError as refused:
        return view.model_copy(update={"unsigned": (f"the order: {refused.message}",)})
    workers, doubts = _workers(run, view)
    todos = tuple(todo.model_copy(update={"signed_by": workers.get(todo.id)}) for todo in view.todos)
    unsigned = (*_decisions(run, view), *doubts)
    return view.model_copy(update={"signed_by": name, "unsigned": unsigned, "todos": todos})


def _workers(run: SignedRun, view: RunView) -> tuple[Mapping[str, str], list[str]]:
    """Return todo → the worker that signed its result, and the results that no trusted worker has signed as
    they are shown. A machine whose trust file has no workers verifies none.
    """
    if not any(principal.kind is Kind.WORKER for principal in run.trust.principals):
        return {}, []
    workers, doubts = dict[str, str](), list[str]()
    try:
        brief = run.brief
        shown = {todo.id: todo.was or todo.state for todo in view.todos if todo.id in brief.repo_of}
        ended = [name for name, state in shown.items() if state in RESULTS and name not in brief.by_hand]
        for result in signed_results(run, ended):
            if result.outcome == shown[result.todo]:
                workers[result.todo] = result.worker
            elif result.doubt is None:
                doubts.append(f"the result of {result.todo}: {result.worker} signed that it {result.outcome}")
            elif shown[result.todo] is TodoState.SUCCEEDED:  # a failure without an attempt has no result
                doubts.append(f"the result of {result.todo}: {result.doubt.message}")
        undone = [
            todo.id
            for todo in view.todos
            if todo.state is TodoState.COMPENSATED and not todo.accepted_by and todo.id in shown
        ]
        by_workers = [name for name in undone if name not in brief.by_hand]
        missing = not_undone(run, by_workers, executed=False)
        doubts += (f"the compensation of {name}: no worker has signed it" for name in missing)
    except CoordinationError as refused:
        return workers, [f"the results: {refused.message}"]
    more = len(doubts) - NAMED
    return workers, [*doubts[:NAMED], f"{counted(more, 'more result')}"] if more > 0 else doubts


def _decisions(run: SignedRun, view: RunView) -> Iterator[str]:
    """Yield the decisions of persons without a verified signature of an authorised person."""
    failed = [todo.id for todo in view.todos if todo.state is TodoState.FAILED]
    facts = run.store.keys.run(view.run_id).facts
    values = run.store.redis.hmget(facts, [f"{name} rejected_by" for name in failed]) if failed else []
    rejected = dict(zip(failed, values, strict=True))
    for todo in view.todos:
        decided = {
            "approval": (todo.approved_by, (OperationKind.APPROVE, OperationKind.COMPLETE)),
            "rejection": (rejected.get(todo.id), (OperationKind.REJECT,)),
            "acceptance": (todo.accepted_by, (OperationKind.ACCEPT,)),
        }
        for what, (who, kinds) in decided.items():
            if not who or todo.run:  # of a carried-over todo it is in the order of its run
                continue
            try:
                if not any(run.operation(kind, todo.id, todo.repo) for kind in kinds):
                    yield f"the {what} of {todo.id}"
            except CoordinationError as refused:
                yield f"the {what} of {todo.id}: {refused.message}"
