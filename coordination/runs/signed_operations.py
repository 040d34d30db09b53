"""Sign what a person or program asks of a run, and say in a view of it whose signatures are verified here.

An operation is signed on a run whose order is signed, by an identity. Its envelope is stored before the step,
because a worker may act at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from coordination.errors import CoordinationError, NotTrusted, TrustCause
from coordination.runs.connection import Connection
from coordination.runs.records import RunView
from coordination.runs.signed_orders import HEADER, SignedRun, operation_field
from coordination.trust.break_glass import current_emergency
from coordination.trust.orders import Operation, OperationKind, seal_operation, times

TAMPERED = frozenset({TrustCause.BROKEN, TrustCause.FOREIGN, TrustCause.WRONG_TYPE})
"""Causes that say that somebody has changed the run: nobody should act on it."""
OF_COMMITS = frozenset({OperationKind.APPROVE, OperationKind.COMPLETE})
"""Operations that name the commits that a person has seen."""
UNSIGNED = ("the order",)
"""The unsigned part of a run that was submitted without an identity."""

logger = logging.getLogger(__name__)


def sign_operation(
    connection: Connection,
    run_id: str,
    kind: OperationKind,
    todo: str = "",
    *,
    comment: str = "",
    checkpoint: str = "",
) -> bool:
    """Store the signed operation, if this process has an identity and the run's order is signed; return
    whether it has. Raise NotTrusted where the run is not the one that was ordered.
    """
    signing = connection.signing
    if signing is None or connection.store.signed(run_id, [HEADER]) == [None]:
        return False
    run = connection.signed_run(run_id)
    try:
        heads = run.heads(todo) if kind in OF_COMMITS else {}
        order = run.digest
    except NotTrusted as refused:
        if refused.cause in TAMPERED:
            raise
        logger.warning("%s of run %s is not signed: %s", kind, run_id, refused.message)
        return False
    operation = Operation(
        operation=kind,
        namespace=connection.keys.namespace,
        run=run_id,
        order=order,
        todo=todo,
        comment=comment,
        checkpoint=checkpoint,
        heads=heads,
        break_glass=current_emergency(signing.signer)[0],
        **times(signing.ttl),
    )
    text = seal_operation(operation, signing.signer)
    connection.redis.hset(connection.keys.run(run_id).order, operation_field(kind, todo), text)
    return True


def with_signatures(connection: Connection, view: RunView) -> RunView:
    """Return the view with the person who ordered the run, if this machine can verify the signature, and with
    what it cannot verify. A signature is no secret: each reader judges by their own trust file.
    """
    if connection.store.signed(view.run_id, [HEADER]) == [None]:
        return view.model_copy(update={"unsigned": UNSIGNED})
    try:
        run = connection.signed_run(view.run_id)
        name = run.principal.name
    except CoordinationError as refused:
        return view.model_copy(update={"unsigned": (f"the order: {refused.message}",)})
    return view.model_copy(update={"signed_by": name, "unsigned": tuple(_decisions(run, view))})


def _decisions(run: SignedRun, view: RunView) -> Iterator[str]:
    """Yield the approvals and completions that no verified signature covers."""
    for todo in view.todos:
        if not todo.approved_by or todo.run:  # of a carried-over todo it is in the order of its run
            continue
        try:
            found = (run.operation(kind, todo.id) for kind in (OperationKind.APPROVE, OperationKind.COMPLETE))
            if not any(found):
                yield f"the approval of {todo.id}"
        except CoordinationError as refused:
            yield f"the approval of {todo.id}: {refused.message}"
