"""Sign what a person or program asks of a run: the envelope that workers verify before they act on it.

An operation is signed on a run whose order is signed, by an identity. Its envelope is stored before the step,
because a worker may act at once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from coordination.errors import NotTrusted, TrustCause
from coordination.runs.connection import Connection
from coordination.runs.signed_orders import HEADER, SignedRun, heads_of, operation_field
from coordination.trust.break_glass import current_emergency
from coordination.trust.envelope import seal
from coordination.trust.orders import OPERATION, Operation, OperationKind, times

TAMPERED = frozenset({TrustCause.BROKEN, TrustCause.FOREIGN, TrustCause.WRONG_TYPE})
"""Causes that say that somebody has changed the run: nobody should act on it."""
OF_COMMITS = frozenset({OperationKind.APPROVE, OperationKind.COMPLETE})
"""Operations that name the commits that a person has seen."""

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
        heads = approved_heads(run, todo) if kind in OF_COMMITS else {}
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
        heads=dict(heads),
        break_glass=current_emergency(signing.signer)[0],
        **times(signing.ttl),
    )
    text = seal(OPERATION, operation.model_dump_json().encode(), signing.signer).decode()
    connection.redis.hset(connection.keys.run(run_id).order, operation_field(kind, todo), text)
    return True


def approved_heads(run: SignedRun, todo: str) -> Mapping[str, str]:
    """Return the commits on which a todo builds: repository → the commit that its predecessors left there."""
    before = sorted(run.brief.ancestors(todo))
    if not before:
        return {}
    return heads_of(run.store.handed_over(run.run_id, before).todos, run.brief.repo_of)
