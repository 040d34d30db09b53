"""Write the run that retries an ended one, and seal it."""

from __future__ import annotations

from collections.abc import Mapping

from coordination.backend.keys import tip_field
from coordination.backend.steps.run import Reply
from coordination.breakers.records import Policy
from coordination.environment import actor
from coordination.models import OnFailure, Todo
from coordination.runs.records import Descriptor, RunBrief, TodoSpec, TodoState
from coordination.runs.retrying.ended import EndedRun
from coordination.runs.retrying.named_checkpoints import FIELD
from coordination.runs.retrying.retry_plan import RetryPlan
from coordination.runs.signed.orders import operation_field
from coordination.runs.store import RunStore
from coordination.runs.submission.carry import Carry, read_carry
from coordination.runs.submission.draft import HOST, RunDraft, Signing, descriptor_of, first_facts, new_run_id
from coordination.runs.submission.structure import graph_hash
from coordination.runs.submission.submit import by_hand, refuse_not_undoable, timeout_of
from coordination.settings import Settings
from coordination.trust.orders import OperationKind

MANUAL = "manual"
"""Kind of a milestone or manual todo in its descriptor."""
BY_HAND: Mapping[str, str | int] = {"attempt": 0, "worker": "completed in the file"}


def submit_retry(
    store: RunStore,
    retry: RetryPlan,
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
    policy = on_failure or OnFailure(retry.ended.meta["on_failure"])
    refuse_not_undoable((spec.todo for spec in retry.again.values()), policy)
    store.declare(retry.capacities)
    draft = RunDraft(store, new_run_id(), signed=signing is not None)
    since = retry.later.keys() & set(retry.ended.brief.repo_of.values())
    carry = read_carry(store, retry.writes.found, retry.done_since, since)
    brief = _brief(draft.run_id, retry, carry, settings, file)
    meta = _meta(brief, retry, carry) | {
        "levels": len(retry.levels),
        "on_failure": policy,
        "max_parallel": max_parallel or int(retry.ended.meta["max_parallel"]),
        "breakers": Policy.of(settings).words(retry.unbroken),
        **({"file": file} if file else {}),
    }
    draft.meta(meta)
    draft.levels(retry.levels)
    for todo in retry.ended.state:
        _write(draft, retry, carry, todo)
    draft.set(draft.keys.tips, retry.tips)
    draft.set(draft.keys.output, {t: json for t, json in retry.ended.output.items() if t not in retry.again})
    draft.set(
        draft.keys.checkpoint,
        {t: json for t, json in retry.ended.checkpoint.items() if t in retry.unfinished},
    )
    if signing:
        done = retry.by_hand - retry.done_since.keys()
        brief_json = str(meta["brief"])
        signing.write(draft, brief, brief_json, "retry", policy, two_persons=retry.two_persons, done=done)
        draft.set(draft.keys.order, _decisions(store, retry))
    ended = store.keys.run(retry.ended.run_id)
    draft.copy_bundles({repo: ended.bundle(repo) for repo in {*retry.ended.brief.repo_of.values()}})
    _copy_results(draft, store, retry)
    carry.write(draft, retry.writes.signed)
    return draft.run_id, draft.seal(retry.writes.taken)


def _brief(run_id: str, retry: RetryPlan, carry: Carry, settings: Settings, file: str) -> RunBrief:
    old = retry.ended
    brief = old.brief.model_copy(
        update={
            "run_id": run_id,
            "file": file,
            "agent_command": settings.agent_command,
            "kill_grace": settings.kill_grace,
            "carried_from": (old.run_id, *old.brief.carried_from),
            "redone": old.brief.redone | dict.fromkeys(retry.set_back.todos, old.run_id),
            "by_hand": (
                *(todo for todo in old.brief.by_hand if todo not in retry.again),
                *by_hand(spec.todo for spec in retry.again.values()),
                *(todo for todo in retry.by_hand if todo not in carry.facts),
            ),
            "set_back": old.brief.set_back | dict.fromkeys(retry.set_back.repos, old.run_id),
        }
    )
    return retry.writes.add_to(brief, tips={**retry.tips, **carry.tips})


def _meta(brief: RunBrief, retry: RetryPlan, carry: Carry) -> dict[str, str | int]:
    old = retry.ended
    kept = {
        name: old.meta[name]
        for name in ("plan_id", "strategy", "two_persons", "timeout_ms")
        if name in old.meta
    }
    kept |= {name: value for name, value in old.meta.items() if name.startswith(FIELD)}
    pins = {f"{HOST}{repo}": host for repo, host in {**retry.pins, **carry.pins}.items()}
    return {
        **kept,
        **timeout_of(retry.timeout),
        **pins,
        **retry.writes.meta,
        "actor": actor(),
        "brief": brief.model_dump_json(),
        "graph": graph_hash(brief.repo_of, brief.predecessors),
        "carried_from": old.run_id,
    }


def _write(draft: RunDraft, retry: RetryPlan, carry: Carry, todo: str) -> None:
    old = retry.ended
    state, descriptor = TodoState(old.state[todo]), old.place[todo]
    facts: Mapping[str, str | int] = old.facts[todo]
    spec = old.spec.get(todo, "")  # empty for a todo that was blocked from outside the plan: it stays blocked
    if todo in retry.again:
        before = Descriptor.parse(descriptor)
        state, facts = (
            TodoState.WAITING,
            {**first_facts(retry.again[todo].todo, facts.get("expected", "")), **_begun(old, todo)},
        )
        descriptor, spec = (
            descriptor_of(retry.again[todo], before.order, retry.level_of.get(todo, before.level)),
            retry.again[todo].after(_before(retry, todo)).model_dump_json(exclude_defaults=True),
        )
    elif todo in carry.facts:
        state, facts = TodoState.SUCCEEDED, carry.facts[todo]
    elif todo in retry.by_hand:
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
        pending=sum(before in retry.again for before in old.brief.predecessors.get(todo, ())),
    )


def _before(retry: RetryPlan, todo: str) -> Mapping[str, Todo]:
    """Return the predecessors of a todo."""
    names = retry.ended.brief.predecessors.get(todo, ())
    return {
        name: (retry.again.get(name) or TodoSpec.model_validate_json(retry.ended.spec[name])).todo
        for name in names
    }


def _decisions(store: RunStore, retry: RetryPlan) -> dict[str, str]:
    """Return the signed operations by which persons settled todos that are carried over."""
    old = retry.ended
    by_hand = [todo for todo in retry.carried if Descriptor.parse(old.place[todo]).kind == MANUAL]
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


def _copy_results(draft: RunDraft, store: RunStore, retry: RetryPlan) -> None:
    """Copy the signed results of the ended run, and name the one that each tip comes from."""
    old, moved = store.keys.run(retry.ended.run_id), retry.set_back.sources
    draft.copy(old.results, draft.keys.results)
    if moved:
        results = store.redis.hmget(old.results, list(moved.values()))
        draft.set(
            draft.keys.results,
            {tip_field(repo): result or "" for repo, result in zip(moved, results, strict=True)},
        )
