"""Whose signatures of a run are verified on this machine, for views of it."""

from __future__ import annotations

from collections.abc import Iterator

from coordination.errors import CoordinationError
from coordination.runs.connection import Connection
from coordination.runs.records import RunView
from coordination.runs.signed_orders import HEADER, SignedRun
from coordination.trust.orders import OperationKind

UNSIGNED = ("the order",)
"""What is unsigned in a run that was submitted without an identity."""


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
