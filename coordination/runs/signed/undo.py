"""Check that a compensation of a signed run is covered: by its order, or by what persons signed since.

A rollback that a rejection began needs its signature. A todo is undone behind its dependents: each of which a
worker has signed a result is undone by the signed result of its compensation, or by a signed acceptance.
Facts of Redis say which rejections there are: somebody who can change them can hide one, but not make one
count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from coordination.errors import NotTrusted, TrustCause
from coordination.models import Verdict
from coordination.runs.brief import TodoSpec
from coordination.runs.signed.orders import SignedRun, operation_field
from coordination.runs.signed.outcome import not_undone
from coordination.trust.orders import OperationKind

KINDS = (OperationKind.ROLLBACK, OperationKind.RESTORE)


def check_undo(run: SignedRun, todo: str, spec: TodoSpec) -> None:
    """Check that a todo may be undone. Raises NotTrusted, MissingRight."""
    _check_dependents(run, todo)
    if todo in run.brief.by_hand:
        run.check_completion(todo, spec)
    refusals: list[NotTrusted] = []
    for text in run.read_fields([operation_field(kind) for kind in KINDS]):
        if text is None:
            continue
        try:
            signed = run.open_operation(text, {run.run_id}, set(KINDS))
            run.check_right(signed.principal, signed.operation, spec.repo.name)
        except NotTrusted as refused:
            refusals.append(refused)
        else:
            return
    if run.order.on_failure == "rollback":
        _check_rejections(run)
    elif refusals:
        raise refusals[0]
    else:
        what = f"no signed rollback of run {run.run_id} covers the compensation of {todo}"
        raise NotTrusted(TrustCause.UNSIGNED, what, f"order it: coord rollback {run.run_id}")


def _check_rejections(run: SignedRun) -> None:
    """Check who rejected something at a gate, except where the gate rejects by itself after some time."""
    for todo in _decided(run, list(run.brief.repo_of), "rejected_by"):
        text = run.store.redis.hget(run.store.keys.run(run.run_id).spec, todo)
        spec = run.read_spec(todo, text or "")
        gate = spec.todo.gate
        timeout = gate.timeout if gate and gate.on_timeout is Verdict.REJECT else None
        if timeout and run.now() >= run.order.issued_at + timeout:
            continue
        if run.operation(OperationKind.REJECT, todo, spec.repo.name) is None:
            what = f"no signed rejection of {todo} covers the rollback of run {run.run_id}"
            raise NotTrusted(TrustCause.UNSIGNED, what, f"order it: coord rollback {run.run_id}")


def _check_dependents(run: SignedRun, todo: str) -> None:
    """Check that the todos that build on this one are undone, or that somebody has accepted that."""
    if run.restricted:
        return
    after = [name for name, before in run.brief.predecessors.items() if todo in before]
    for name in sorted({*_decided(run, after, "accepted_by"), *not_undone(run, after)}):
        if run.operation(OperationKind.ACCEPT, name, run.brief.repo_of[name]) is None:
            raise NotTrusted(
                TrustCause.UNSIGNED,
                f"{name} builds on {todo}: no worker has signed that it is undone, and no person accepts it",
                f"accept it with an identity: coord rollback {run.run_id} --accept {name}",
            )


def _decided(run: SignedRun, todos: Sequence[str], fact: str) -> Iterator[str]:
    """Yield the todos with this fact; none to a restricted worker, which may not read those of others."""
    if run.restricted or not todos:
        return
    facts = run.store.keys.run(run.run_id).facts
    values = run.store.redis.hmget(facts, [f"{name} {fact}" for name in todos])
    yield from (name for name, who in zip(todos, values, strict=True) if who)
