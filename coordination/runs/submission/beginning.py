"""The beginning of a run: the results that it carries over, and the commits at which its repositories go on.

A sweep begins at its change set, checks begin at a change set or at the commits of a run, and a retry begins
where the ended run stopped (runs/retrying). A todo that is carried over has its end state in the new run,
with its output, commit and signed result, and the run that executed it as its fact `run`. So readers of a run
need no special case for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter

from coordination.backend.keys import tip_field
from coordination.models import Ecosystem, ManualAction, Plan, Todo, TodoStatus
from coordination.planner.blockers import NO_GATES, Register
from coordination.planner.gates import gates_of
from coordination.runs.change_sets.records import ChangeSet
from coordination.runs.records import TodoSpec, TodoState, facts_by_todo
from coordination.runs.store import RunStore
from coordination.runs.submission.draft import HOST, hosts_of
from coordination.trust.results import is_adoption

OF_ITS_RUN = frozenset({"intent", "begun_in", "undo", "request"})
"""Facts that the run of a result keeps: another run does not undo it."""

Facts = Mapping[str, str | int]


@dataclass(frozen=True, kw_only=True)
class CarriedTodo:
    """A todo of the run that is not executed: it has a result of an earlier run, or is blocked."""

    facts: Facts
    spec: TodoSpec | None = None
    """None for a todo that is blocked from outside of the plan."""
    descriptor: str = ""
    """Its descriptor, if it has no spec."""
    state: TodoState = TodoState.SUCCEEDED
    output: str = ""
    """JSON; empty without one."""


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """The beginning of a run. A repository without a tip begins at its base branch."""

    todos: Mapping[str, CarriedTodo] = field(default_factory=dict)
    """The todos that are not executed."""
    results_key: str = ""
    """The key of signed results that are taken over as well; empty without any."""
    results: Mapping[str, str] = field(default_factory=dict)
    """The signed results of the todos, and of `tip_field` and `before_field` of repositories."""
    runs: tuple[str, ...] = ()
    """The runs that made the work, newest first, other than those of the change set that the run writes."""
    change_set: str = ""
    """The change set that has the tips, for a run that writes none; empty where a run has them."""

    # By repository

    tips: Mapping[str, str] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)
    """The only host that may work there, because it has the commits."""
    bundles: Mapping[str, str] = field(default_factory=dict)
    """The key of the commits for other hosts."""
    set_back: Mapping[str, str] = field(default_factory=dict)
    """The run whose work is partly executed again: its commits beyond the tip are not used."""

    # Of what is executed again

    redone: Mapping[str, str] = field(default_factory=dict)
    """Todo → the run whose result of it no longer counts, as those of earlier runs."""
    facts: Mapping[str, Facts] = field(default_factory=dict)
    """Facts of todos that are executed again: what a rollback of the run undoes of their earlier attempts."""
    checkpoints: Mapping[str, str] = field(default_factory=dict)
    """Todo → the checkpoint from which it continues."""
    by_hand: tuple[str, ...] = ()
    """Todos that a person has done, in addition to those with an action for persons."""
    done: frozenset[str] = frozenset()
    """The todos of `by_hand`, and those with an action for persons, that are completed in the file."""
    decisions: Mapping[str, str] = field(default_factory=dict)
    """Field of the order → the signed operation by which a person settled a todo that is carried over."""
    meta: Mapping[str, str] = field(default_factory=dict)
    """Further fields of the run's meta."""

    def only(self, repos: Collection[str]) -> Beginning:
        """Return the beginning in these repositories only; of a run that carries no todos over."""

        def of(found: Mapping[str, str]) -> dict[str, str]:
            return {repo: value for repo, value in found.items() if repo in repos}

        signed = {field: self.results[field] for field in map(tip_field, repos) if field in self.results}
        return replace(
            self, tips=of(self.tips), results=signed, hosts=of(self.hosts), bundles=of(self.bundles)
        )

    def on(self, later: Beginning) -> Beginning:
        """Return this beginning with what another one has in addition, or instead."""
        return replace(
            self,
            todos={**self.todos, **later.todos},
            results={**self.results, **later.results},
            tips={**self.tips, **later.tips},
            hosts={**self.hosts, **later.hosts},
            bundles={**self.bundles, **later.bundles},
            done=self.done | later.done,
        )


AT_BASE = Beginning()


def by_hand(todos: Iterable[Todo]) -> tuple[str, ...]:
    """Return the todos that a person does."""
    return tuple(todo.id for todo in todos if isinstance(todo.action, ManualAction))


def completed(ecosystem: Ecosystem, change_set: ChangeSet, without: Collection[str] = ()) -> dict[str, Todo]:
    """Return the completed todos whose results are in the change set and have not landed, each with the
    repository where it was executed. `without`: todos that are left out.
    """
    done = {t.id: t for t in ecosystem.coordination.todos if t.status is TodoStatus.COMPLETED}
    declared = {repo.name for repo in ecosystem.repos}
    return {
        name: done[name].model_copy(update={"repo": repo})
        for name, repo in results_of(change_set, done).items()
        if name not in without and repo in declared
    }


def results_of(change_set: ChangeSet, declared: Mapping[str, Todo]) -> dict[str, str]:
    """Return todo → repository of the results that have not landed, and of the results of the same change set
    in repositories without changes. `declared`: the todos of the file.
    """
    changed = {todo: name for name, change in change_set.repos.items() for todo in change.todos}
    repo_of = {
        name: changed.get(name) or declared[name].repo for name in change_set.source if name in declared
    }
    return {
        name: repo
        for name, repo in repo_of.items()
        if repo in change_set.open or (repo not in change_set.repos and change_set.open)
    }


def at_change_set(
    store: RunStore, change_set: ChangeSet, specs: Mapping[str, TodoSpec], repos: Iterable[str]
) -> Beginning:
    """Return the beginning of a run that writes the change set. `specs`: the todos whose results it carries
    over; `repos`: the other repositories that it goes on with.

    Where the run of a result is no longer in Redis, as after `coord plan adopt`, only the success of the todo
    is known. Specs come from the file: the signer of a run must not sign content that came from Redis.
    """
    todos = {name: spec.repo.name for name, spec in specs.items()}
    by_run = defaultdict[str, list[str]](list)
    for todo in todos:
        by_run[change_set.source[todo]].append(todo)
    goes_on = {repo: _newest(change_set, repo, todos) for repo in sorted({*repos, *todos.values()})}
    carried, results = dict[str, CarriedTodo](), dict[str, str]()
    for run, names in by_run.items():
        facts_of, outputs, signed = _read(store, run, names)
        for todo, output in zip(names, outputs, strict=True):
            facts = _facts(change_set, run, todos[todo], facts_of.get(todo))
            carried[todo] = CarriedTodo(facts=facts, spec=specs[todo], output=output or "")
        results |= {todo: text for todo, text in zip(names, signed, strict=True) if text}
        results |= dict(_adopted(change_set, todos, [todo for todo in names if todo not in facts_of]))
    ends = {
        repo: _end(store, change_set, repo, run)
        for repo, run in goes_on.items()
        if run or repo in change_set.open
    }
    return Beginning(
        todos=carried,
        results=results | {tip_field(repo): end.signed for repo, end in ends.items() if end.signed},
        tips={repo: end.tip for repo, end in ends.items() if end.tip},
        bundles=_bundles(store, change_set, goes_on, {repo: end.tip for repo, end in ends.items()}),
        hosts={repo: end.host for repo, end in ends.items() if end.host},
        done=frozenset(by_hand(spec.todo for spec in specs.values())),
    )


@dataclass(frozen=True, kw_only=True)
class _End:
    """State in which a run left a repository."""

    tip: str
    signed: str
    host: str


def _newest(change_set: ChangeSet, repo: str, todos: Mapping[str, str]) -> str:
    """Return the run that moved a repository last, else the newest run that executed a todo there."""
    if change := change_set.open.get(repo):
        return change.run
    return max((change_set.source[todo] for todo, its in todos.items() if its == repo), default="")


def _end(store: RunStore, change_set: ChangeSet, repo: str, run: str) -> _End:
    if change := change_set.open.get(repo):
        return _End(tip=change.tip, signed=change.signed, host=change.host)
    keys = store.keys.run(run)
    with store.redis.pipeline(transaction=False) as pipeline:
        pipeline.hget(keys.tips, repo)
        pipeline.hget(keys.results, tip_field(repo))
        pipeline.hget(keys.meta, f"{HOST}{repo}")
        tip, signed, host = (answer or "" for answer in pipeline.execute())
    return _End(tip=tip, signed=signed, host=host)


def _bundles(
    store: RunStore, change_set: ChangeSet, goes_on: Mapping[str, str], tips: Mapping[str, str]
) -> dict[str, str]:
    """Return the newest bundles of each repository that lead to its tip, or else the newest ones."""
    candidates = [
        (repo, key)
        for repo, newest in goes_on.items()
        for key in (
            store.keys.adopted(change_set.id, repo),
            *(
                store.keys.run(run).bundle(repo)
                for run in (*(change_set.open[repo].runs if repo in change_set.open else ()), newest)
                if run
            ),
        )
    ]
    with store.redis.pipeline(transaction=False) as pipeline:
        for repo, key in candidates:
            pipeline.exists(key)
            pipeline.hexists(key, tips.get(repo, ""))
            pipeline.hexists(key, f"{tips.get(repo, '')} elsewhere")
        answers = iter(pipeline.execute() if candidates else [])
    best = dict[str, tuple[bool, str]]()
    for (repo, key), exists, has_tip, knows_tip in zip(candidates, answers, answers, answers, strict=True):
        leads = bool(has_tip or knows_tip)
        if exists and (leads or not best.get(repo, (False, ""))[0]):
            best[repo] = (leads, key)
    return {repo: key for repo, (_, key) in best.items()}


def _read(
    store: RunStore, run: str, todos: list[str]
) -> tuple[Mapping[str, dict[str, str]], list[str | None], list[str | None]]:
    """Return the facts, outputs and signed results of todos, read from the run that executed them."""
    keys = store.keys.run(run)
    with store.redis.pipeline(transaction=True) as pipeline:
        pipeline.hgetall(keys.facts)
        pipeline.hmget(keys.state, todos)
        pipeline.hmget(keys.output, todos)
        pipeline.hmget(keys.results, todos)
        answers, states, outputs, signed = pipeline.execute()
    succeeded = {todo for todo, state in zip(todos, states, strict=True) if state == TodoState.SUCCEEDED}
    facts = {
        todo: {fact: value for fact, value in recorded.items() if fact not in OF_ITS_RUN}
        for todo, recorded in facts_by_todo(answers).items()
        if todo in succeeded
    }
    return facts, outputs, signed


def _facts(change_set: ChangeSet, run: str, repo: str, recorded: Mapping[str, str] | None) -> Facts:
    if recorded:
        return {"run": run, **recorded}
    change = change_set.open.get(repo)
    return {"run": run, "attempt": 0, "fence": 0, **({"commit": change.tip} if change else {})}


def _adopted(
    change_set: ChangeSet, todos: Mapping[str, str], lost: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Yield each todo whose run is lost, with the signed adoption that has its work, if there is one."""
    for todo in lost:
        change = change_set.open.get(todos[todo])
        if change and is_adoption(change.signed):
            yield todo, change.signed


def joined(
    ecosystem: Ecosystem,
    plan: Plan | None,
    predecessors: Mapping[str, Collection[str]],
    carried: Collection[str],
    generated: Mapping[str, Todo] = NO_GATES,
) -> dict[str, tuple[str, ...]]:
    """Return the predecessors of all todos of a run, executed or carried over; each key comes after its own
    predecessors. `generated`: todos of the graph that the file does not declare.
    """
    if not carried:
        return {name: tuple(before) for name, before in predecessors.items()}
    register = Register(ecosystem, plan, {**(gates_of(plan) if plan else {}), **generated})
    in_run = {*predecessors, *carried}
    among = {name: tuple(o for o in register.waits_for(name) if o in in_run) for name in carried}
    executed = {
        name: (*before, *(o for o in register.waits_for(name) if o in carried and o not in before))
        for name, before in predecessors.items()
    }
    try:
        order = tuple(TopologicalSorter(among | executed).static_order())
    except CycleError:  # completed todos may wait for each other, or for one that is open
        among = dict.fromkeys(among, ())
        order = tuple(TopologicalSorter(among | executed).static_order())
    waits = among | executed
    return {name: waits[name] for name in order}


def at_tips(store: RunStore, change_set: ChangeSet) -> Beginning:
    """Return the tips of a change set that have not landed, for a run that does not write it."""
    found = at_change_set(store, change_set, {}, change_set.open)
    return replace(found, runs=change_set.runs, change_set=change_set.id)


def at_run(store: RunStore, run_id: str) -> Beginning:
    """Return the commits at which a run has left its repositories."""
    keys = store.keys.run(run_id)
    with store.redis.pipeline(transaction=True) as pipeline:
        pipeline.hgetall(keys.tips)
        pipeline.hgetall(keys.meta)
        tips, meta = pipeline.execute()
    fields = [tip_field(repo) for repo in tips]
    signed = store.redis.hmget(keys.results, fields) if fields else []
    brief = store.brief(run_id)
    return Beginning(
        runs=(run_id, *brief.lineage.takes_up),
        tips=tips,
        results={field: text for field, text in zip(fields, signed, strict=True) if text},
        hosts=hosts_of(meta),
        bundles={repo: keys.bundle(repo) for repo in tips},
        change_set=brief.change_set,
    )
