"""Decide by signed results and decisions which outcomes of a run may be written into the file, and which
todos may be undone.

A todo or milestone counts as completed only by the signed result of a trusted worker, or by the signed
decision of a person. It counts as pending again if the signed order names it: that claims no work.

A compensation needs an order of the run that covers it, or a signed rollback. A rollback that a rejection
began needs the signature of that rejection. A todo is undone after its dependents: each dependent with a
signed result needs the signed result of its compensation, or a signed acceptance. Facts in Redis name the
rejections: a person who can change them can hide a rejection, but cannot forge one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from coordination.errors import NotAllowed, NotTrusted, TrustCause, Unsafe
from coordination.models import Verdict
from coordination.planner.gates import MILESTONE_REPO
from coordination.runs.records import TodoSpec
from coordination.runs.signed.orders import SignedRun, operation_field
from coordination.trust.orders import OperationKind, foreign
from coordination.trust.results import (
    COMPENSATED,
    SUCCEEDED,
    ResultRecord,
    digest,
    undone_field,
    worker_of,
)

if TYPE_CHECKING:
    from coordination.ecosystem.changes import RunOutcome

ROLLBACKS = (OperationKind.ROLLBACK, OperationKind.RESTORE)
NAMED = 3
"""Greatest number of todos that a reason names."""
READ_AT_ONCE = 500
"""Signed results in one reply of Redis: half a megabyte."""


def confirm(run: SignedRun, outcome: RunOutcome, file: str | None = None) -> tuple[RunOutcome, str]:
    """Return the part of the outcome that may be written, and the reason why that is not all of it. Nothing
    of a run whose order is invalid may be written. `file`: digest of the file, if it is not a person who
    names it.

    Raises Unsafe and UsageError where the trust file cannot be used.
    """
    try:
        found, doubts = _confirmed(run, outcome, file)
    except Unsafe:
        raise
    except NotAllowed as refused:
        from coordination.ecosystem.changes import RunOutcome

        return RunOutcome(plan=outcome.plan, succeeded={}, undone={}), refused.message
    return found, "; ".join(f"{name}: {doubt}" for name, doubt in islice(doubts.items(), NAMED))


def _confirmed(
    run: SignedRun, outcome: RunOutcome, file: str | None = None
) -> tuple[RunOutcome, dict[str, str]]:
    """Return the outcome without what no verified signature covers, and each name that is left out of it with
    the reason. Raises NotAllowed where the order is not valid, or is one for another plan or file.
    """
    brief = run.brief
    if outcome.plan != brief.plan_id:
        raise foreign(f"run {run.run_id} was ordered for {brief.plan_id}, and Redis says {outcome.plan}")
    if file is not None and brief.file != file:
        raise foreign(f"run {run.run_id} was not ordered for the file of this worker")
    claimed = (*outcome.succeeded, *outcome.reached)
    named = {*claimed, *outcome.undone, *outcome.lost}
    if brief.recurring and named:
        raise foreign(f"run {run.run_id} was ordered for a recurring plan: nothing of it is written")
    for repo in {brief.repo_of[name] for name in claimed if name in brief.repo_of} - {MILESTONE_REPO}:
        run.check_order(repo)
    doubts = dict.fromkeys(sorted(named - set(brief.repo_of)), "it is not in the order")
    by_person = [name for name in claimed if name in brief.by_hand and name not in doubts]
    doubts |= dict(_undecided(run, by_person))
    by_worker = [name for name in claimed if name not in brief.by_hand and name not in doubts]
    doubts |= dict(_unsigned(run, by_worker))
    checks = [check for check, todo in brief.criteria.items() if todo in claimed]
    red = _unsigned(run, checks)
    doubts |= {brief.criteria[check]: f"its criterion {check}: {doubt}" for check, doubt in red}

    def known(names: frozenset[str]) -> frozenset[str]:
        return frozenset(name for name in names if name not in doubts)

    return (
        replace(
            outcome,
            succeeded={name: hours for name, hours in outcome.succeeded.items() if name not in doubts},
            undone={name: hours for name, hours in outcome.undone.items() if name not in doubts},
            filed=known(outcome.filed),
            reopened=known(outcome.reopened),
            reached=known(outcome.reached),
            lost=known(outcome.lost),
        ),
        doubts,
    )


def _undecided(run: SignedRun, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the milestones and manual todos that no authorised person has completed, each with the reason."""
    for name in names:
        try:
            run.check_decision(name)
        except Unsafe:
            raise
        except NotAllowed as refused:
            yield name, refused.message


def _unsigned(run: SignedRun, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the todos whose success no trusted worker has signed, each with the reason."""
    for result in signed_results(run, names):
        if result.doubt is not None:
            yield result.todo, result.doubt.message
        elif result.outcome != SUCCEEDED:
            yield result.todo, f"its signed result is {result.outcome}"


@dataclass(frozen=True, kw_only=True)
class SignedResult:
    """The result of a todo, as a worker signed it, or why none counts."""

    todo: str
    worker: str = ""
    """Name of the worker in the trust file."""
    outcome: str = ""
    output: str = ""
    """Digest of its output; empty without one."""
    doubt: NotAllowed | None = None


def signed_results(run: SignedRun, names: Sequence[str]) -> Iterator[SignedResult]:
    """Yield the result of each of these todos of the order."""
    for start in range(0, len(names), READ_AT_ONCE):
        some = names[start : start + READ_AT_ONCE]
        signed = run.store.handed_over(run.run_id, [], signed=some).signed
        for name in some:
            try:
                record, worker = worker_of(signed.get(name, ""), run.trust, run.now())
                run.check_origin(record)
                counts = record.run in run.brief.runs_of(name)
                if (record.todo, record.repo) != (name, run.brief.repo_of[name]) or not counts:
                    raise foreign(f"its signed result is one of {record.todo} in run {record.run}")
                yield SignedResult(todo=name, worker=worker, outcome=record.outcome, output=record.output)
            except Unsafe:
                raise
            except NotAllowed as refused:
                yield SignedResult(todo=name, doubt=refused)


def check_output_of(run: SignedRun, todo: str, output: str) -> None:
    """Check that a trusted worker has signed this output of a todo. Raises NotTrusted."""
    (result,) = signed_results(run, [todo])
    if result.doubt is not None:
        raise result.doubt
    if result.output != digest(output):
        raise foreign(f"the output of {todo} in Redis is not that of its signed result")


def check_undo(run: SignedRun, todo: str, spec: TodoSpec) -> None:
    """Check that a todo may be undone. Raises NotTrusted, MissingRight."""
    _check_dependents(run, todo)
    if todo in run.brief.by_hand:
        run.check_completion(todo, spec)
    refusals: list[NotTrusted] = []
    for text in run.read_fields([operation_field(kind) for kind in ROLLBACKS]):
        if text is None:
            continue
        try:
            signed = run.open_operation(text, {run.run_id}, set(ROLLBACKS))
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
    for todo in _todos_with_fact(run, list(run.brief.repo_of), "rejected_by"):
        text = run.store.redis.hget(run.store.keys.run(run.run_id).spec, todo)
        spec = run.signed_spec(todo, text or "")
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
    for name in sorted({*_todos_with_fact(run, after, "accepted_by"), *not_undone(run, after)}):
        if run.operation(OperationKind.ACCEPT, name, run.brief.repo_of[name]) is None:
            raise NotTrusted(
                TrustCause.UNSIGNED,
                f"{name} builds on {todo}: no worker has signed that it is undone, and no person accepts it",
                f"accept it with an identity: coord rollback {run.run_id} --accept {name}",
            )


def _todos_with_fact(run: SignedRun, todos: Sequence[str], fact: str) -> Iterator[str]:
    """Yield the todos with this fact; none to a restricted worker, which may not read those of others."""
    if run.restricted or not todos:
        return
    facts = run.store.keys.run(run.run_id).facts
    values = run.store.redis.hmget(facts, [f"{name} {fact}" for name in todos])
    yield from (name for name, who in zip(todos, values, strict=True) if who)


def not_undone(run: SignedRun, todos: Sequence[str], *, executed: bool = True) -> Iterator[str]:
    """Yield the todos without a compensation that a trusted worker signed after their result. `executed`:
    only those of which a trusted worker has signed a result of this run.
    """
    for start in range(0, len(todos), READ_AT_ONCE):
        some = todos[start : start + READ_AT_ONCE]
        fields = [*some, *map(undone_field, some)]
        signed = run.store.handed_over(run.run_id, [], signed=fields).signed
        for name in some:
            result = _record_of(run, name, signed.get(name, ""))
            undone = _record_of(run, name, signed.get(undone_field(name), ""))
            fence = result.fence if result else -1
            is_undone = undone is not None and undone.outcome == COMPENSATED and undone.fence > fence
            if not is_undone and (result or not executed):
                yield name


def _record_of(run: SignedRun, todo: str, raw: str) -> ResultRecord | None:
    """Return the verified record of an attempt at a todo in this run."""
    try:
        record, _ = worker_of(raw, run.trust, run.now())
        run.check_origin(record)
    except NotTrusted:
        return None
    same = (run.run_id, todo, run.brief.repo_of.get(todo))
    return record if (record.run, record.todo, record.repo) == same else None
