"""Decide what the retry of an ended run executes: its failed todos and their dependents; succeeded todos are
carried over.

A carried-over todo has its end state in the new run, with its output and commit, and the run that executed it
as its fact `run`. So readers of a run (the steps, a todo's context, a view) need no special case for it, and
a retry can be retried. The order is that of the ended run; actions are those of the file *now*, because many
failures are corrected there. `ended.py` selects the succeeded todos that are executed again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from coordination.errors import NotFound, PlanRefused, UsageError
from coordination.models import Ecosystem, LandRules, Plan, Repo, Todo, TodoStatus, Via
from coordination.planner.gates import MILESTONE_REPO, repos_of
from coordination.planner.generated import IN_NO_FILE
from coordination.planner.graph import PlanGraph
from coordination.planner.hours import assumed_hours
from coordination.planner.paths import successors
from coordination.planner.schedule import shortfalls
from coordination.runs.change_sets.records import ChangeSet
from coordination.runs.change_sets.store import BEFORE
from coordination.runs.records import TodoSpec, TodoState
from coordination.runs.retrying.ended import Carried, EndedRun
from coordination.runs.submission.agents import refuse_unfit_agents
from coordination.runs.submission.other_plan import TITLE
from coordination.runs.submission.refusals import NO_SETS, Base, Sets, bases
from coordination.runs.submission.specs import spec_of
from coordination.runs.submission.structure import generated_todos, refuse_changed
from coordination.runs.submission.writes import NO_WRITES, Writes, writes_of
from coordination.settings import Settings
from coordination.text import counted, did_you_mean, listed

BEGUN = (TodoState.SUCCEEDED, TodoState.FAILED)


@dataclass(frozen=True, kw_only=True)
class RerunSelection:
    """Todos that are executed again although they had succeeded, and the commits from which their
    repositories continue.
    """

    again: frozenset[str]
    """Todos that the caller asked for, and what builds on them."""
    lost: frozenset[str]
    """Todos whose commits were lost with their host."""
    repos: frozenset[str]
    """Repositories in which a todo of `again` has committed."""
    tips: Mapping[str, str]
    """Repository → the commit from which it continues."""
    sources: Mapping[str, str]
    """Repository that was taken back → the todo that left that commit, or that began with it."""

    @property
    def todos(self) -> frozenset[str]:
        return self.again | self.lost


@dataclass(frozen=True, kw_only=True)
class RetryPlan:
    """The todos that a retry would execute, and those that it would carry over."""

    ended: EndedRun
    again: Mapping[str, TodoSpec]
    """The todos to execute, predecessors first."""
    by_hand: frozenset[str]
    """Todos that had not succeeded but are completed in the file."""
    set_back: RerunSelection
    """The todos of `again` that had succeeded."""
    pins: Mapping[str, str]
    plan: Plan
    """The plan as it is in the file now, or as the ended run had it, if the file does not have it."""
    capacities: Mapping[str, int]
    """Capacities of the resources that the file declares."""
    unbroken: tuple[str, ...]
    """Resources without a circuit breaker."""
    bases: Sequence[Base] = ()
    """Todos that were completed outside the run, on which a todo of `again` builds."""
    writes: Writes = NO_WRITES
    """The change set, as it was read."""

    def with_two_persons(self) -> RetryPlan:
        """Return the retry for a person who may not approve its gates."""
        return replace(self, plan=_with_two_persons(self.plan, always=True))

    @property
    def later(self) -> Mapping[str, str]:
        """Return repository → the run that has moved the change set there since the ended run."""
        brief = self.ended.brief
        known = {self.ended.run_id, *brief.lineage.runs}
        return {repo: one.run for repo, one in self.writes.found.open.items() if one.run not in known}

    @property
    def done_since(self) -> Mapping[str, str]:
        """Return todo → repository of the todos of `by_hand` that another run of the change set has done."""
        found = self.writes.found
        done = {todo: name for name, change in found.open.items() for todo in change.todos}
        return {todo: done[todo] for todo in self.by_hand if done.get(todo) == self.ended.repo_of(todo)}

    @property
    def takes_up(self) -> tuple[str, ...]:
        """Return the ended run, the run that it retries, and so on."""
        return (self.ended.run_id, *self.ended.brief.lineage.takes_up)

    def within(self, found: ChangeSet) -> RetryPlan:
        """Return the retry on this change set. The tip before it is that before the ended run, where that one
        is at its end.
        """
        brief, meta = self.ended.brief, self.ended.meta
        writes = writes_of(
            found, {name: spec.todo for name, spec in self.again.items()}, self.ended.brief.branch_prefix
        )
        ends = {repo for repo, change in found.open.items() if change.run in self.takes_up}
        before = {repo: meta.get(f"{BEFORE}{repo}", "") for repo in ends}
        signed = {repo: text for repo, text in writes.signed.items() if repo not in ends}
        writes = replace(
            writes,
            repos=tuple(sorted({*writes.repos, *brief.lineage.branches})) if found.id else (),
            before={**writes.before, **before},
            signed=signed,
            taken_back=self.taken_back,
        )
        return replace(self, writes=writes)

    @property
    def taken_back(self) -> frozenset[str]:
        """Return the repositories in which it begins before commits of the ended run."""
        return self.set_back.repos | {self.ended.repo_of(todo) for todo in self.lost}

    @cached_property
    def graph(self) -> PlanGraph:
        """Return the todos to execute, in the order of the ended run."""
        todos = {name: spec.todo for name, spec in self.again.items()}
        before = {
            name: tuple(one for one in self.ended.brief.predecessors.get(name, ()) if one in todos)
            for name in todos
        }
        return PlanGraph(
            plan=self.plan,
            todos=todos,
            predecessors=before,
            successors=successors(todos, before),
            blocked={},
            blocked_todos={},
            unreachable=(),
            assumed_hours=assumed_hours(todos),
            done=len(self.carried),
            cancelled=0,
            left_out=(),
            capacities=self.capacities,
            nothing_to_do=self.nothing_to_do,
        )

    @property
    def carried(self) -> tuple[str, ...]:
        return tuple(todo for todo in self.ended.spec if todo not in self.again)

    @property
    def tips(self) -> Mapping[str, str]:
        return self.set_back.tips

    @property
    def lost(self) -> tuple[str, ...]:
        """Return the todos that had succeeded and whose commits were lost with their host."""
        return tuple(todo for todo in self.again if todo in self.set_back.lost)

    @property
    def repos(self) -> tuple[str, ...]:
        """Return the repositories in which a todo is executed again."""
        return tuple(sorted({spec.todo.repo for spec in self.again.values()} - {MILESTONE_REPO}))

    @property
    def reads(self) -> frozenset[str]:
        """Return the other repositories that the agents of these todos see."""
        return frozenset(one.repo for spec in self.again.values() for one in spec.reads)

    @property
    def unfinished(self) -> frozenset[str]:
        """Return the todos of `again` that had not succeeded: they continue from their checkpoints."""
        return frozenset(self.again) - self.set_back.todos

    @property
    def blocked(self) -> int:
        """Return the number of todos that were blocked from outside the plan."""
        return len(self.ended.state) - len(self.ended.spec)

    @property
    def nothing_to_do(self) -> str:
        """Return why there is nothing to do, as text; empty if there is something."""
        if self.again:
            return ""
        if self.blocked:
            return (
                f"nothing failed in run {self.ended.run_id}; "
                f"{counted(self.blocked, 'todo')} blocked from outside the plan"
            )
        return f"all todos of run {self.ended.run_id} are done"


def plan_retry_of(
    ended: EndedRun,
    ecosystem: Ecosystem | None,
    settings: Settings,
    *,
    without: Collection[str] = (),
    start: Collection[str] = (),
    as_it_was: bool = False,
    carried: Carried,
    sets: Sets = NO_SETS,
) -> RetryPlan:
    """Return what a retry would execute, and how. Raise NotFound, UsageError, PlanRefused.

    `without`: hosts that are gone for good; `start`: todos that are executed again with everything that
    builds on them; `as_it_was`: keep the run's own order where the file has another now; `sets`: all change
    sets.
    """
    if strange := sorted(set(without) - set(ended.pins.values())):
        known = ", ".join(sorted(set(ended.pins.values()))) or "none"
        raise NotFound(
            f"run {ended.run_id} has not worked on host {', '.join(strange)}",
            f"hosts that it worked on: {known}",
        )
    gone = {repo for repo, host in ended.pins.items() if host in without}
    undone = ended.undone
    if undone:  # their commits are left out, like those of todos that are executed again
        ended = replace(ended, state={**ended.state, **dict.fromkeys(undone, TodoState.SUCCEEDED)})
    back = select_reruns(ended, {*start, *undone}, gone, carried)
    repos = repos_of(ecosystem) if ecosystem else {}
    plans = ecosystem.coordination.plans if ecosystem else ()
    plan = next((plan for plan in plans if plan.id == ended.meta["plan_id"]), None)
    declared = generated_todos(ecosystem, plan, ended.brief.predecessors) if ecosystem and plan else {}
    declared |= {todo.id: todo for todo in ecosystem.coordination.todos} if ecosystem else {}
    left = [todo for todo in ended.brief.predecessors if todo not in ended.succeeded or todo in back.todos]
    by_hand = _by_hand(plan, declared, left) - back.todos
    in_no_file = ended.meta["plan_id"].startswith(IN_NO_FILE)
    if ecosystem and not as_it_was and not in_no_file:
        refuse_changed(ended.brief, ecosystem, set(left) - by_hand, f"retry {ended.run_id}")
    again = {
        name: _declared(declared[name], repos, ended, settings, plan)
        if name in declared
        else TodoSpec.model_validate_json(ended.spec[name])
        for name in left
        if name not in by_hand
    }
    of = plan or _plan_of(ended)
    refuse_unfit_agents((spec.todo for spec in again.values()), settings, of)
    if ecosystem:
        _refuse_shortfalls(ended, again, ecosystem)
    own = sets.get(ended.brief.change_set)
    found = RetryPlan(
        ended=ended,
        again=again,
        by_hand=by_hand,
        set_back=back,
        pins={repo: host for repo, host in ended.pins.items() if repo not in gone},
        capacities=ecosystem.capacities() if ecosystem else {},
        unbroken=ecosystem.without_breaker() if ecosystem else (),
        plan=_with_two_persons(of, always="two_persons" in ended.meta),
    ).within(own or ChangeSet(id=ended.brief.change_set, repos={}))
    if ecosystem is None:
        return found
    done = ended.succeeded.union(found.done_since)
    return replace(found, bases=bases(ecosystem, plan, again, sets, found.writes.found.id, done))


def _plan_of(ended: EndedRun) -> Plan:
    """Return the plan of a run that no file has."""
    brief = ended.brief
    rules = LandRules(via=Via.LOCAL) if brief.lands_locally else None
    plan = Plan(id="unknown", title=ended.meta.get(TITLE) or brief.plan_id, land=rules)
    return plan.model_copy(update={"id": brief.plan_id, "recurring": brief.recurring})


def _with_two_persons(plan: Plan, *, always: bool) -> Plan:
    return plan.model_copy(update={"two_persons": True}) if always else plan


def _by_hand(plan: Plan | None, declared: Mapping[str, Todo], open_todos: Iterable[str]) -> frozenset[str]:
    """Return the todos that were completed in the file since; none for a recurring plan, whose todos are
    executed in every run.
    """
    if plan and plan.recurring:
        return frozenset()
    return frozenset(t for t in open_todos if t in declared and declared[t].status is TodoStatus.COMPLETED)


def _refuse_shortfalls(ended: EndedRun, again: Mapping[str, TodoSpec], ecosystem: Ecosystem) -> None:
    if problems := list(shortfalls((spec.todo for spec in again.values()), ecosystem.capacities())):
        hint = "correct ecosystem.yaml, then: coord validate"
        raise PlanRefused(f"run {ended.run_id} cannot be retried: {'; '.join(problems)}", hint)


def _declared(
    todo: Todo, repos: Mapping[str, Repo], ended: EndedRun, settings: Settings, plan: Plan | None
) -> TodoSpec:
    if todo.status is TodoStatus.CANCELLED:
        hint = f"reopen it; or start a run without it: coord sweep {ended.meta['plan_id']}"
        raise PlanRefused(
            f"{todo.id} is cancelled in the file, but run {ended.run_id} has to execute it", hint
        )
    repo_then = ended.repo_of(todo.id)
    if todo.repo != repo_then:  # continues in the repository where it was
        repo = repos.get(repo_then) or TodoSpec.model_validate_json(ended.spec[todo.id]).repo
        return spec_of(todo.model_copy(update={"repo": repo_then}), repo, settings, plan, repos)
    if repo_then not in repos:
        raise PlanRefused(
            f"{todo.id}: its repo {repo_then!r} is not declared", "declare it, or correct the name"
        )
    return spec_of(todo, repos[repo_then], settings, plan, repos)


def select_reruns(
    ended: EndedRun, start: Collection[str], gone: Collection[str], carried: Carried
) -> RerunSelection:
    """Return the todos to execute again. `start`: todos that are executed again with everything that builds
    on them; `gone`: repositories whose host is gone. Raise NotFound or UsageError.
    """
    for todo in start:
        _refuse_start(ended, todo)
    again = _built_on(ended, start)
    tips, repos, sources = dict(ended.tips), set[str](), dict[str, str]()
    for repo, todos in _committed(ended).items():
        if first := next((todo for todo in todos if todo in again), None):
            repos.add(repo)
            commit, sources[repo] = _before(ended, todos, first)
            _set_tip(tips, repo, commit)
    lost = set[str]()
    for repo in gone & ended.tips.keys():
        committed = [todo for todo in _committed(ended).get(repo, ()) if todo not in again]
        available = next(
            (todo for todo in reversed(committed) if carried(repo, ended.commit(todo) or "")), None
        )
        lost.update(committed[committed.index(available) + 1 :] if available else committed)
        _set_tip(tips, repo, ended.commit(available) if available else None)
        sources |= {repo: available} if available else {}
    return RerunSelection(
        again=again, lost=frozenset(lost), repos=frozenset(repos), tips=tips, sources=sources
    )


def _refuse_start(ended: EndedRun, todo: str) -> None:
    run, state = ended.run_id, ended.state.get(todo)
    if state is None:
        raise NotFound(
            f"run {run} has no todo {todo!r}{did_you_mean(todo, ended.state)}",
            f"its todos: {listed(list(ended.state))}",
        )
    if todo not in ended.spec:
        why = ended.facts[todo].get("error", "blocked from outside of the plan")
        hint = f"when that is done: coord sweep {ended.meta['plan_id']}"
        raise UsageError(f"{todo} was not executed in run {run}: {why}", hint)
    if state not in BEGUN and "started_at" not in ended.facts[todo]:
        hint = f"a retry executes it anyway: coord retry {run}"
        raise UsageError(f"run {run} never began {todo}, which was {state}", hint)


def _built_on(ended: EndedRun, start: Iterable[str]) -> frozenset[str]:
    """Return these todos and all that build on them, if they had succeeded."""
    committed = _committed(ended)
    position = {todo: i for todos in committed.values() for i, todo in enumerate(todos)}
    kept_count = {repo: len(todos) for repo, todos in committed.items()}
    found, pending = set[str](), list(start)
    while pending:
        todo = pending.pop()
        if todo in found:
            continue
        found.add(todo)
        pending += ended.children.get(todo, "").split()
        repo = ended.repo_of(todo)
        if todo in position and position[todo] < kept_count[repo]:
            pending += committed[repo][position[todo] : kept_count[repo]]
            kept_count[repo] = position[todo]
    return frozenset(found & ended.succeeded)


def _committed(ended: EndedRun) -> dict[str, list[str]]:
    """Return repository → the todos that left a commit there, oldest first."""
    with_commit = [todo for todo in ended.succeeded if ended.commit(todo)]
    committed: dict[str, list[str]] = {}
    for todo in sorted(with_commit, key=ended.fence):
        committed.setdefault(ended.repo_of(todo), []).append(todo)
    return committed


def _before(ended: EndedRun, todos: list[str], first: str) -> tuple[str | None, str]:
    """Return the commit with which `first` began, and the todo whose record has it."""
    former = todos[: todos.index(first)]
    if (began := ended.facts[first].get("began")) or not former:
        return began, first
    return ended.commit(former[-1]), former[-1]


def _set_tip(tips: dict[str, str], repo: str, commit: str | None) -> None:
    tips.pop(repo, None)
    if commit:
        tips[repo] = commit
