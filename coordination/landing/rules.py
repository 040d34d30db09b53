"""Decide which repositories of a change set land, and how; refuse a landing that is not allowed; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from coordination.errors import Conflict, NotFound, PlanRefused, Unreadable
from coordination.git import is_commit
from coordination.landing.order import (
    Edges,
    all_before,
    decide_waves,
    edges_between,
    followers_of,
    in_order,
    with_needs,
)
from coordination.landing.records import Landing, LandOptions, RepoLanding
from coordination.landing.ways import features_of, refuse_place, refuse_unsupported, usual_way
from coordination.models import (
    OPEN_TODO,
    Ecosystem,
    LandRules,
    Plan,
    RequestText,
    Todo,
    Via,
    Waves,
    Workspace,
    criteria_in_words,
)
from coordination.planner.checks import Needs, unchecked
from coordination.runs.change_sets.records import ChangeSet, RepoChange
from coordination.runs.overrides import NO_QA, accepting, naming
from coordination.text import listed


def decide_landing(
    ecosystem: Ecosystem,
    change_set: ChangeSet | None,
    name: str,
    options: LandOptions,
    *,
    patience: timedelta,
    hosts: Mapping[str, Collection[str]],
    forges: Collection[str] = (),
) -> Landing:
    """Return the landing of a change set. `hosts`: the hosts that serve each repository; `forges`: the
    repositories whose forge is known and for which this machine has a token.

    Raises NotFound without a change set; PlanRefused for open todos, for a selection that leaves out a
    dependency, and for a repository that cannot land in the chosen way; Conflict while a run writes it,
    and for a repository that neither a todo of it nor the options name.
    """
    plan, todos = plan_of(ecosystem, name)
    if change_set is None:
        raise NotFound(f"{name} has no change set", f"make one: coord sweep {name}")
    refuse_writer(change_set)
    chosen = _chosen(change_set, options.repos)
    _refuse_open(name, todos, change_set, chosen, only_chosen=bool(options.repos))
    rules = (plan.land if plan else None) or LandRules()
    edges = edges_between(ecosystem, todos, change_set.repos)
    _refuse_not_closed(chosen, change_set, edges)
    unchecked_ = tuple(unchecked(ecosystem, chosen))
    qa = _wants_checks(name, rules, options, unchecked_, len(chosen))
    if qa:
        edges = with_needs(edges, Needs(ecosystem), chosen)
    branches = {repo.name: repo for repo in ecosystem.repos}
    repos = list[RepoLanding]()
    for repo in in_order(chosen, edges):
        if repo not in branches:
            what = f"{name} has changes in {repo}, which the file no longer declares"
            raise PlanRefused(what, f"declare it again; see: coord changes {name}")
        via = options.via or rules.via or usual_way(branches[repo], forges)
        refuse_place(branches[repo], via, hosts.get(repo, ()))
        after = tuple(one.repo for one in repos if one.repo in edges.get(repo, ()))
        repos.append(
            RepoLanding(
                repo=repo,
                branch=branches[repo].branch,
                via=via,
                change=change_set.repos[repo],
                after=after,
                request=request_text(
                    *(ecosystem, plan, todos, change_set.repos[repo]),
                    after=after,
                    followers=followers_of(edges, repo),
                )
                if via is Via.PR
                else None,
            )
        )
    if not options.repos:
        refuse_strangers(name, plan, todos, chosen, "land")
    refuse_damaged(name, (one.change for one in repos))
    method = options.method or rules.method
    asked = features_of(method, rules, when_ready=options.when_ready)
    refuse_unsupported(name, asked, {one.via for one in repos})
    landing = Landing(
        change_set=name,
        title=plan.title if plan else todos[0].task,
        method=method,
        atomic=rules.unit,
        approvals=rules.approvals,
        after_upstream=rules.after_upstream,
        when_ready=options.when_ready,
        repair=rules.repair if options.when_ready else 0,
        two_persons=plan.two_persons if plan else False,
        patience=patience,
        repos=tuple(repos),
        in_place=tuple(todo.id for todo in todos if todo.workspace is Workspace.IN_PLACE),
        qa=qa,
        unchecked=unchecked_,
        qa_skipped="" if qa or len(unchecked_) == len(chosen) else _skipped(name, options),
        overrides=(
            *((NO_QA,) if options.no_qa and _declares_checks(rules, unchecked_, len(chosen)) else ()),
            *naming(strangers(plan, todos, chosen)),
            *accepting(todo.id for todo in todos if todo.id in options.accept),
        ),
    )
    if rules.waves and repos:
        landing = _with_waves(landing, rules.waves, edges, ecosystem)
    return landing if options.wave is None else up_to(landing, options.wave)


def _with_waves(landing: Landing, waves: Waves, edges: Edges, ecosystem: Ecosystem) -> Landing:
    decided = decide_waves(landing.change_set, waves, landing.names, edges, ecosystem)
    return replace(landing, waves=tuple(decided), max_failures=waves.max_failures)


def up_to(landing: Landing, last: int) -> Landing:
    """Return the landing without the waves after the wave `last`."""
    waves = tuple(wave for wave in landing.waves if wave.number <= last)
    if not waves:
        name, known = landing.change_set, landing.waves
        what = f"the next wave of {name} is {known[0].number}" if known else f"{name} has no waves to land"
        raise PlanRefused(what, f"see: coord land {name} --dry-run")
    names = {repo for wave in waves for repo in wave.repos}
    return replace(
        landing,
        waves=waves,
        repos=tuple(one for one in landing.repos if one.repo in names),
        unchecked=tuple(repo for repo in landing.unchecked if repo in names),
    )


def _wants_checks(
    name: str, rules: LandRules, options: LandOptions, unchecked_: Collection[str], repos: int
) -> bool:
    """Return whether the landing needs green checks. Raises PlanRefused if a required check is missing."""
    if options.no_qa or rules.qa is False:
        return False
    if rules.qa and unchecked_:
        what = f"{listed(unchecked_)} {'declares' if len(unchecked_) == 1 else 'declare'} no check"
        raise PlanRefused(f"{what}, and land.qa of {name} demands one", "add `qa` in the file; or --no-qa")
    return len(unchecked_) < repos


def _declares_checks(rules: LandRules, unchecked_: Collection[str], repos: int) -> bool:
    """Return whether the file wants checks for the landing."""
    return rules.qa is not False and (bool(rules.qa) or len(unchecked_) < repos)


def _skipped(name: str, options: LandOptions) -> str:
    return NO_QA if options.no_qa else f"land.qa of {name} is false"


def request_text(
    ecosystem: Ecosystem,
    plan: Plan | None,
    todos: Sequence[Todo],
    change: RepoChange,
    *,
    after: tuple[str, ...],
    followers: tuple[str, ...],
) -> RequestText:
    """Return what the pull request of a repository says of the plan."""
    tasks = {todo.id: todo.task for todo in todos}
    return RequestText(
        title=plan.title if plan else todos[0].task,
        issues=issues_of(ecosystem, plan, todos),
        todos=tuple((todo, tasks.get(todo, "")) for todo in change.todos),
        criteria=criteria_in_words(todo for todo in todos if todo.id in change.todos),
        after=after,
        followers=followers,
    )


def issues_of(
    ecosystem: Ecosystem, plan: Plan | None, todos: Collection[Todo]
) -> tuple[tuple[str, str], ...]:
    """Return id and title of the issues that wait for a plan or its todos."""
    names = {todo.id for todo in todos} | ({plan.id} if plan else set())
    blocked = {name for todo in todos for name in todo.blocking}
    return tuple(
        (issue.id, issue.title)
        for issue in ecosystem.coordination.issues
        if issue.id in blocked or names.intersection(issue.dependencies)
    )


def plan_of(ecosystem: Ecosystem, name: str) -> tuple[Plan | None, tuple[Todo, ...]]:
    """Return the plan of a change set and its todos. A todo without a plan has its own change set."""
    for plan in ecosystem.coordination.plans:
        if plan.id == name:
            return plan, ecosystem.todos_of(plan)
    todos = tuple(todo for todo in ecosystem.coordination.todos if todo.id == name)
    if not todos:
        raise NotFound(f"there is no plan {name!r}", "list the plans: coord plan list")
    return None, todos


def strangers(plan: Plan | None, todos: Collection[Todo], repos: Iterable[str]) -> list[str]:
    """Return those of the repositories that no todo of the plan names. `todos`: those of the plan."""
    named = {todo.repo for todo in todos}
    if plan and not any(todo.plan == plan.id for todo in todos):  # it owns the open todos of its repositories
        named.update(plan.repos)
    return [repo for repo in repos if repo not in named]


def refuse_strangers(
    name: str, plan: Plan | None, todos: Collection[Todo], repos: Sequence[str], command: str
) -> None:
    """Raise Conflict where no todo of the plan names one of the repositories: the changes there may be those
    of another plan that had the id. `command`: the one that names repositories.
    """
    if not (found := strangers(plan, todos, repos)):
        return
    ours = [repo for repo in repos if repo not in found]
    what = f"{name} has changes in {listed(found)}, which no todo of it names"
    hints = [f"see them: coord changes {name}"]
    hints += [f"leave them out: coord {command} {name} {repo_options(ours)}"] if ours else []
    raise Conflict(what, "; or ".join([*hints, f"take all: coord {command} {name} {repo_options(repos)}"]))


def repo_options(repos: Iterable[str]) -> str:
    return " ".join(f"--repo {repo}" for repo in repos)


def _chosen(change_set: ChangeSet, names: Collection[str]) -> list[str]:
    if unknown := sorted(set(names) - change_set.repos.keys()):
        raise NotFound(
            f"{change_set.id} has no changes in {listed(unknown)}", f"see: coord changes {change_set.id}"
        )
    return [repo for repo in change_set.open if not names or repo in names]


def refuse_writer(change_set: ChangeSet) -> None:
    if run := change_set.writer:
        raise Conflict(f"run {run} writes {change_set.id} now", f"wait for its end: coord watch {run}")


def _refuse_open(
    name: str, todos: Iterable[Todo], change_set: ChangeSet, chosen: Collection[str], *, only_chosen: bool
) -> None:
    """Raise PlanRefused for unfinished todos; with `only_chosen`, only for those in chosen repositories."""
    open_ = [
        todo
        for todo in todos
        if todo.status in OPEN_TODO
        and todo.id not in change_set.source
        and (todo.repo in chosen or not only_chosen)
    ]
    if not open_:
        return
    hint = f"run them: coord sweep {name}; or cancel them in the file"
    if ready := [repo for repo in chosen if all(repo != todo.repo for todo in open_)]:
        options = " ".join(f"--repo {repo}" for repo in ready)
        hint += f"; or land the repositories without open todos only: {options}"
    names = [todo.id for todo in open_]
    are = "is" if len(names) == 1 else "are"
    raise PlanRefused(f"{name} cannot land: {listed(names)} of it {are} not done", hint)


def _refuse_not_closed(
    chosen: Collection[str], change_set: ChangeSet, edges: Mapping[str, Collection[str]]
) -> None:
    for repo in chosen:
        if missing := [
            one for one in all_before(repo, edges) if one in change_set.open and one not in chosen
        ]:
            raise PlanRefused(
                f"{repo} cannot land without {listed(missing)}: its changes build on theirs",
                f"add: {' '.join(f'--repo {one}' for one in missing)}",
            )


def refuse_damaged(name: str, changes: Iterable[RepoChange]) -> None:
    """Raise Unreadable if a record in Redis has an invalid commit or an unknown way of landing."""
    for change in changes:
        landed = change.landed
        commits = (change.tip, *((landed.commit, landed.tree_before) if landed else ()))
        if not all(map(is_commit, commits)) or (landed and landed.via not in set(Via)):
            raise Unreadable(
                f"the change set {name} in {change.repo} is damaged: no commit, or an unknown way",
                f"see: coord changes {name}; build it anew from its branch: coord plan adopt {name}",
            )
