"""Record the decision of a person on a todo that waits for it: approve, reject, complete.

Manual todos wait to be done, gates for an approval. If no run waits for the todo, the errors say why.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coordination.environment import acted_for, actor, same_person
from coordination.errors import Conflict, CoordinationError, NotAllowed, NotFound, NotTrusted, UsageError
from coordination.models import Verdict
from coordination.planner.gates import DONE
from coordination.runs.connection import Connection
from coordination.runs.control.signing import Subject, sign_operation, subject_of
from coordination.runs.records import RunStatus, TodoSpec, TodoState
from coordination.runs.store import RunStore
from coordination.runs.views.todos_in_runs import RUNS_SEARCHED, DecidableTodo, find_runs_of
from coordination.text import did_you_mean, listed
from coordination.trust.orders import OperationKind


def run_with_manual_todo(todo: str, found: Iterable[DecidableTodo]) -> str:
    """Return the one run that waits for the manual todo. Raise NotFound, Conflict or UsageError."""
    candidates = tuple(found)
    if run_id := only_run(todo, [one.run_id for one in candidates if one.waits], "todo complete"):
        return run_id
    raise (
        _why_not(todo, candidates[0])
        if candidates
        else NotFound(
            f"no run waits for {todo}", "see the waiting todos: coord list-runs, coord show-run RUN"
        )
    )


def only_run(todo: str, waiting: list[str], command: str) -> str | None:
    """Return the only run of the list, None if it is empty. Raise UsageError if there are several."""
    if len(waiting) > 1:
        hint = f"name one: coord {command} {todo} --run {waiting[0]}"
        raise UsageError(f"runs {' and '.join(waiting)} wait for {todo}", hint)
    return waiting[0] if waiting else None


def _why_not(todo: str, one: DecidableTodo) -> CoordinationError:
    look = f"look at it: coord show-run {one.run_id}"
    if one.state.ended:
        return Conflict(f"{todo} of run {one.run_id} is {one.state}: nothing waits for it", look)
    if not one.manual:
        hint = f"approve it: coord approve {todo} --run {one.run_id}" if one.asks else look
        return UsageError(f"{todo} of run {one.run_id} is not a manual todo: a worker executes it", hint)
    return Conflict(f"{todo} of run {one.run_id} is {one.state}: it cannot be decided yet", look)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A person's decision."""

    todo: str
    run_id: str
    verdict: Verdict
    by: str
    comment: str
    run_status: RunStatus
    """Status of the run after the decision."""
    subject: Subject | None = None
    """The approved subject as this machine verified it; None for a rejection, and without an identity."""


def run_with_gate(store: RunStore, verdict: Verdict, todo: str, run_id: str | None) -> str:
    """Return the one run that waits for a decision on the todo. Raise NotFound, Conflict, or UsageError where
    several wait or it has no gate.
    """
    live = store.live_runs()
    found = find_runs_of(store.redis, store.keys, todo, live if run_id is None else [run_id])
    if chosen := only_run(todo, [one.run_id for one in found if one.asks], verdict):
        return chosen
    found = found or (_in_ended(store, todo) if run_id is None else [])
    if found:
        raise why_not(store, verdict, todo, found[0])
    raise _unknown(store, todo, live if run_id is None else [run_id], run_id)


def _refuse_no_question(store: RunStore, todo: str, run_id: str) -> None:
    """Raise UsageError if the todo waits for something else than an answer."""
    (one,) = find_runs_of(store.redis, store.keys, todo, [run_id])
    if one.question is None:
        hint = f"approve or complete it: coord approve {todo} --run {run_id}"
        raise UsageError(f"{todo} of run {run_id} asks no question; it waits for {one.waits_for}", hint)


def why_not(store: RunStore, verdict: Verdict, todo: str, one: DecidableTodo) -> CoordinationError:
    """Return the error that says why the todo waits for no decision."""
    where, look = f"{todo} of run {one.run_id}", f"look at it: coord show-run {one.run_id}"
    if one.decided:
        return _decided(verdict, todo, one)
    if one.run_status is RunStatus.ROLLING_BACK:
        return Conflict(f"run {one.run_id} is rolling back: none of its todos starts any more", look)
    if one.state.ended:
        return Conflict(f"{where} is {one.state}: it needs no decision any more", look)
    if not (one.manual or one.has_gate):
        return UsageError(f"{where} has no gate: it needs no approval", look)
    return Conflict(f"{where} is {one.state}: it cannot be decided yet{_held_up(store, todo, one)}", look)


def _decided(verdict: Verdict, todo: str, one: DecidableTodo) -> Conflict:
    rejected = one.rejected_by is not None
    comment = f': "{one.comment}"' if one.comment else ""
    word = DONE[Verdict.REJECT if rejected else Verdict.APPROVE]
    message = f"{todo} was {word} by {one.rejected_by or one.approved_by} at {one.decided_at}{comment}"
    if rejected and verdict is Verdict.APPROVE:
        return Conflict(message, f"retry the run: coord retry {one.run_id}")
    if verdict is Verdict.REJECT and not rejected and not one.state.ended:
        return Conflict(message, f"the todo continues; end the run: coord cancel {one.run_id}")
    return Conflict(message, f"look at it: coord show-run {one.run_id}")


def _held_up(store: RunStore, todo: str, one: DecidableTodo) -> str:
    """Return `; it waits for A, B`; empty if unknown."""
    if one.state is not TodoState.WAITING:
        return f"; it waits for {one.waits_for}" if one.waits_for else ""
    before = store.brief(one.run_id).predecessors.get(todo, ())
    states = store.redis.hmget(store.keys.run(one.run_id).state, before) if before else []
    open_ones = [name for name, state in zip(before, states, strict=True) if state != TodoState.SUCCEEDED]
    return f"; it waits for {listed(open_ones)}" if open_ones else "; it waits for the level before it"


def _in_ended(store: RunStore, todo: str) -> list[DecidableTodo]:
    """Return the todo in the newest ended run that has it; an empty list if none has."""
    return find_runs_of(
        store.redis, store.keys, todo, store.redis.zrevrange(store.keys.runs, 0, RUNS_SEARCHED - 1)
    )[:1]


def _unknown(store: RunStore, todo: str, runs: Iterable[str], run_id: str | None) -> NotFound:
    names = [name for run in runs for name in store.redis.hkeys(store.keys.run(run).state)]
    near = did_you_mean(todo, names)
    if run_id is not None:
        return NotFound(f"run {run_id} has no todo {todo!r}{near}", f"list them: coord show-run {run_id}")
    return NotFound(
        f"no run has a todo {todo!r}{near}", "see the waiting todos: coord list-runs, coord show-run RUN"
    )


def refuse_own(connection: Connection, run_id: str, todo: str) -> None:
    """Raise NotAllowed if the gate or the plan requires two persons and this person ordered the run."""
    keys = connection.keys.run(run_id)
    text = connection.redis.hget(keys.spec, todo)
    if text is None:
        return
    gate = TodoSpec.model_validate_json(text).todo.gate
    ordered_by, whole_run = connection.redis.hmget(keys.meta, ["actor", "two_persons"])
    if not (whole_run or (gate and gate.two_persons)):
        return
    mine, signer = _person_of_key(connection), _signer_of(connection, run_id)
    if mine and signer:
        own = mine == signer
    else:
        own = any(same_person(ordered_by or "", name) for name in {actor(), mine or actor()})
    if own:
        raise NotAllowed(
            f"{signer or ordered_by} ordered run {run_id} and may not approve {todo} of it: two persons are "
            "required",
            f"ask somebody else: coord approve {todo} --run {run_id}",
        )


def _person_of_key(connection: Connection) -> str:
    """Return the person who has signed in at this server, or whose key this process has; empty without one.
    People share a login; a key is one person's.
    """
    if person := acted_for():
        return person
    identity = connection.identity
    holder = connection.trust.holder(identity.signer.fingerprint) if identity else None
    return holder.name if holder else ""


def _signer_of(connection: Connection, run_id: str) -> str:
    """Return the person who signed the order of a run; empty where this machine cannot verify it."""
    try:
        return connection.signed_run(run_id).principal.name
    except NotTrusted:
        return ""


def complete(connection: Connection, todo: str, run_id: str | None = None) -> str:
    """Settle a manual todo that a person has done; return the run that continues.

    Raise NotFound; Conflict; UsageError where more than one run waits for it and none is named.
    """
    live = connection.store.live_runs() if run_id is None else [run_id]
    chosen = run_with_manual_todo(todo, find_runs_of(connection.redis, connection.keys, todo, live))
    refuse_own(connection, chosen, todo)
    subject = subject_of(connection, chosen, todo)
    sign_operation(connection, chosen, OperationKind.COMPLETE, todo, subject=subject)
    reply = connection.store.complete(chosen, todo, actor())
    connection.dispatcher.follow(reply)
    if reply.word != "settled":
        raise Conflict(
            f"{todo} of run {chosen} was settled meanwhile", f"look at it: coord show-run {chosen}"
        )
    connection.dispatcher.open_level_after(chosen, todo)
    return chosen


def review(connection: Connection, todo: str, run_id: str | None = None) -> tuple[str, Subject | None]:
    """Return the run that waits for an approval of the todo, and the subject that the approval would sign;
    None without an identity. Raise as `decide` does.
    """
    chosen = run_with_gate(connection.store, Verdict.APPROVE, todo, run_id)
    return chosen, subject_of(connection, chosen, todo)


def decide(
    connection: Connection,
    verdict: Verdict,
    todo: str,
    run_id: str | None = None,
    comment: str = "",
    *,
    reviewed: Subject | None = None,
    is_answer: bool = False,
) -> Decision:
    """Approve or reject a todo that waits at its gate or for a person. A paused run continues when it is
    resumed.

    `reviewed`: the subject that the person has seen. `is_answer`: the comment answers the question of an
    agent. Raise NotFound; Conflict, also if the subject of the approval has changed since the review;
    UsageError if nothing waits for approval, several runs do and none is named, the answer is empty, or the
    todo asks nothing.
    """
    store, by, comment = connection.store, actor(), comment.strip()
    if is_answer and not comment:
        raise UsageError("the answer is empty", f'write it: coord answer {todo} "TEXT"')
    chosen = run_with_gate(store, verdict, todo, run_id)
    if is_answer:
        _refuse_no_question(store, todo, chosen)
    subject = None
    if verdict is Verdict.APPROVE:
        refuse_own(connection, chosen, todo)
        subject = subject_of(connection, chosen, todo)
        if reviewed is not None and subject != reviewed:
            raise Conflict(f"{todo} of run {chosen} has changed since it was shown", "look at it again")
    kind = OperationKind.APPROVE if verdict is Verdict.APPROVE else OperationKind.REJECT
    sign_operation(connection, chosen, kind, todo, comment=comment, subject=subject)
    step = store.approve if verdict is Verdict.APPROVE else store.reject
    reply = step(chosen, todo, by, comment)
    connection.dispatcher.follow(reply)
    if reply.word == "idle":  # someone else has decided in the meantime
        (one,) = find_runs_of(connection.redis, connection.keys, todo, [chosen])
        raise why_not(store, verdict, todo, one)
    if reply.word == "settled":
        connection.dispatcher.open_level_after(chosen, todo)
    status = connection.reader.status(chosen)
    return Decision(
        todo=todo, run_id=chosen, verdict=verdict, by=by, comment=comment, run_status=status, subject=subject
    )
