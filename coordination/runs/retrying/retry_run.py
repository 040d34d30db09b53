"""Plan a retry from the records of Redis, and start it: write the new run and seal it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

from coordination.backend.keys import tip_field
from coordination.errors import Conflict, NotTrusted, PlanRefused, TrustCause
from coordination.models import Ecosystem, OnFailure, Signatures, Strategy
from coordination.planner.hours import Learned
from coordination.runs.change_sets.records import ChangeSet
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.connection import Connection
from coordination.runs.control.named_checkpoints import FIELD
from coordination.runs.control.starting import start
from coordination.runs.records import TAKES_UP, TodoSpec, TodoState
from coordination.runs.retrying.ended import EndedRun, read, refuse_again, restorable
from coordination.runs.retrying.retry_plan import RetryPlan, plan_retry_of
from coordination.runs.run_kinds import is_landing, is_of_checks, is_of_services, landings_of, start_again
from coordination.runs.signed.orders import HEADER, operation_field
from coordination.runs.store import RunStore
from coordination.runs.submission.beginning import Beginning, CarriedTodo, Facts, at_change_set, by_hand
from coordination.runs.submission.order import Order, refuse_not_undoable
from coordination.runs.submission.refusals import refuse_not_landed
from coordination.runs.submission.submit import Submission
from coordination.settings import Settings
from coordination.text import listed
from coordination.trust.orders import OperationKind, RunOrder

BY_HAND: Mapping[str, str | int] = {"attempt": 0, "worker": "completed in the file"}


def plan_retry(
    connection: Connection,
    run_id: str,
    ecosystem: Ecosystem | None = None,
    *,
    without: Collection[str] = (),
    start: Collection[str] = (),
    as_it_was: bool = False,
) -> RetryPlan:
    """Return the plan of a retry of the run.

    Raise Conflict for a live run, a run with a retry, a host of `without` that answers, or work on which a
    later run of the change set was built; NotFound; UsageError; PlanRefused.
    """
    ended = read(connection.store, run_id)
    if is_landing(plan_id := ended.meta["plan_id"]):
        message = (
            f"run {run_id} is a landing or a revert, which cannot be retried: it no longer holds its locks"
        )
        raise PlanRefused(message, f"start it again: {start_again(plan_id)}; it skips what is done")
    if is_of_services(plan_id):
        message = f"run {run_id} starts or stops services, and cannot be retried"
        raise PlanRefused(message, f"start a new one: {start_again(plan_id)}; it skips what is done")
    if is_of_checks(plan_id):
        message = f"run {run_id} runs quality checks, and cannot be retried"
        raise PlanRefused(message, f"start a new one: {start_again(plan_id)}; it skips what is done")
    _refuse_living(connection, ended.pins, without)
    retry = plan_retry_of(
        ended,
        ecosystem,
        connection.settings,
        carried=restorable(connection.store, ended),
        without=without,
        start=start,
        as_it_was=as_it_was,
        sets=ChangeSets(connection.store).read_all(),
    )
    refuse_later_work(retry)
    return retry


def start_retry(
    connection: Connection,
    retry: RetryPlan,
    *,
    on_failure: OnFailure | None = None,
    max_parallel: int | None = None,
) -> str:
    """Start a retry; return the id of the new run. Raise Conflict as `start_run` does."""
    store, plan_id = connection.store, retry.ended.meta["plan_id"]

    def check() -> None:
        sets = ChangeSets(store).read_all()
        refuse_not_landed(store, connection.registry, retry.bases, sets=sets)

    def decide(found: ChangeSet) -> Submission:
        refuse_again(store, retry.ended)
        current = retry.within(found)
        refuse_later_work(current)
        order = _signed_order(connection, retry)
        submission = submission_of_retry(
            store,
            current.with_two_persons() if order and order.two_persons else current,
            connection.settings,
            connection.reader.learned(current.graph.unknown),
            on_failure=on_failure,
            max_parallel=max_parallel,
            file=connection.file,
        )
        return replace(submission, may_be_signed=order is not None)

    plans, own = landings_of(plan_id, retry.again), retry.writes.found.id
    return start(connection, decide, todos=retry.again, plans=plans, change_set=own, check=check)


def _signed_order(connection: Connection, retry: RetryPlan) -> RunOrder | None:
    """Return the signed order of the ended run; None for an unsigned one, and in a process without an
    identity. Raise NotTrusted where the run's records are not those that were signed.
    """
    ended = retry.ended
    if connection.signing is None or connection.store.signed(ended.run_id, [HEADER]) == [None]:
        if connection.settings.signatures is Signatures.REQUIRE:
            message = f"the order of run {ended.run_id} is not signed, and this machine requires signatures"
            raise NotTrusted(
                TrustCause.UNSIGNED, message, f"start a new run: {start_again(ended.meta['plan_id'])}"
            )
        return None
    source = connection.signed_run(ended.run_id)
    source.check_records(ended.meta["brief"], ended.spec)
    return source.order


def refuse_later_work(retry: RetryPlan) -> None:
    """Raise Conflict where the retry would take back work on which another run of the change set has built,
    or carry over work that the change set no longer has.
    """
    _refuse_discarded(retry)
    for repo in sorted(retry.taken_back):
        if later := retry.later.get(repo) or _built_between(retry, repo):
            run = retry.ended.run_id
            raise Conflict(
                f"run {later} has built on the work in {repo} that would be taken back from run {run}",
                f"take that run back first: coord rollback {later}; or do its work again, too: "
                f"coord retry {later} --from TODO",
            )


def _refuse_discarded(retry: RetryPlan) -> None:
    """Raise Conflict where the change set has been discarded, or Redis has lost it: the retry would build on
    work that is never landed.
    """
    ended, plan = retry.ended, retry.ended.brief.change_set
    facts = {todo: ended.facts.get(todo, {}) for todo in retry.carried}
    moved = {
        ended.repo_of(t) for t, recorded in facts.items() if recorded.get("commit") != recorded.get("began")
    }
    if gone := sorted(moved.intersection(ended.brief.lineage.branches).difference(retry.writes.found.repos)):
        raise Conflict(
            f"the change set of {plan} no longer has the work of run {ended.run_id} in {listed(gone)}: it "
            "was discarded, or Redis has lost it",
            f"do it again: coord sweep {plan}; or take it up from its branch: coord plan adopt {plan}",
        )


def _built_between(retry: RetryPlan, repo: str) -> str:
    """Return a run that has worked in the repository since the first todo that is executed again there, on
    todos that the ended run does not have; empty if there is none.
    """
    found, ended = retry.writes.found, retry.ended
    if (change := found.open.get(repo)) is None:
        return ""
    at = {run: position for position, run in enumerate(change.runs)}
    again = (todo for todo in retry.set_back.todos if ended.repo_of(todo) == repo)
    first = min(at.get(ended.facts[todo].get("run", ended.run_id), 0) for todo in again)
    others = (found.source[todo] for todo in change.todos if todo not in ended.state)
    return next((run for run in others if at.get(run, 0) >= first), "")


def _refuse_living(connection: Connection, pins: Mapping[str, str], without: Collection[str]) -> None:
    for worker in connection.registry.workers():
        serves = [repo for repo in worker.fit if pins.get(repo) == worker.host]
        if worker.host in without and serves:
            raise Conflict(
                f"host {worker.host} is running: {worker.id} serves {serves[0]}",
                f"leave --without {worker.host} out; or stop that worker first",
            )


def submission_of_retry(
    store: RunStore,
    retry: RetryPlan,
    settings: Settings,
    learned: Learned,
    *,
    on_failure: OnFailure | None = None,
    max_parallel: int | None = None,
    file: str = "",
) -> Submission:
    """Return the submission of a retry. `learned`: the hours of similar todos in earlier runs. `file`: the
    digest of the file for its results.
    """
    meta, brief, graph = retry.ended.meta, retry.ended.brief, retry.graph.with_learned(learned)
    policy = on_failure or OnFailure(meta["on_failure"])
    refuse_not_undoable(graph.todos.values(), policy)
    timeout = timedelta(milliseconds=int(meta["timeout_ms"])) if "timeout_ms" in meta else None
    return Submission(
        graph=graph,
        order=Order(
            strategy=Strategy(meta["strategy"]),
            reason=f"{meta['strategy']}, as in run {retry.ended.run_id}",
            auto="auto" in meta,
            on_failure=policy,
            max_parallel=max_parallel or int(meta["max_parallel"]) or None,
            operation="retry",
            no_cache=brief.no_cache,
            timeout=retry.plan.timeout or timeout,
        ),
        settings=settings,
        specs=retry.again,
        predecessors=brief.predecessors,
        beginning=_beginning(store, retry),
        writes=retry.writes,
        unbroken=retry.unbroken,
        branch_prefix=brief.branch_prefix,
        file=file,
    )


def _beginning(store: RunStore, retry: RetryPlan) -> Beginning:
    """Return where the ended run stopped, without what is executed again, and with what other runs of its
    change set have done since.
    """
    old, keys = retry.ended, store.keys.run(retry.ended.run_id)
    carried = {todo: _carried(retry, todo) for todo in old.state if todo not in retry.again}
    completed = retry.by_hand - retry.done_since.keys()
    moved = retry.set_back.sources
    signed = store.redis.hmget(keys.results, list(moved.values())) if moved else []
    here = Beginning(
        todos=carried,
        results_key=keys.results,
        results={tip_field(repo): text or "" for repo, text in zip(moved, signed, strict=True)},
        runs=retry.takes_up,
        tips=retry.tips,
        hosts=retry.pins,
        bundles={repo: keys.bundle(repo) for repo in dict.fromkeys(old.brief.repo_of.values())},
        set_back={
            **{repo: start.set_back for repo, start in old.brief.lineage.repos.items() if start.set_back},
            **dict.fromkeys(retry.set_back.repos, old.run_id),
        },
        redone=old.brief.lineage.redone | dict.fromkeys(retry.set_back.todos, old.run_id),
        facts={todo: _begun(old, todo) for todo in retry.again},
        checkpoints={todo: text for todo, text in old.checkpoint.items() if todo in retry.unfinished},
        by_hand=(*(todo for todo in old.brief.by_hand if todo not in retry.again), *completed),
        done=completed,
        decisions=_decisions(
            store, old.run_id, by_hand(one.spec.todo for one in carried.values() if one.spec)
        ),
        meta={
            TAKES_UP: " ".join(retry.takes_up),
            **{name: value for name, value in old.meta.items() if name.startswith(FIELD)},
        },
    )
    since = {todo: spec for todo in retry.done_since if (spec := carried[todo].spec)}
    repos = retry.later.keys() & set(old.brief.repo_of.values())
    return here.on(at_change_set(store, retry.writes.found, since, repos))


def _carried(retry: RetryPlan, todo: str) -> CarriedTodo:
    old = retry.ended
    facts: Facts = old.facts[todo]
    if todo not in old.spec:  # blocked from outside of the plan
        return CarriedTodo(state=TodoState(old.state[todo]), facts=facts, descriptor=old.descriptor[todo])
    state = TodoState(old.state[todo])
    if todo in retry.by_hand:
        state, facts = TodoState.SUCCEEDED, {**BY_HAND, **_begun(old, todo)}
    else:  # a todo that the ended run had carried over has the fact already
        facts = {"run": old.run_id, **facts}
    spec = TodoSpec.model_validate_json(old.spec[todo])
    return CarriedTodo(state=state, facts=facts, spec=spec, output=old.output.get(todo, ""))


def _decisions(store: RunStore, run_id: str, todos: Iterable[str]) -> dict[str, str]:
    """Return the signed operations by which persons settled these todos."""
    kinds = (OperationKind.APPROVE, OperationKind.COMPLETE)
    fields = [operation_field(kind, todo) for todo in todos for kind in kinds]
    texts = store.signed(run_id, fields) if fields else []
    return {field: text for field, text in zip(fields, texts, strict=True) if text is not None}


def _begun(old: EndedRun, todo: str) -> Mapping[str, str]:
    """Return the facts of a todo's intent, so that a rollback of the new run undoes it, even if it never
    begins there.
    """
    facts = old.facts[todo]
    if "intent" not in facts:
        return {}
    return {"intent": facts["intent"], "begun_in": facts.get("begun_in") or facts.get("run") or old.run_id}
