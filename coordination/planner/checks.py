"""Generate the todos of quality checks, in the order in which repositories need each other. Pure.

A check of a repository waits for the checks of the repositories that it needs: of its own kind, and of
earlier kinds (unit, integration, e2e). It also waits for the earlier kinds of its own repository. Where
repositories need each other in a circle, checks of one kind do not wait for each other. A repository that is
needed and has no check gets a todo that only states its commit, so that a check finds the files of all that
it needs in COORD_CONTEXT.

The graph of a plan contains the checks that its `qa` asks for, and those of its todos' acceptance criteria,
as it contains milestones with a gate: no todo of the file, and generated anew for each sweep.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from coordination.models import (
    AgentAction,
    Check,
    CheckKind,
    Criterion,
    DependencyType,
    Ecosystem,
    NoopAction,
    Plan,
    QaAction,
    Repo,
    ResourceNeed,
    ShellAction,
    Todo,
    TodoStatus,
    Workspace,
    generated_id,
)
from coordination.text import listed

ORDER = {kind: rank for rank, kind in enumerate(CheckKind)}
ALL_KINDS = tuple(CheckKind)
QA, BEFORE, CRITERION, REPAIR = "qa", "qa.before", "accept", "repair"
STATE_COMMIT = ShellAction(type="shell", run="true", read_only=True)
"""Succeeds at once; its result states the commit."""


class Needs:
    """The repositories that each repository needs, by the dependencies and the checks of the file."""

    def __init__(self, ecosystem: Ecosystem) -> None:
        self._ecosystem = ecosystem
        self.repos: Mapping[str, Repo] = {repo.name: repo for repo in ecosystem.repos}
        self._reached: dict[str, frozenset[str]] = {}

    @cached_property
    def direct(self) -> Mapping[str, tuple[str, ...]]:
        """Return repository → the repositories that it needs directly, in the file's order."""
        needs: defaultdict[str, dict[str, None]] = defaultdict(dict)
        for dependency in self._ecosystem.coordination.dependencies:
            if dependency.type is not DependencyType.DOCUMENTATION:
                needs[dependency.consumer][dependency.provider] = None
        for repo in self._ecosystem.repos:
            needs[repo.name] |= dict.fromkeys(name for check in repo.qa for name in check.needs)
        return {
            repo: tuple(name for name in names if name in self.repos and name != repo)
            for repo, names in needs.items()
        }

    def of(self, repo: str) -> frozenset[str]:
        """Return all repositories that a repository needs, directly or through others, without itself."""
        if repo not in self._reached:
            seen: set[str] = set()
            ahead = list(self.direct.get(repo, ()))
            while ahead:
                name = ahead.pop()
                if name not in seen:
                    seen.add(name)
                    ahead.extend(self.direct.get(name, ()))
            self._reached[repo] = frozenset(seen - {repo})
        return self._reached[repo]

    def in_a_circle(self, repo: str, other: str) -> bool:
        """Return whether two repositories need each other."""
        return other in self.of(repo) and repo in self.of(other)


def unchecked(
    ecosystem: Ecosystem, repos: Iterable[str], kinds: Collection[CheckKind] = ALL_KINDS
) -> list[str]:
    """Return those of the repositories that declare no check of these kinds."""
    checks = {repo.name: repo.qa for repo in ecosystem.repos}
    return [name for name in repos if not any(check.kind in kinds for check in checks.get(name, ()))]


def checks_of_plan(ecosystem: Ecosystem, plan: Plan, todos: Mapping[str, Todo]) -> dict[str, Todo]:
    """Return the checks that a sweep of these todos of the plan runs: before them, after them, and those of
    their acceptance criteria.
    """
    criteria = list(_criteria(ecosystem, plan, todos))
    generated = {todo.id: todo for todo in criteria}
    repos = {todo.repo for todo in todos.values()}
    before: list[Todo] = []
    if plan.qa.when.before:
        before = CheckGenerator(
            ecosystem=ecosystem,
            prefix=f"{plan.id}.{BEFORE}",
            plan=plan.id,
            allow_red=plan.qa.allow_red,
            with_needed=False,
        ).todos(_untouched(ecosystem, plan, repos))
        generated |= {todo.id: todo for todo in (*before, *_barrier(plan, before, todos))}
    if plan.qa.when.after:
        after = _behind(ecosystem, (*todos.values(), *criteria))
        known = {f"{todo.repo} {_name(todo)}": todo.id for todo in before}
        checks = CheckGenerator(
            ecosystem=ecosystem,
            prefix=f"{plan.id}.{QA}",
            plan=plan.id,
            after=after,
            before=known,
            allow_red=plan.qa.allow_red,
            with_needed=False,
        ).todos(repos)
        generated |= {todo.id: _strict(todo) for todo in checks}
    return generated


def repair_todo(plan: str, repo: str) -> str:
    """Return the id of the todo that repairs the work of a plan in a repository."""
    return generated_id(f"{plan}.{REPAIR}.{repo}")


def taken_names(ecosystem: Ecosystem, checks: Mapping[str, Todo]) -> list[str]:
    """Return a sentence for each todo of the file, of any plan, with the name of one of these checks: it
    would stand for the check, which would not run.
    """
    return [
        f"{todo.id} is declared in plan {todo.plan}, and is the name of a check that coord adds "
        f"({checks[todo.id].task}): give the todo another id"
        for todo in ecosystem.coordination.todos
        if todo.id in checks
    ]


def is_check(plan: str, todo: str) -> bool:
    """Return whether a todo has the name of a check that is generated for a plan."""
    return todo.startswith(f"{plan}.{QA}.") or f".{CRITERION}." in todo


def is_repair(todo: str) -> bool:
    """Return whether a todo has the name of a repair, which coord generates: its records lack other todos."""
    return f".{REPAIR}." in todo


def wrong_agents(ecosystem: Ecosystem, todos: Iterable[Todo]) -> Iterator[str]:
    """Yield a sentence, with its remedy, for each field of an agent that its repository does not allow."""
    names = {repo.name for repo in ecosystem.repos}
    repo_of = {todo.id: todo.repo for todo in ecosystem.coordination.todos}
    for todo in todos:
        action = todo.action
        if not isinstance(action, AgentAction):
            continue
        for name in (one for one in action.verify or () if isinstance(one, str)):
            yield (
                f"{todo.id}: verify names {name}, which is no check of {todo.repo}: add it to its qa, or "
                f"write a command as a list: [[{name}]]"
            )
        goes_on = action.continues is not None and not is_repair(todo.id)
        if goes_on and repo_of.get(action.continues or "") != todo.repo:
            yield f"{todo.id}: continues names {action.continues}, which is no todo of {todo.repo}: remove it"
        for name in action.reads:
            if name == todo.repo:
                yield f"{todo.id}: reads names {name}, where it works: remove it"
            elif name not in names:
                yield f"{todo.id}: reads names {name}, which no repository is: declare it, or remove it"
        if todo.workspace is Workspace.IN_PLACE and (action.paths or action.reads):
            field = "paths" if action.paths else "reads"
            yield f"{todo.id}: {field} needs a worktree, and it works in place: give it workspace: worktree"


def wrong_checks(ecosystem: Ecosystem, todos: Iterable[Todo]) -> list[str]:
    """Return a sentence, with its remedy, for each check that its repository does not declare."""
    repos = {repo.name: repo for repo in ecosystem.repos}
    sentences = []
    for todo in todos:
        action, repo = todo.action, repos.get(todo.repo)
        if not isinstance(action, QaAction) or action.run is not None or repo is None:
            continue
        names = [check.name for check in repo.qa]
        if action.check is None and len(names) > 1:
            sentences.append(f"{todo.id}: {repo.name} has the checks {listed(names)}: name one, as check")
        elif repo.check(action.check) is None:
            which = f"no check {action.check!r}" if action.check else "no check"
            sentences.append(
                f"{todo.id}: {repo.name} declares {which}: add it to its qa, or give the todo `run`"
            )
    return sentences


def _untouched(ecosystem: Ecosystem, plan: Plan, repos: Collection[str]) -> set[str]:
    """Return the repositories without changes by the plan: none of its todos is completed in them, nor in
    those that they need. In the others a sweep begins with the plan's work, not with the base.
    """
    if plan.recurring:
        return set(repos)
    changed = {todo.repo for todo in ecosystem.todos_of(plan) if todo.status is TodoStatus.COMPLETED}
    needs = Needs(ecosystem)
    return {repo for repo in repos if repo not in changed and not needs.of(repo) & changed}


def _strict(todo: Todo) -> Todo:
    """Return a check after the todos of a plan: without a check before them, it accepts no red result."""
    action = todo.action
    if not isinstance(action, QaAction) or action.before is not None:
        return todo
    return todo.model_copy(update={"action": action.model_copy(update={"allow_red": False})})


def _barrier(plan: Plan, before: Collection[Todo], todos: Mapping[str, Todo]) -> Iterable[Todo]:
    """Yield the todo for which all todos of the plan wait, while it waits for the checks before them."""
    if before:
        first = next(iter(todos.values()))
        yield Todo(
            id=generated_id(f"{plan.id}.{BEFORE}"),
            task=f"Wait for the checks before {plan.id}",
            repo=first.repo,
            plan=plan.id,
            blocked_by=tuple(todo.id for todo in before),
            blocking=tuple(todos),
            action=NoopAction(type="noop"),
        )


def _behind(ecosystem: Ecosystem, todos: Iterable[Todo]) -> Mapping[str, list[str]]:
    """Return repository → the todos in it, and in those that it needs."""
    needs, inside = Needs(ecosystem), defaultdict[str, list[str]](list)
    for todo in todos:
        inside[todo.repo].append(todo.id)
    return {
        repo: [name for other in (repo, *sorted(needs.of(repo))) for name in inside.get(other, ())]
        for repo in inside
    }


def _criteria(ecosystem: Ecosystem, plan: Plan, todos: Mapping[str, Todo]) -> Iterable[Todo]:
    """Yield a todo for each acceptance criterion with a check; the dependents of its todo wait for it."""
    dependents: defaultdict[str, list[str]] = defaultdict(list)
    for todo in ecosystem.coordination.todos:
        for name in todo.blocked_by:
            dependents[name].append(todo.id)
        dependents[todo.id] += todo.blocking
    for todo in todos.values():
        for number, criterion in enumerate(todo.acceptance_criteria, 1):
            if isinstance(criterion, Criterion) and criterion.check is not None:
                yield Todo(
                    id=generated_id(f"{todo.id}.{CRITERION}.{number}"),
                    task=f"Check of {todo.id}: {' '.join(criterion.text.split())}",
                    repo=todo.repo,
                    plan=plan.id,
                    blocked_by=(todo.id,),
                    blocking=tuple(name for name in dict.fromkeys(dependents[todo.id]) if name in todos),
                    action=QaAction(type="qa", run=criterion.check, criterion_of=todo.id),
                    workspace=todo.workspace,
                    env=todo.env,
                    sandbox=todo.sandbox,
                )


def _name(todo: Todo) -> str:
    return (todo.action.check or "") if isinstance(todo.action, QaAction) else ""


@dataclass(frozen=True, kw_only=True)
class CheckGenerator:
    """Makes the todos that check repositories."""

    ecosystem: Ecosystem
    kinds: Collection[CheckKind] = ALL_KINDS
    prefix: str = QA
    """Beginning of the ids of the todos."""
    plan: str | None = None
    after: Mapping[str, Iterable[str]] = field(default_factory=dict)
    """Repository → todos that its checks wait for."""
    before: Mapping[str, str] = field(default_factory=dict)
    """`REPO CHECK` → the todo that ran the same check before."""
    allow_red: bool = False
    """A red check does not fail its todo."""
    with_needed: bool = True
    """State the commits of needed repositories that are not checked themselves."""
    stated: Collection[str] = ()
    """Repositories whose commits todos of `after` state."""

    @cached_property
    def _needs(self) -> Needs:
        return Needs(self.ecosystem)

    @cached_property
    def _resources(self) -> frozenset[str]:
        return frozenset(resource.name for resource in self.ecosystem.resources)

    def todos(self, repos: Collection[str]) -> list[Todo]:
        """Return the todos that check these repositories, each after those that it waits for. A repository
        without checks of the kinds has none: see `unchecked`.
        """
        nodes: dict[tuple[str, CheckKind], list[str]] = {}
        checks: dict[str, tuple[Repo, Check]] = {}
        for name, repo in self._needs.repos.items():
            if name not in repos:
                continue
            for check in sorted(repo.qa, key=lambda check: ORDER[check.kind]):
                if check.kind in self.kinds:
                    node = generated_id(f"{self.prefix}.{name}.{check.name}")
                    nodes.setdefault((name, check.kind), []).append(node)
                    checks[node] = (repo, check)
        commits = self._commits({repo.name for repo, _ in checks.values()}) if self.with_needed else {}
        todos = {node: self._todo(node, *checked, nodes, commits) for node, checked in checks.items()}
        return _in_order({todo.id: todo for todo in commits.values()} | todos)

    def _commits(self, checked: Collection[str]) -> dict[str, Todo]:
        """Return the todos that state the commits of repositories whose checks no other check waits for."""
        stating = {}
        for name in (name for name in self._needs.repos if name not in self.stated):
            waiting = [repo for repo in checked if name in self._needs.of(repo)]
            ordered = [repo for repo in waiting if not self._needs.in_a_circle(repo, name)]
            waited_for = name in checked and len(ordered) == len(waiting)
            in_place = self._needs.repos[name].workspace is Workspace.IN_PLACE  # it has no commit to state
            if waiting and not waited_for and not in_place:
                stating[name] = Todo(
                    id=generated_id(f"{self.prefix}.{name}.commit"),
                    task=f"State the commit of {name}",
                    repo=name,
                    plan=self.plan,
                    action=STATE_COMMIT,
                )
        return stating

    def _todo(
        self,
        node: str,
        repo: Repo,
        check: Check,
        nodes: Mapping[tuple[str, CheckKind], list[str]],
        commits: Mapping[str, Todo],
    ) -> Todo:
        resources = (name for name in dict.fromkeys(check.needs) if name in self._resources)
        return Todo(
            id=node,
            task=f"Check {repo.name}: {check.name}",
            repo=repo.name,
            plan=self.plan,
            blocked_by=tuple(dict.fromkeys(self._blockers(repo.name, check.kind, nodes, commits))),
            resources=tuple(ResourceNeed(name=name) for name in resources),
            action=QaAction(
                type="qa",
                check=check.name,
                kind=check.kind,
                needs=tuple(sorted(self._needs.of(repo.name))),
                allow_red=self.allow_red,
                before=self.before.get(f"{repo.name} {check.name}"),
            ),
        )

    def _blockers(
        self,
        repo: str,
        kind: CheckKind,
        nodes: Mapping[tuple[str, CheckKind], list[str]],
        commits: Mapping[str, Todo],
    ) -> Iterable[str]:
        yield from self.after.get(repo, ())
        earlier = [other for other in CheckKind if ORDER[other] < ORDER[kind]]
        for other_kind in earlier:
            yield from nodes.get((repo, other_kind), ())
        for other in sorted(self._needs.of(repo)):
            circle = self._needs.in_a_circle(repo, other)
            for other_kind in (*earlier, *(() if circle else (kind,))):
                yield from nodes.get((other, other_kind), ())
            if other in commits:
                yield commits[other].id


def _in_order(todos: Mapping[str, Todo]) -> list[Todo]:
    """Return the todos so that each comes after those of them that it waits for."""
    ordered: dict[str, Todo] = {}
    remaining = dict(todos)
    while remaining:
        ready = [name for name, todo in remaining.items() if not set(todo.blocked_by) & remaining.keys()]
        for name in ready or [next(iter(remaining))]:
            ordered[name] = remaining.pop(name)
    return list(ordered.values())
