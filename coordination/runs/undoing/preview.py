"""Preview a rollback: the todos that it would undo, those that nothing undoes, and the runs that must not be
undone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from coordination.errors import Conflict, NotFound
from coordination.models import HIDDEN, secrets_of
from coordination.runs.brief import RunBrief, TodoSpec
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.records import RunStatus, RunView, TodoState
from coordination.runs.run_kinds import is_landing
from coordination.runs.store import RunStore
from coordination.runs.submission.dry_run import undo_text
from coordination.runs.submission.structure import without_way_back
from coordination.text import did_you_mean, listed


@dataclass(frozen=True, kw_only=True)
class RollbackPreview:
    """Effects of a rollback of the run."""

    run_id: str
    status: RunStatus
    todos: tuple[str, ...]
    """The todos that began and are not undone yet; predecessors first."""
    repos: tuple[str, ...]
    """The repositories of their work."""
    helpless: tuple[str, ...]
    """The todos of `todos` that nothing undoes."""
    takes_up: tuple[str, ...] = ()
    """Earlier runs that this one retries, newest first: their branches and worktrees are removed too."""

    compensations: Mapping[str, str] = field(default_factory=dict)
    """Todo → the command that will undo it, without its secrets; it is the run's own, so it may come from
    another Redis.
    """

    @property
    def branches(self) -> tuple[str, ...]:
        """Return the branches that are removed in each of `repos`, if they exist."""
        return tuple(f"coord/{run}" for run in (self.run_id, *self.takes_up)) if self.repos else ()


def preview_of(store: RunStore, run_id: str) -> RollbackPreview:
    """Return the preview of a rollback. Raise NotFound."""
    keys = store.keys.run(run_id)
    with store.redis.pipeline(transaction=True) as pipeline:
        for key in (keys.meta, keys.spec, keys.state, keys.facts):
            pipeline.hgetall(key)
        meta, specs, states, facts = pipeline.execute()
    if not meta:
        raise NotFound(f"there is no run {run_id!r}", "list the runs: coord list-runs")
    brief = RunBrief.model_validate_json(meta["brief"])
    begun = tuple(
        todo
        for todo in brief.predecessors
        if f"{todo} intent" in facts and states[todo] != TodoState.COMPENSATED
    )
    return RollbackPreview(
        run_id=run_id,
        status=RunStatus(meta["status"]),
        todos=begun,
        repos=tuple(sorted({brief.repo_of[todo] for todo in begun})),
        takes_up=brief.carried_from,
        compensations={todo: words for todo in begun if (words := _compensation(specs[todo]))},
        helpless=tuple(todo for todo in begun if _without_way_back(todo, specs[todo], states[todo], facts)),
    )


def _compensation(spec: str) -> str:
    todo = TodoSpec.model_validate_json(spec).todo
    words = undo_text(todo, None) if todo.compensate is not None else ""
    for secret in secrets_of(todo):
        words = words.replace(secret, HIDDEN) if secret else words
    return words


def _without_way_back(todo: str, spec: str, state: str, facts: Mapping[str, str]) -> str:
    # A succeeded todo without a commit was executed in a folder that is not a git repository.
    succeeded = facts.get(f"{todo} was", state) == TodoState.SUCCEEDED
    in_git = not succeeded or f"{todo} commit" in facts
    return without_way_back(TodoSpec.model_validate_json(spec).todo, in_git=in_git)


def refuse_built_on(store: RunStore, run_id: str) -> None:
    """Raise Conflict where a retry of this run exists and is not undone."""
    standing = [heir for heir, status in store.retries_of(run_id) if status != RunStatus.ROLLED_BACK]
    if standing:
        heir = standing[-1]
        raise Conflict(
            f"run {heir} builds on run {run_id}: it is a retry of it",
            f"undo the retry first: coord rollback {heir}; then this run: coord rollback {run_id}",
        )


def refuse_within_change_set(store: RunStore, run_id: str) -> None:
    """Raise Conflict where the run is not the last of its change set, or has landed, or another run writes
    there now: a run is taken back from the end only.
    """
    name, takes_up = store.redis.hmget(store.keys.run(run_id).meta, ["change_set", "takes_up"])
    found = ChangeSets(store).read(name) if name else None
    if found is None:
        return
    mine = [change for change in found.repos.values() if run_id in change.runs]
    if landed := [change.repo for change in mine if change.landed]:
        what = f"the work of run {run_id} has landed in {listed(landed)}"
        raise Conflict(what, f"take it out: coord revert {name}")
    working = {found.writers.get(change.repo, run_id) for change in mine} - {run_id}
    if live := sorted(working & {*store.live_runs()}):
        what = f"run {live[0]} works on {name}, behind run {run_id}"
        raise Conflict(what, f"wait for its end: coord watch {live[0]}")
    ours = {run_id, *(takes_up or "").split()}  # all that it takes up is undone with it
    later = sorted({run for change in mine for run in _since_first(change.runs, ours)} - ours)
    facts = {run: store.redis.hmget(store.keys.run(run).meta, ["plan_id", "status"]) for run in later}
    later = [run for run in later if facts[run][1] != RunStatus.ROLLED_BACK]  # by an inverse commit
    plans = {run: facts[run][0] or "" for run in later}
    if landings := [run for run in later if is_landing(plans[run])]:
        what = f"run {landings[-1]} has restored the work of run {run_id}, which had landed and was reverted"
        raise Conflict(what, f"see: coord changes {name}")
    if later:
        back = "; ".join(f"coord rollback {run}" for run in [*later[::-1], run_id])
        what = f"{listed(later)} of {name} {'builds' if len(later) == 1 else 'build'} on run {run_id}"
        raise Conflict(what, f"undo the last one first: {back}")


def _since_first(runs: Sequence[str], ours: Collection[str]) -> Sequence[str]:
    """Return the runs behind the first of ours."""
    return runs[next(i for i, run in enumerate(runs) if run in ours) + 1 :]


def refuse_to_accept(run: RunView, todos: Collection[str]) -> None:
    """Raise NotFound, or Conflict where one of these todos is no compensation that failed or waits."""
    known = {todo.id: todo for todo in run.todos}
    look = f"look at it: coord show-run {run.run_id}"
    for name in todos:
        if name not in known:
            raise NotFound(
                f"run {run.run_id} has no todo {name!r}{did_you_mean(name, known)}",
                f"list them: coord show-run {run.run_id}",
            )
        if known[name].state not in (TodoState.COMPENSATION_FAILED, TodoState.COMPENSATING):
            raise Conflict(
                f"{name} of run {run.run_id} is {known[name].state}: there is nothing to accept", look
            )
