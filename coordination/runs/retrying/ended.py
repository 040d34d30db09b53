"""Read an ended run from Redis, whole and at one moment; refuse one that has not ended, or has a retry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from coordination.errors import Conflict, NotFound
from coordination.runs.records import Descriptor, RunBrief, RunStatus, TodoState, facts_by_todo
from coordination.runs.store import RunStore
from coordination.runs.submission.draft import hosts_of
from coordination.runs.submission.structure import refuse_damaged


@dataclass(frozen=True, kw_only=True)
class EndedRun:
    run_id: str
    meta: Mapping[str, str]
    spec: Mapping[str, str]
    descriptor: Mapping[str, str]
    children: Mapping[str, str]
    state: Mapping[str, str]
    tips: Mapping[str, str]
    output: Mapping[str, str]
    checkpoint: Mapping[str, str]
    facts: Mapping[str, Mapping[str, str]]
    """Todo → fact → value."""

    @cached_property
    def brief(self) -> RunBrief:
        return RunBrief.model_validate_json(self.meta["brief"])

    @property
    def pins(self) -> Mapping[str, str]:
        """Return repository → the host on which the run worked on it."""
        return hosts_of(self.meta)

    @cached_property
    def succeeded(self) -> frozenset[str]:
        return frozenset(todo for todo, state in self.state.items() if state == TodoState.SUCCEEDED)

    @cached_property
    def undone(self) -> frozenset[str]:
        """Return the todos that had succeeded and were undone when a checkpoint was restored."""
        return frozenset(
            todo
            for todo, state in self.state.items()
            if state == TodoState.COMPENSATED and self.facts[todo].get("was") == TodoState.SUCCEEDED
        )

    def commit(self, todo: str) -> str | None:
        return self.facts[todo].get("commit")

    def fence(self, todo: str) -> int:
        """Return the fence of the claim by which it was done, not of one by which it was undone."""
        facts = self.facts[todo]
        return int(facts.get("was_fence") or facts["fence"])

    def repo_of(self, todo: str) -> str:
        return Descriptor.parse(self.descriptor[todo]).repo


def read(store: RunStore, run_id: str) -> EndedRun:
    """Return the ended run. Raise Conflict if it has not ended, was retried, or is not what was submitted."""
    keys = store.keys.run(run_id)
    names = (
        "meta",
        "spec",
        "descriptor",
        "children",
        "state",
        "tips",
        "output",
        "checkpoint",
        "facts",
    )
    with store.redis.pipeline(transaction=True) as pipeline:
        for name in names:
            pipeline.hgetall(getattr(keys, name))
        found = dict(zip(names, pipeline.execute(), strict=True))
    facts = facts_by_todo(found.pop("facts"))
    if not found["meta"]:
        raise NotFound(f"there is no run {run_id!r}", "list the runs: coord list-runs")
    ended = EndedRun(run_id=run_id, facts=facts, **found)
    refuse_again(store, ended)
    refuse_damaged(run_id, ended.meta, ended.descriptor, ended.children, ended.spec)
    return ended


def refuse_again(store: RunStore, run: EndedRun) -> None:
    """Raise Conflict where the run goes on, was undone, or was retried, by its current records, not those
    that were read.
    """
    status = RunStatus(store.status(run.run_id) or run.meta["status"])
    if status is RunStatus.ROLLED_BACK:
        raise Conflict(f"run {run.run_id} was rolled back: there is nothing to retry", _anew(run))
    if status in (RunStatus.ROLLING_BACK, RunStatus.ROLLBACK_FAILED):
        raise Conflict(
            f"run {run.run_id} is {status}: its todos must be undone, not retried",
            f"see its progress: coord show-run {run.run_id}; continue the rollback: "
            f"coord rollback {run.run_id}",
        )
    if not status.ended:
        hint = f"follow it: coord watch {run.run_id}; or end it: coord cancel {run.run_id}"
        raise Conflict(f"run {run.run_id} is {status}: there is nothing to retry before it has ended", hint)
    refuse_taken_up(store, run)


def _anew(run: EndedRun) -> str:
    return f"start a new run: coord sweep {run.meta['plan_id']}"


def refuse_taken_up(store: RunStore, run: EndedRun) -> None:
    """Raise Conflict where the run has a retry."""
    for retry_id, status in reversed(store.retries_of(run.run_id)):
        message = f"run {run.run_id} has a retry already, run {retry_id}"
        if status == RunStatus.ROLLED_BACK:
            raise Conflict(f"{message}, which was rolled back together with this run", _anew(run))
        hint = f"see the retry: coord show-run {retry_id}; retry its unfinished todos: coord retry {retry_id}"
        raise Conflict(message, hint)


Carried = Callable[[str, str], bool]
"""True if a repository's commit is available without the host that made it."""


def restorable(store: RunStore, ended: EndedRun) -> Carried:
    """Return a function that returns whether a commit is available without the host that made it, by the
    run's bundles (workers/transfer/routes.py).
    """

    def carried(repo: str, commit: str) -> bool:
        key = store.keys.run(ended.run_id).bundle(repo)
        with store.redis.pipeline(transaction=False) as pipeline:
            pipeline.hexists(key, commit)
            pipeline.hmget(key, f"{commit} since", f"{commit} elsewhere")
            bundled, (since, elsewhere) = pipeline.execute()
        if (elsewhere or "").startswith("remote "):
            return True
        made_here = since is not None and any(ended.commit(t) == since for t in ended.succeeded)
        return bool(bundled) and (not made_here or carried(repo, since))

    return carried
