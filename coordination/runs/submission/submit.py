"""Write a decided run into Redis, as an immutable graph of todos.

Every run goes this way: of a plan, of one todo, a retry, and those of todos that coord makes itself. A caller
selects the todos, decides how they are executed (order.py) and where the run begins (beginning.py), and has
the `Submission` written and sealed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from coordination.backend.keys import before_field
from coordination.backend.steps.run import Reply
from coordination.breakers.records import Policy
from coordination.durations import ms
from coordination.models import OWN_BRANCHES, Ecosystem, QaAction, Todo, Via
from coordination.planner import paths
from coordination.planner.gates import behind_gates, repos_of
from coordination.planner.remaining import expected_of
from coordination.planner.schedule import AGEING
from coordination.planner.selection import AD_HOC
from coordination.runs.change_sets.records import TAKEN_OVER
from coordination.runs.records import (
    BRANCH_PREFIX,
    Lineage,
    Origin,
    ReadRepo,
    RepoStart,
    RunBrief,
    TodoSpec,
    TodoState,
)
from coordination.runs.store import RunStore
from coordination.runs.submission.agents import agent_budgets
from coordination.runs.submission.beginning import (
    AT_BASE,
    Beginning,
    CarriedTodo,
    at_change_set,
    by_hand,
    completed,
    joined,
)
from coordination.runs.submission.draft import HOST, RunDraft, Signing, descriptor_of, first_facts, new_run_id
from coordination.runs.submission.order import Order
from coordination.runs.submission.other_plan import TITLE
from coordination.runs.submission.specs import spec_of
from coordination.runs.submission.structure import graph_hash
from coordination.runs.submission.writes import NO_WRITES, Writes
from coordination.settings import Settings

if TYPE_CHECKING:  # importing it loads networkx; a caller with a graph has loaded it already
    from coordination.planner.graph import PlanGraph


MS_PER_HOUR = 3_600_000
NO_HOSTS: Mapping[str, str] = MappingProxyType({})
FARTHEST_MS = 9e11
"""Greatest lead of a rank in the queue, in ms: more than a hundred years of waiting."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A run that is decided and not written yet."""

    graph: PlanGraph
    """The todos that are executed."""
    order: Order
    settings: Settings
    specs: Mapping[str, TodoSpec]
    """The specs of the todos that are executed."""
    predecessors: Mapping[str, tuple[str, ...]]
    """The predecessors of all todos, executed or carried over; each key after its own predecessors."""
    beginning: Beginning = AT_BASE
    writes: Writes = NO_WRITES
    """The repositories of its change set that it writes."""
    unbroken: tuple[str, ...] = ()
    """Resources without a circuit breaker."""
    branch_prefix: str = OWN_BRANCHES
    file: str = ""
    """Digest of the file for its results."""
    may_be_signed: bool = True
    """False for the retry of a run without a signed order: a signature covers nothing that came from Redis
    unsigned.
    """

    @cached_property
    def depth(self) -> Mapping[str, int]:
        """Return the level of each todo."""
        return paths.depths(self.predecessors, self.predecessors)

    @cached_property
    def levels(self) -> Sequence[Sequence[str]]:
        """Return the todos by level; those that are executed with the most urgent first."""
        levels: list[list[str]] = [[] for _ in range(1 + max(self.depth.values(), default=-1))]
        for name in (*self.graph.order, *self.beginning.todos):
            if name in self.depth:
                levels[self.depth[name]].append(name)
        return levels

    def brief(self, run_id: str) -> RunBrief:
        settings, plan, beginning = self.settings, self.graph.plan, self.beginning
        todos = {name: self.spec(name).todo for name in self.predecessors}
        repos = {spec.repo.name: spec.repo for spec in map(self.spec, self.predecessors)}
        tips, set_back = beginning.tips, beginning.set_back
        brief = RunBrief(
            run_id=run_id,
            plan_id=plan.id,
            kill_grace=settings.kill_grace,
            commit_message=settings.commit_message,
            commit_hooks=settings.commit_hooks,
            branch_prefix=self.branch_prefix,
            predecessors=dict(self.predecessors),
            repo_of={name: todo.repo for name, todo in todos.items()},
            origins={
                name: Origin(url=repo.url, branch=repo.branch) for name, repo in repos.items() if repo.url
            },
            lineage=Lineage(
                takes_up=beginning.runs,
                redone=dict(beginning.redone),
                change_set=beginning.change_set,
                repos={
                    repo: RepoStart(tip=tips.get(repo, ""), set_back=set_back.get(repo, ""))
                    for repo in sorted({*tips, *set_back})
                },
            ),
            by_hand=tuple(dict.fromkeys((*by_hand(todos.values()), *beginning.by_hand))),
            criteria=criteria_of(todos.values()),
            recurring=plan.recurring,
            file=self.file,
            no_cache=self.order.no_cache,
            lands_locally=plan.land is not None and plan.land.via is Via.LOCAL,
        )
        return self.writes.add_to(brief)

    def spec(self, name: str) -> TodoSpec:
        """Return the spec of a todo, without its predecessors."""
        if name in self.specs:
            return self.specs[name]
        spec = self.beginning.todos[name].spec
        assert spec is not None, f"{name} was blocked from outside of the plan"
        return spec

    def complete_specs(self) -> Mapping[str, TodoSpec]:
        """Return the specs of all todos, each with its predecessors and the gates before it."""
        found, behind = dict[str, TodoSpec](), dict[str, str]()
        for name, before in self.predecessors.items():
            spec = self.spec(name)
            behind[name] = behind_gates(spec.todo, map(behind.__getitem__, before))
            spec = spec.after({other: found[other].todo for other in before}, behind[name])
            found[name] = self._at_tips(spec) if spec.reads else spec
        return found

    def _at_tips(self, spec: TodoSpec) -> TodoSpec:
        """Return the spec with the commits at which the change set has the repositories that it reads."""
        at = self.writes.found.open
        reads = tuple(
            ReadRepo(repo=one.repo, branch=one.branch, url=one.url, tip=to.tip, run=to.run, signed=to.signed)
            if (to := at.get(one.repo))
            else ReadRepo(repo=one.repo, branch=one.branch, url=one.url)
            for one in spec.reads
        )
        return spec.model_copy(update={"reads": reads})

    def meta(self, brief: RunBrief) -> dict[str, str | int]:
        graph, order = self.graph, self.order
        return {
            **self.beginning.meta,
            "plan_id": graph.plan.id,
            TITLE: "" if graph.plan.id == AD_HOC else graph.plan.title,
            "strategy": order.strategy,
            **({"auto": 1} if order.auto else {}),
            "on_failure": order.on_failure,
            "max_parallel": order.max_parallel or 0,
            "actor": order.actor,
            "brief": brief.model_dump_json(),
            "levels": len(self.levels),
            "graph": graph_hash(brief.repo_of, brief.predecessors),
            "breakers": Policy.of(self.settings).words(self.unbroken),
            **({"agent_budgets": limits} if (limits := agent_budgets(self.settings, graph.plan)) else {}),
            **({BRANCH_PREFIX: brief.branch_prefix} if brief.branch_prefix != OWN_BRANCHES else {}),
            **({"two_persons": 1} if graph.plan.two_persons else {}),
            **({"lands": " ".join(order.lands)} if order.lands else {}),
            **({"overrides": " ".join(order.overrides)} if order.overrides else {}),
            **({"timeout_ms": max(1, ms(order.timeout))} if order.timeout else {}),
            **self.writes.meta,
            **{f"{HOST}{repo}": host for repo, host in self.beginning.hosts.items() if host},
            **({"file": self.file} if self.file else {}),
        }


def criteria_of(todos: Iterable[Todo]) -> dict[str, str]:
    """Return quality check → the todo whose acceptance criterion it is."""
    return {
        todo.id: todo.action.criterion_of
        for todo in todos
        if isinstance(todo.action, QaAction) and todo.action.criterion_of
    }


def submission_of(
    store: RunStore,
    graph: PlanGraph,
    ecosystem: Ecosystem,
    settings: Settings,
    order: Order,
    file: str = "",
    *,
    hosts: Mapping[str, str] = NO_HOSTS,
    writes: Writes = NO_WRITES,
    beginning: Beginning = AT_BASE,
) -> Submission:
    """Return the submission of a graph of the ecosystem. `file`: the digest of the file for its results.
    `hosts`: repository → the only host that may work there. `writes`: the change set at which the run begins,
    whose completed todos are carried over. `beginning`: that of a run that writes no change set.
    """
    done = completed(ecosystem, writes.found, {*graph.todos, *graph.blocked_todos, *graph.left_out})
    repos, plan = repos_of(ecosystem), graph.plan
    carried = {name: spec_of(todo, repos[todo.repo], settings, plan, repos) for name, todo in done.items()}
    if writes.found.id:
        beginning = at_change_set(store, writes.found, carried, graph.repos)
    blocked = {
        name: CarriedTodo(
            state=TodoState.SKIPPED,
            facts={"attempt": 0, "error": f"blocked by {graph.blocked[name]}"},
            descriptor=f"0 0 {todo.repo} {todo.workspace} 0",
        )
        for name, todo in graph.blocked_todos.items()
    }
    todos, taken = {**beginning.todos, **blocked}, writes.found.taken_over
    meta = {"takes_over": TAKEN_OVER.dump_json(taken).decode()} if taken else {}
    return Submission(
        graph=graph,
        order=order,
        settings=settings,
        specs={
            name: spec_of(todo, repos[todo.repo], settings, plan, repos) for name, todo in graph.todos.items()
        },
        predecessors=joined(ecosystem, plan, graph.predecessors, done, _generated(ecosystem, graph)),
        beginning=replace(beginning, todos=todos, hosts={**beginning.hosts, **hosts}, meta=meta),
        writes=writes,
        unbroken=ecosystem.without_breaker(),
        branch_prefix=settings.branch_prefix,
        file=file,
    )


def submit(store: RunStore, submission: Submission, signing: Signing | None = None) -> tuple[str, Reply]:
    """Write and seal a run; return its id and the reply that the dispatcher must follow. `signing`: the
    identity that signs its order, if there is one.
    """
    graph, order, beginning = submission.graph, submission.order, submission.beginning
    store.declare(graph.capacities)
    draft = RunDraft(store, new_run_id(), signed=signing is not None)
    brief = submission.brief(draft.run_id)
    meta = submission.meta(brief)
    draft.meta(meta)
    draft.levels(submission.levels)
    specs, expected = submission.complete_specs(), expected_of(graph)
    after = paths.successors(submission.predecessors, submission.predecessors)
    for name, spec in specs.items():
        if name in graph.todos:
            state, pending = TodoState.WAITING, len(graph.predecessors[name])
            ahead = _ahead(graph, name, order)
            facts = {**first_facts(spec, expected[name]), **beginning.facts.get(name, {})}
            if name in order.optional:
                facts["optional"] = 1
        else:
            state, pending, ahead = beginning.todos[name].state, 0, "0"
            facts = {**beginning.todos[name].facts}
        descriptor = descriptor_of(spec, ahead, submission.depth[name])
        text = spec.model_dump_json(exclude_defaults=True)
        draft.todo(name, state, descriptor, facts, spec=text, children=after[name], pending=pending)
    for name, carried in beginning.todos.items():
        if carried.spec is None:
            draft.todo(name, carried.state, carried.descriptor, carried.facts)
    draft.set(draft.keys.tips, beginning.tips)
    draft.set(draft.keys.output, {name: one.output for name, one in beginning.todos.items() if one.output})
    draft.set(draft.keys.checkpoint, beginning.checkpoints)
    if beginning.results_key:
        draft.copy(beginning.results_key, draft.keys.results)
    draft.set(draft.keys.results, beginning.results)
    before = {before_field(repo): text for repo, text in submission.writes.signed.items() if text}
    draft.set(draft.keys.results, before)
    draft.copy_bundles(beginning.bundles)
    if signing:
        signing.write(
            draft, brief, str(meta["brief"]), order.operation, order.on_failure,
            two_persons=graph.plan.two_persons, done=beginning.done,
        )  # fmt: skip
        draft.set(draft.keys.order, beginning.decisions)
    return draft.run_id, draft.seal(submission.writes.taken)


def _generated(ecosystem: Ecosystem, graph: PlanGraph) -> dict[str, Todo]:
    declared = {todo.id for todo in ecosystem.coordination.todos}
    return {name: todo for name, todo in graph.todos.items() if name not in declared}


def _ahead(graph: PlanGraph, name: str, order: Order) -> str:
    """Return the rank of a todo in its queue, in ms (see backend/lua/run/_run_dispatch.lua); the fraction
    orders todos of equal rank.
    """
    remaining = order.remaining or graph.rank
    ahead_ms = min(AGEING * remaining[name] * MS_PER_HOUR, FARTHEST_MS)
    return f"{graph.order[name] / (len(graph.todos) + 1) - ahead_ms:.5f}"
