"""Determine where a new run begins: the commits and results that it takes over from a change set or an
earlier run.

`StartingPoint` has the commits of a run that builds on unlanded work and adds nothing to it. `Carry` has the
results that a sweep takes over from its change set. A todo that is carried over has its end state in the new
run, with its output, commit and signed result, and the run that executed it as its fact `run`. So readers of
a run need no special case for it. Its spec comes from the file, because the signer of a run must not sign
content that came from Redis.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from coordination.backend.keys import before_field, tip_field
from coordination.models import Ecosystem, Plan, Todo, TodoStatus
from coordination.planner.blockers import NO_GATES, Register
from coordination.planner.gates import gates_of
from coordination.runs.change_sets.records import ChangeSet
from coordination.runs.records import RunBrief, TodoState
from coordination.runs.store import RunStore
from coordination.runs.submission.draft import HOST, RunDraft
from coordination.trust.results import is_adoption

OF_ITS_RUN = frozenset({"intent", "begun_in", "undo", "request"})
"""Facts that the run of a result keeps: another run does not undo it."""

Facts = Mapping[str, str | int]


@dataclass(frozen=True, kw_only=True)
class Carry:
    """Results of a change set, and the commits at which its repositories go on."""

    facts: Mapping[str, Facts] = field(default_factory=dict)
    """Todo → its facts."""
    output: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, str] = field(default_factory=dict)
    """Todo → its signed result; also `tip <repo>` → the one that states the tip."""
    tips: Mapping[str, str] = field(default_factory=dict)
    bundles: Mapping[str, str] = field(default_factory=dict)
    """Repository → the key of the bundles with its commits."""
    pins: Mapping[str, str] = field(default_factory=dict)
    """Repository → the host that has its commits."""

    def write(self, draft: RunDraft, before: Mapping[str, str]) -> None:
        """Write all but the facts. `before`: repository → the signed result that states its tip before."""
        draft.set(draft.keys.tips, self.tips)
        draft.set(draft.keys.output, self.output)
        draft.set(draft.keys.results, self.results)
        draft.set(draft.keys.results, {before_field(repo): text for repo, text in before.items() if text})
        draft.copy_bundles(self.bundles)


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


def read_carry(
    store: RunStore, change_set: ChangeSet, todos: Mapping[str, str], repos: Iterable[str]
) -> Carry:
    """Return the results of these todos in the change set, and the commits at which `repos` go on. `todos`:
    todo → its repository.

    Where the run of a result is no longer in Redis, as after `coord plan adopt`, only the success of the todo
    is known.
    """
    by_run = defaultdict[str, list[str]](list)
    for todo in todos:
        by_run[change_set.source[todo]].append(todo)
    goes_on = {repo: _newest(change_set, repo, todos) for repo in sorted({*repos, *todos.values()})}
    facts, output, results = dict[str, Facts](), dict[str, str](), dict[str, str]()
    for run, names in by_run.items():
        facts_of, outputs, signed = _read(store, run, names)
        facts |= {todo: _facts(change_set, run, todos[todo], facts_of.get(todo)) for todo in names}
        output |= {todo: text for todo, text in zip(names, outputs, strict=True) if text}
        results |= {todo: text for todo, text in zip(names, signed, strict=True) if text}
        results |= dict(_adopted(change_set, todos, [todo for todo in names if todo not in facts_of]))
    ends = {
        repo: _end(store, change_set, repo, run)
        for repo, run in goes_on.items()
        if run or repo in change_set.open
    }
    return Carry(
        facts=facts,
        output=output,
        results=results | {tip_field(repo): end.signed for repo, end in ends.items() if end.signed},
        tips={repo: end.tip for repo, end in ends.items() if end.tip},
        bundles=_bundles(store, change_set, goes_on, {repo: end.tip for repo, end in ends.items()}),
        pins={repo: end.host for repo, end in ends.items() if end.host},
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
    facts: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name, value in answers.items():
        todo, _, fact = name.rpartition(" ")
        if todo in succeeded and fact not in OF_ITS_RUN:
            facts[todo][fact] = value
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


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """Commits at which a run begins; a repository without a tip begins at its base branch. The key of each
    mapping is a repository.
    """

    runs: tuple[str, ...] = ()
    """The runs that made the work, newest first."""
    tips: Mapping[str, str] = field(default_factory=dict)
    signed: Mapping[str, str] = field(default_factory=dict)
    """The signed result that states the tip."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """The only host that may work there."""
    bundles: Mapping[str, str] = field(default_factory=dict)
    """The key of the commits for other hosts."""
    change_set: str = ""
    """The change set that has the tips; empty where a run without one has them."""

    def only(self, repos: Collection[str]) -> StartingPoint:
        """Return the starting point for these repositories only."""
        return StartingPoint(
            runs=self.runs,
            tips={repo: tip for repo, tip in self.tips.items() if repo in repos},
            signed={repo: text for repo, text in self.signed.items() if repo in repos},
            hosts={repo: host for repo, host in self.hosts.items() if repo in repos},
            bundles={repo: key for repo, key in self.bundles.items() if repo in repos},
            change_set=self.change_set,
        )

    def add_to(self, brief: RunBrief) -> RunBrief:
        """Return the brief with the commits that the run takes over."""
        carried = {
            "carried_from": self.runs,
            "carried_tips": dict(self.tips),
            "begins_with": self.change_set,
        }
        return brief.model_copy(update=carried) if self.runs or self.tips else brief

    def write(self, draft: RunDraft) -> None:
        """Write the tips into a draft, with the results that state them, and the commits for other hosts."""
        draft.set(draft.keys.tips, self.tips)
        draft.set(draft.keys.results, {tip_field(repo): text for repo, text in self.signed.items() if text})
        draft.copy_bundles(self.bundles)


AT_BASE = StartingPoint()


def at_change_set(store: RunStore, change_set: ChangeSet) -> StartingPoint:
    """Return the tips of a change set that have not landed."""
    carry = read_carry(store, change_set, {}, change_set.open)
    return StartingPoint(
        runs=change_set.runs,
        tips=carry.tips,
        signed={repo: carry.results.get(tip_field(repo), "") for repo in carry.tips},
        hosts=carry.pins,
        bundles=carry.bundles,
        change_set=change_set.id,
    )


def at_run(store: RunStore, run_id: str) -> StartingPoint:
    """Return the commits at which a run has left its repositories."""
    keys = store.keys.run(run_id)
    with store.redis.pipeline(transaction=True) as pipeline:
        pipeline.hgetall(keys.tips)
        pipeline.hgetall(keys.meta)
        tips, meta = pipeline.execute()
    repos = list(tips)
    signed = store.redis.hmget(keys.results, [tip_field(repo) for repo in repos]) if repos else []
    brief = store.brief(run_id)
    return StartingPoint(
        runs=(run_id, *brief.carried_from),
        tips=tips,
        signed={repo: text for repo, text in zip(repos, signed, strict=True) if text},
        hosts={name.removeprefix(HOST): host for name, host in meta.items() if name.startswith(HOST)},
        bundles={repo: keys.bundle(repo) for repo in repos},
        change_set=brief.change_set,
    )
