"""Write the run that retries an ended one, and seal it."""

from __future__ import annotations

from collections.abc import Mapping

from coordination.backend.keys import tip_field
from coordination.breakers.records import Policy
from coordination.environment import actor
from coordination.models import OnFailure, Todo
from coordination.runs.brief import RunBrief, TodoSpec
from coordination.runs.records import Descriptor, TodoState
from coordination.runs.replies import Reply
from coordination.runs.retrying.ended import EndedRun
from coordination.runs.retrying.named_checkpoints import FIELD
from coordination.runs.retrying.retry_plan import RetryPlan
from coordination.runs.signed.orders import operation_field
from coordination.runs.store import RunStore
from coordination.runs.submission.carry import Carry, read_carry
from coordination.runs.submission.draft import HOST, Draft, Signing, descriptor_of, first_facts, new_run_id
from coordination.runs.submission.structure import graph_hash
from coordination.runs.submission.submit import by_hand, refuse_without_way_back, timeout_of
from coordination.settings import Settings
from coordination.trust.orders import OperationKind

MANUAL = "manual"
"""Kind of a milestone or manual todo in its descriptor."""
BY_HAND: Mapping[str, str | int] = {"attempt": 0, "worker": "completed in the file"}


def submit_retry(
    store: RunStore,
    left: RetryPlan,
    settings: Settings,
    *,
    on_failure: OnFailure | None,
    max_parallel: int | None,
    file: str = "",
    signing: Signing | None = None,
) -> tuple[str, Reply]:
    """Write and seal the new run; return its id and the reply that the dispatcher must follow. `file`: the
    digest of the file for its results. `signing`: the identity that signs its order, if the order of the
    ended run was verified.
    """
    policy = on_failure or OnFailure(left.ended.meta["on_failure"])
    refuse_without_way_back((spec.todo for spec in left.again.values()), policy)
    store.declare(left.capacities)
    draft = Draft(store, new_run_id(), signed=signing is not None)
    since = left.later.keys() & set(left.ended.brief.repo_of.values())
    carry = read_carry(store, left.writes.found, left.done_since, since)
    brief = _brief(draft.run_id, left, carry, settings, file)
    meta = _meta(brief, left, carry) | {
        "levels": len(left.levels),
        "on_failure": policy,
        "max_parallel": max_parallel or int(left.ended.meta["max_parallel"]),
        "breakers": Policy.of(settings).words(left.unbroken),
        **({"file": file} if file else {}),
    }
    draft.meta(meta)
    draft.levels(left.levels)
    for todo in left.ended.state:
        _write(draft, left, carry, todo)
    draft.set(draft.keys.tips, left.tips)
    draft.set(draft.keys.output, {t: json for t, json in left.ended.output.items() if t not in left.again})
    draft.set(
        draft.keys.checkpoint, {t: json for t, json in left.ended.checkpoint.items() if t in left.unfinished}
    )
    if signing:
        done = left.by_hand - left.done_since.keys()
        brief_json = str(meta["brief"])
        signing.write(draft, brief, brief_json, "retry", policy, two_persons=left.two_persons, done=done)
        draft.set(draft.keys.order, _decisions(store, left))
    ended = store.keys.run(left.ended.run_id)
    draft.copy_bundles({repo: ended.bundle(repo) for repo in {*left.ended.brief.repo_of.values()}})
    _copy_results(draft, store, left)
    carry.write(draft, left.writes.signed)
    return draft.run_id, draft.seal(left.writes.taken)


def _brief(run_id: str, left: RetryPlan, carry: Carry, settings: Settings, file: str) -> RunBrief:
    old = left.ended
    brief = old.brief.model_copy(
        update={
            "run_id": run_id,
            "file": file,
            "agent_command": settings.agent_command,
            "kill_grace": settings.kill_grace,
            "carried_from": (old.run_id, *old.brief.carried_from),
            "redone": old.brief.redone | dict.fromkeys(left.set_back.todos, old.run_id),
            "by_hand": (
                *(todo for todo in old.brief.by_hand if todo not in left.again),
                *by_hand(spec.todo for spec in left.again.values()),
                *(todo for todo in left.by_hand if todo not in carry.facts),
            ),
            "set_back": old.brief.set_back | dict.fromkeys(left.set_back.repos, old.run_id),
        }
    )
    return left.writes.tell(brief, tips={**left.tips, **carry.tips})


def _meta(brief: RunBrief, left: RetryPlan, carry: Carry) -> dict[str, str | int]:
    old = left.ended
    kept = {
        name: old.meta[name]
        for name in ("plan_id", "strategy", "two_persons", "timeout_ms")
        if name in old.meta
    }
    kept |= {name: value for name, value in old.meta.items() if name.startswith(FIELD)}
    pins = {f"{HOST}{repo}": host for repo, host in {**left.pins, **carry.pins}.items()}
    return {
        **kept,
        **timeout_of(left.timeout),
        **pins,
        **left.writes.meta,
        "actor": actor(),
        "brief": brief.model_dump_json(),
        "graph": graph_hash(brief.repo_of, brief.predecessors),
        "carried_from": old.run_id,
    }


def _write(draft: Draft, left: RetryPlan, carry: Carry, todo: str) -> None:
    old = left.ended
    state, descriptor = TodoState(old.state[todo]), old.place[todo]
    facts: Mapping[str, str | int] = old.facts[todo]
    spec = old.spec.get(todo, "")  # empty for a todo that was blocked from outside the plan: it stays blocked
    if todo in left.again:
        before = Descriptor.parse(descriptor)
        state, facts = (
            TodoState.WAITING,
            {**first_facts(left.again[todo].todo, facts.get("expected", "")), **_begun(old, todo)},
        )
        descriptor, spec = (
            descriptor_of(left.again[todo], before.order, left.level_of.get(todo, before.level)),
            left.again[todo].after(_before(left, todo)).model_dump_json(exclude_defaults=True),
        )
    elif todo in carry.facts:
        state, facts = TodoState.SUCCEEDED, carry.facts[todo]
    elif todo in left.by_hand:
        state, facts = TodoState.SUCCEEDED, {**BY_HAND, **_begun(old, todo)}
    elif spec:
        # a todo carried over by an earlier retry has the fact already
        facts = {"run": old.run_id} | dict(facts)
    draft.todo(
        todo,
        state,
        descriptor,
        facts,
        spec=spec,
        children=old.children.get(todo, "").split(),
        pending=sum(before in left.again for before in old.brief.predecessors.get(todo, ())),
    )


def _before(left: RetryPlan, todo: str) -> Mapping[str, Todo]:
    """Return the predecessors of a todo."""
    names = left.ended.brief.predecessors.get(todo, ())
    return {
        name: (left.again.get(name) or TodoSpec.model_validate_json(left.ended.spec[name])).todo
        for name in names
    }


def _decisions(store: RunStore, left: RetryPlan) -> dict[str, str]:
    """Return the signed operations by which persons settled todos that are carried over."""
    old = left.ended
    by_hand = [todo for todo in left.carried if Descriptor.parse(old.place[todo]).kind == MANUAL]
    kinds = (OperationKind.APPROVE, OperationKind.COMPLETE)
    fields = [operation_field(kind, todo) for todo in by_hand for kind in kinds]
    texts = store.signed(old.run_id, fields) if fields else []
    return {field: text for field, text in zip(fields, texts, strict=True) if text is not None}


def _begun(old: EndedRun, todo: str) -> Mapping[str, str]:
    """Return the facts of a todo's intent, so that a rollback of the new run undoes it, even if it never
    begins there.
    """
    facts = old.facts[todo]
    if "intent" not in facts:
        return {}
    return {"intent": facts["intent"], "begun_in": facts.get("begun_in") or facts.get("run") or old.run_id}


def _copy_results(draft: Draft, store: RunStore, left: RetryPlan) -> None:
    """Copy the signed results of the ended run, and name the one that each tip comes from."""
    old, moved = store.keys.run(left.ended.run_id), left.set_back.sources
    draft.copy(old.results, draft.keys.results)
    if moved:
        results = store.redis.hmget(old.results, list(moved.values()))
        draft.set(
            draft.keys.results,
            {tip_field(repo): result or "" for repo, result in zip(moved, results, strict=True)},
        )
